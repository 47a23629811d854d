from __future__ import annotations

import pytest

from envs.types import MalformedCall, TaskKind, ToolCall, ToolSpec
from rewards.classify import judge
from rewards.relign import CLEAN, CLEAN_FINISH, LABELS, RelignReward, labels
from rollout.trajectory import Ending

BROKEN = MalformedCall(text="{", reason="no JSON")


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


RIGHT = call("book_flight", city="Oslo", days=3)

# Call -> label; the reference is book_flight(city=Oslo, days=3), and nobody speaks of Rome.
ONE_CALL = {
    "clean": (RIGHT, CLEAN),
    "unknown tool": (call("fly", city="Oslo"), "tool_name_hallucination"),
    "not JSON": (BROKEN, "parameter_json_format_hallucination"),
    "required missing": (call("book_flight", city="Oslo"), "parameter_required_missing"),
    "unknown parameter": (call("book_flight", city="Oslo", days=3, town="x"), "parameter_name_hallucination"),
    "wrong type": (call("book_flight", city="Oslo", days="3"), "parameter_value_type_error"),
    "outside the enum": (RIGHT.__class__(name="book_flight", arguments={**RIGHT.arguments, "class": "x"}),
                         "parameter_value_type_error"),
    "made-up value": (call("book_flight", city="Rome", days=3), "parameter_value_hallucination"),
    "made-up value of a wrong tool": (call("find_hotel", city="Rome"), "parameter_value_hallucination"),
    "wrong tool with values that were said": (call("find_hotel", city="Oslo"), CLEAN),
    "wrong value that was said": (call("book_flight", city="Oslo", days=2), CLEAN),
    "needless deferral": (call("talk_to_user", question="?", missing=["city"]), CLEAN_FINISH),
    "finish": (call("finish", answer="done"), CLEAN_FINISH),
    # The first rule that fires gives the label.
    "missing before unknown": (call("book_flight", city="Oslo", town="x"), "parameter_required_missing"),
    "unknown before type": (call("book_flight", city="Oslo", days="3", town="x"), "parameter_name_hallucination"),
    "type before value": (call("book_flight", city="Rome", days="3"), "parameter_value_type_error"),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_CALL)
def test_label_of_one_call(build, name):
    made, label = ONE_CALL[name]
    trajectory = build.play(build.task(RIGHT, request="Book a flight to Oslo for 3 days, or 2"), made)
    (found,) = labels(trajectory, judge(trajectory))
    assert found.label == label
    assert (found.group is None) == (label in (CLEAN, CLEAN_FINISH))


def test_the_same_call_again_is_duplicated_before_anything_else_is_wrong_with_it(build):
    wrong = call("book_flight", city="Oslo")
    trajectory = build.play(build.task(RIGHT), wrong, wrong)
    assert [one.label for one in labels(trajectory, judge(trajectory))] == [
        "parameter_required_missing",
        "tool_duplicated_hallucination",
    ]


def test_a_tool_that_cannot_serve_is_irrelevant_and_the_rule_stands_before_duplicates(build):
    task = build.task(call("change_tools"), kind=TaskKind.UNMATCHED_TOOLS)
    trajectory = build.play(task, RIGHT, RIGHT)
    assert {one.label for one in labels(trajectory, judge(trajectory))} == {"tool_relevance_hallucination"}


def test_an_argument_that_only_the_reference_demands_is_none_that_the_detector_misses(build):
    wanted = ToolCall(name="book_flight", arguments={**RIGHT.arguments, "note": "Oslo"})
    trajectory = build.play(build.task(wanted), RIGHT)
    verdict = judge(trajectory)
    assert [error.kind for error in verdict.errors] == ["missing_argument"]
    assert [one.label for one in labels(trajectory, verdict)] == [CLEAN]


def test_a_parameter_whose_name_has_a_slash_is_found(build):
    tool = ToolSpec(name="f", parameters={"type": "object", "properties": {"a/b": {"type": "string"}}})
    trajectory = build.play(build.task(ToolCall(name="f", arguments={"a/b": "x"}), tools=(tool,)), call("f"))
    assert [one.label for one in labels(trajectory, judge(trajectory))] == [CLEAN]


def test_every_label_has_one_of_four_groups():
    from rewards.classify import RELIGN_CLASSES

    assert list(LABELS) == list(RELIGN_CLASSES)


@pytest.mark.parametrize(
    ("turns", "total"),
    [
        (["RIGHT", "FINISH"], 0.75),
        (["FINISH"], 0.25),
        (["RIGHT"], 0.5),
        (["BROKEN", "FINISH"], 0.25),
        (["BROKEN", "RIGHT", "FINISH"], 0.5),
        (["RIGHT", "RIGHT", "FINISH"], 0.5),
    ],
)
def test_clean_one_finish_a_half_hallucinated_nothing(build, turns, total):
    made = {"RIGHT": RIGHT, "BROKEN": BROKEN, "FINISH": build.finish()}
    trajectory = build.play(build.task(RIGHT), *[made[name] for name in turns])
    score = RelignReward()(trajectory)
    assert score.total == pytest.approx(total)
    assert sum(score.parts.values()) == pytest.approx(total)


def test_no_reference_is_needed_but_an_episode_that_worked(build):
    task = build.task(known=False)
    assert RelignReward()(build.play(task, RIGHT, build.finish())).total == pytest.approx(0.75)
    assert RelignReward()(build.play(task, RIGHT, ending=Ending.ENV_FAILED)).unscored


def test_a_reply_is_the_mean_of_its_calls_or_of_those_that_were_due(build):
    reward = RelignReward()
    for calls, value in [((RIGHT,), 1.0), ((RIGHT, BROKEN), 0.5), (("text",), 0.0), ((build.ask("city"),), 0.5)]:
        turn = calls[0] if calls == ("text",) else [*calls]
        trajectory = build.play(build.task(RIGHT), turn)
        assert reward.reply(trajectory, judge(trajectory)).value == value
    silent = build.play(build.task(known=False), "text")
    assert reward.reply(silent, judge(silent)).unscored == "no call"
    rightly = build.play(build.task(), "text")
    assert reward.reply(rightly, judge(rightly)).value == 1.0
