"""TTPA's pairs, as stated and as released, against tables made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.types import MalformedCall, TaskKind
from rl.data.esm_pairs import binary, esm
from rl.data.pairs import Settings

STATED = Settings(min_gap=0.05)
RELEASED = Settings(preset="released")


@pytest.fixture
def task(build):
    return build.task(build.call("book_flight", city="Oslo", days=3))


@pytest.fixture
def replies(build):
    def make(task, *turns):
        return [build.play(task, turn, trajectory_id=f"t{number}") for number, turn in enumerate(turns)]

    return make


def test_a_right_reply_of_the_policy_is_chosen_over_those_that_err(build, replies, table, task):
    made = replies(
        task,
        build.call("book_flight", city="Oslo", days=4),
        build.call("book_flight", days=3, city="Oslo"),
        build.call("find_hotel", city="Oslo"),
        "Gladly.",
    )
    assert sorted(table(esm(made, STATED)), key=lambda row: -row[4]) == [
        ("book_flight(3, Oslo)", "book_flight(Oslo, 4)", "wrong_value", 1.0, 0.909),
        ("book_flight(3, Oslo)", "find_hotel(Oslo)", "wrong_tool", 1.0, 0.5),
        ("book_flight(3, Oslo)", "'Gladly.'", "missing_call", 1.0, 0.0),
    ]


def test_without_a_right_reply_the_reference_is_chosen_and_no_trajectory_is_its_source(build, replies, table, task):
    found = esm(replies(task, build.call("book_flight", city="Oslo", days=4)), STATED)
    assert table(found) == [("book_flight(Oslo, 3)", "book_flight(Oslo, 4)", "wrong_value", 1.0, 0.909)]
    assert found.pairs[0].source()["chosen_trajectory"] is None
    assert found.pairs[0].row()["chosen"][0]["tool_calls"][0]["id"] == "call_0"


def test_a_due_deferral_is_chosen_over_the_guess(build, replies, table):
    task = build.task(build.call("talk_to_user", missing=["days"]), build.call("book_flight", city="Oslo", days=3),
                      kind=TaskKind.MISSING_ARGUMENT, request="Book a flight to Oslo")  # fmt: skip
    rows = table(esm(replies(task, build.call("book_flight", city="Oslo", days=1)), STATED))
    assert [row[:3] for row in rows] == [
        ("talk_to_user(which days?, ['days'])", "book_flight(Oslo, 1)", "missed_deferral")
    ]


def test_a_reply_that_is_nearly_as_good_is_not_rejected(build, replies, task):
    made = replies(task, build.call("book_flight", city="Oslo", days=3), build.call("book_flight", city="Oslo", days=4))
    found = esm(made, Settings(min_gap=0.1))
    assert found.pairs == [] and found.counts["no pair/the gap is too small"] == 1


def test_rejected_replies_are_of_different_classes_first(build, replies, task):
    wrong = [build.call("book_flight", city="Oslo", days=number) for number in range(4, 20)]
    others = [
        build.call("fly", city="Oslo"),
        build.call("book_flight", city="Oslo"),
        MalformedCall(text="{", reason="no"),
    ]
    found = esm(replies(task, build.call("book_flight", city="Oslo", days=3), *wrong, *others), STATED)
    assert len(found.pairs) == 4
    assert {pair.kind for pair in found.pairs} == {"wrong_value", "unknown_tool", "missing_argument", "malformed"}


def test_contexts_in_which_what_is_right_is_not_certain_give_no_pair(build, replies):
    several = build.task(build.call("get_weather", city={"any_of": ["Oslo", "Rome"]}))
    found = esm(replies(several, build.call("fly")), STATED)
    assert found.pairs == [] and found.counts["no pair/several values are right"] == 1
    right = esm(replies(several, build.call("fly"), build.call("get_weather", city="Rome")), STATED)
    assert [pair.chosen.trajectory_id for pair in right.pairs] == ["t1"]
    unknown = esm(replies(build.task(known=False), build.call("fly")), STATED)
    assert unknown.counts["no pair/what is right is not known"] == 1


def test_where_all_replies_are_right_there_is_nothing_to_prefer(build, replies, task):
    found = esm(replies(task, *[build.call("book_flight", city="Oslo", days=3)] * 3), STATED)
    assert found.pairs == []
    assert found.counts == {"contexts": 1, "replies": 1, "no pair/all replies are right": 1}


def with_tokens(trajectory, tokens, logprobs=None):
    """The one-turn trajectory with these tokens in its turn."""
    turn = replace(trajectory.turns[0], start=3, end=3 + len(tokens))
    ids = np.asarray([0, 1, 2, *tokens], dtype=np.int32)
    mask = np.arange(len(ids)) >= 3
    values = np.where(mask, -0.5, np.nan).astype(np.float32)
    if logprobs is not None:
        values[3:] = logprobs
    return replace(trajectory, turns=(turn,), token_ids=ids, action_mask=mask, logprobs=values)


def test_the_right_reply_that_shares_most_tokens_is_chosen_and_the_place_of_parting_kept(build, replies, task):
    right, other, wrong = replies(
        task,
        build.call("book_flight", city="Oslo", days=3),
        build.call("book_flight", city="oslo", days=3),
        build.call("book_flight", city="oslo", days=4),
    )
    made = [
        with_tokens(right, [10, 11, 12, 13]),
        with_tokens(other, [10, 21, 22, 23], np.log([0.9, 0.9, 0.9, 0.25])),
        with_tokens(wrong, [10, 21, 22, 33], np.log([0.9, 0.9, 0.9, 0.75])),
    ]
    (pair,) = esm(made, STATED).pairs
    assert (pair.chosen.trajectory_id, pair.rejected.trajectory_id) == ("t1", "t2")
    source = pair.source()
    assert (source["parts_at"], source["chosen_probability"], source["rejected_probability"]) == (3, 0.25, 0.75)


def test_turns_that_were_put_into_an_episode_are_no_replies(build, table, task):
    right = build.call("book_flight", city="Oslo", days=3)
    followed = build.play(task, right, build.finish("done"), trajectory_id="a")
    logprobs = followed.logprobs.copy()
    logprobs[: followed.turns[0].end] = np.nan
    found = esm([replace(followed, logprobs=logprobs)], STATED)
    assert found.counts["contexts"] == 1 and found.counts["replies"] == 1


# As released.


def test_below_the_threshold_the_reference_is_chosen_and_every_reply_rejected(build, replies, table, task):
    made = replies(task, build.call("find_hotel", city="Oslo"), "Gladly.", build.call("find_hotel", city="Rome"))
    rows = table(esm(made, RELEASED))
    assert [row[0] for row in rows] == ["book_flight(Oslo, 3)"] * 3
    assert [row[1] for row in rows] == ["find_hotel(Oslo)", "'Gladly.'", "find_hotel(Rome)"]


def test_from_the_threshold_on_the_last_best_reply_is_chosen_though_all_its_values_are_wrong(
    build, replies, table, task
):
    made = replies(
        task,
        build.call("book_flight", city="Rome", days=4),
        build.call("book_flight", city="Bonn", days=5),
        "Gladly.",
        build.call("find_hotel", city="Rome"),
    )
    rows = table(esm(made, RELEASED))
    assert [row[0] for row in rows] == ["book_flight(Bonn, 5)"] * 2
    assert [row[1] for row in rows] == ["'Gladly.'", "find_hotel(Rome)"]
    assert rows[0][3] == pytest.approx(0.818, abs=1e-3)
    # As stated, no such call is ever preferred.
    assert all(row[0] == "book_flight(Oslo, 3)" for row in table(esm(made, STATED)))


def test_the_released_rule_makes_no_pair_of_replies_that_score_alike_or_where_no_call_is_due(build, replies, task):
    alike = esm(replies(task, build.call("book_flight", city="Oslo", days=3)), RELEASED)
    assert alike.pairs == [] and alike.counts["no pair/all replies score alike"] == 1
    done = build.play(task, build.call("book_flight", city="Oslo", days=3), build.finish())
    assert esm([done], RELEASED).counts["no pair/no call is due"] == 1


def test_by_right_and_wrong_every_wrong_reply_is_as_bad_as_another(build, replies, table, task):
    made = replies(
        task,
        build.call("book_flight", city="Oslo", days=3),
        build.call("book_flight", city="Oslo", days=4),
        build.call("find_hotel", city="Oslo"),
    )
    found = binary(made, Settings())
    assert sorted(row[3:] for row in table(found)) == [(1.0, 0.0), (1.0, 0.0)]
    assert {row[2] for row in table(found)} == {"wrong_value", "wrong_tool"}
