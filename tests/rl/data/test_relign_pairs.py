"""Relign's pairs of steps and of traces, against tables made by hand."""

from __future__ import annotations

import pytest

from envs.types import MalformedCall, TaskKind
from rewards.classify import judge
from rl.data.pairs import Settings
from rl.data.relign_pairs import relign_step, relign_trace, trace_score

STATED, RELEASED = Settings(), Settings(preset="released")


@pytest.fixture
def replies(build):
    """One-turn trajectories of one task, which are replies to the same context."""

    def make(task, *turns):
        return [build.play(task, turn, trajectory_id=f"t{number}") for number, turn in enumerate(turns)]

    return make


@pytest.fixture
def oslo(build):
    return build.task(build.call("get_weather", city="Oslo"), request="Weather in Oslo?")


def test_a_clean_call_over_an_action_over_a_hallucinated_call(build, replies, table):
    task = build.task(known=False, request="Weather in Oslo?")
    made = replies(task, build.call("get_weather", city="Oslo"), build.finish("none"), build.call("fly", city="Oslo"))
    assert table(relign_step(made, RELEASED)) == [
        ("get_weather(Oslo)", "finish(none)", None, 1.0, 0.5),
        ("get_weather(Oslo)", "fly(Oslo)", "unknown_tool", 1.0, 0.0),
        ("finish(none)", "fly(Oslo)", "unknown_tool", 0.5, 0.0),
    ]
    assert table(relign_step(made, STATED)) == table(relign_step(made, RELEASED))


def test_a_known_wrong_call_or_action_is_never_preferred(build, replies, table, oslo):
    made = replies(oslo, build.finish("rain"), build.call("find_hotel", city="Oslo"), build.call("fly", city="Oslo"))
    found = relign_step(made, STATED)
    assert found.pairs == [] and found.counts["no pair/all replies rank alike"] == 1
    released = table(relign_step(made, RELEASED))
    assert [row[:2] for row in released] == [
        ("find_hotel(Oslo)", "finish(rain)"),
        ("find_hotel(Oslo)", "fly(Oslo)"),
        ("finish(rain)", "fly(Oslo)"),
    ]


def test_a_due_deferral_beats_the_guess_that_the_release_takes_for_clean(build, replies, table):
    task = build.task(build.ask("city"), build.call("get_weather", city="Oslo"), kind=TaskKind.MISSING_ARGUMENT,
                      request="What will the weather be? I was in Rome.")  # fmt: skip
    made = replies(task, build.ask("city"), build.call("get_weather", city="Rome"))
    assert table(relign_step(made, STATED)) == [
        ("talk_to_user(which?, ['city'])", "get_weather(Rome)", "missed_deferral", 0.5, 0.0)
    ]
    assert [row[:2] for row in table(relign_step(made, RELEASED))] == [
        ("get_weather(Rome)", "talk_to_user(which?, ['city'])")
    ]


def test_values_from_results_are_made_up_to_the_release_alone(build, table):
    task = build.task(build.call("get_weather", city="Oslo"), build.call("pay_bill", bill_id="B-77"), ordered=True,
                      request="Weather in Oslo, then pay the bill it names.")  # fmt: skip
    first = build.call("get_weather", city="Oslo")
    made = [
        build.play(task, first, second, answers=['{"bill":"B-77"}'], trajectory_id=name)
        for name, second in (("a", build.call("pay_bill", bill_id="B-77")), ("b", build.call("pay_bill", bill_id="X")))
    ]
    assert [row[:2] for row in table(relign_step(made, STATED))] == [("pay_bill(B-77)", "pay_bill(X)")]
    assert relign_step(made, RELEASED).pairs == []


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("fly", {}, "unknown_tool"),
        ("book_flight", {"city": "Oslo"}, "missing_argument"),
        ("book_flight", {"city": "Oslo", "days": 3, "seat": "1"}, "unknown_argument"),
        ("book_flight", {"city": "Oslo", "days": "three"}, "bad_type"),
        ("book_flight", {"city": "Bergen", "days": 3}, "ungrounded_value"),
        ("book_flight", {"city": "Oslo", "days": 3}, None),
    ],
)
def test_the_rules_of_the_released_detector(build, name, arguments, kind):
    from rewards.grounding import Context
    from rl.data.relign_pairs import released_error

    tools = {tool.name: tool for tool in (build.BOOK, build.WEATHER)}
    call = build.call(name, **arguments)
    found = released_error(call, tools, [], Context(["Book a flight to Oslo for 3 days"]))
    assert found == kind
    if kind is None:
        again = released_error(call, tools, [call], Context(["Book a flight to Oslo for 3 days"]))
        assert again == "duplicate_call"


def test_one_member_of_either_side_is_drawn_by_the_seed_and_the_context_alone(build, replies, table, oslo):
    right = build.call("get_weather", city="Oslo")
    wrong = [build.call(f"fly_{number}") for number in range(20)]
    drawn = {table(relign_step(replies(oslo, right, *wrong), Settings(seed=seed)))[0][1] for seed in range(8)}
    assert len(drawn) > 3
    first = table(relign_step(replies(oslo, right, *wrong), STATED))
    assert len(first) == 1
    assert all(table(relign_step(replies(oslo, right, *wrong), STATED)) == first for _ in range(3))


def test_replies_to_different_contexts_are_not_compared(build, oslo):
    right, wrong = build.call("get_weather", city="Oslo"), build.call("fly")
    one = build.play(oslo, right, build.finish(), answers=['{"rain":1}'])
    other = build.play(oslo, right, wrong, answers=['{"rain":2}'])
    found = relign_step([one, other], STATED)
    assert found.pairs == []
    assert found.counts == {"contexts": 3, "no pair/one reply": 3}


def test_a_pair_says_where_it_comes_from_and_holds_no_more_than_the_context(build, replies, oslo):
    made = replies(oslo, build.call("get_weather", city="Oslo"), MalformedCall(text="{oops", reason="no JSON"))
    (pair,) = relign_step(made, STATED).pairs
    assert pair.prompt == oslo.prompt and pair.tools == made[0].tools
    source = pair.source()
    assert (source["chosen_trajectory"], source["rejected_trajectory"], source["turn"]) == ("t0", "t1", 0)
    row = pair.row()
    assert row["rejected"] == [{"role": "assistant", "content": "<tool_call>\n{oops\n</tool_call>"}]
    assert row["chosen"][0]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}


def test_a_gap_leaves_the_nearer_pairs_out(build, replies, table):
    task = build.task(known=False, request="Weather in Oslo?")
    made = replies(task, build.call("get_weather", city="Oslo"), build.finish("none"), build.call("fly"))
    rows = table(relign_step(made, Settings(min_gap=0.6)))
    assert [row[3:] for row in rows] == [(1.0, 0.0)]
    found = relign_step(made[:2], Settings(min_gap=0.6))
    assert found.pairs == [] and found.counts["no pair/the gap is too small"] == 1


# Traces.


@pytest.fixture
def traces(build, oslo):
    """Of every rank one, the best first."""
    right, other = build.call("get_weather", city="Oslo"), build.call("get_weather", city="Rome")
    rain, more = '{"rain":"7 mm"}', '{"rain":"9 mm"}'
    return {
        "success": build.play(oslo, right, build.finish("7 mm"), answers=[rain], trajectory_id="success"),
        "success, a call more": build.play(
            oslo, right, right, build.finish("7 mm"), answers=[(_failed(), "busy"), rain], trajectory_id="longer"
        ),
        "success, hallucinated before": build.play(
            oslo, build.call("fly"), right, build.finish("7 mm"), answers=["", rain], trajectory_id="hallucinated"
        ),
        "gave up": build.play(oslo, build.other_tools(), build.finish("no"), trajectory_id="gave up"),
        "failed": build.play(oslo, build.finish("no"), trajectory_id="failed"),
        "failed, hallucinated": build.play(oslo, other, build.finish("9 mm"), answers=[more], trajectory_id="worst"),
    }


def _failed():
    from envs.types import ToolStatus

    return ToolStatus.FAILED


def test_the_order_of_traces(build, traces):
    scores = {name: trace_score(trace, judge(trace)) for name, trace in traces.items()}
    assert list(scores) == sorted(scores, key=lambda name: -scores[name])
    assert len(set(scores.values())) == len(scores)
    assert [int(score) for score in scores.values()] == [5, 5, 4, 2, 1, 0]


def test_the_right_indecisive_action_ranks_above_other_ways_of_giving_up(build):
    task = build.task(build.ask("city"), build.call("get_weather", city="Oslo"), kind=TaskKind.MISSING_ARGUMENT,
                      request="What will the weather be?")  # fmt: skip
    right = build.play(task, build.ask("city"), build.finish("no"), answers=['{"city":"I do not know"}'])
    other = build.play(task, build.other_tools(), build.finish("no"))
    guess = build.play(task, build.call("get_weather", city="Rome"), build.finish("no"))
    assert [trace_score(trace, judge(trace)) for trace in (right, other, guess)] == [3.0, 2.0, 0.0]


def test_the_best_trace_against_one_of_each_lower_rank(traces, table):
    found = relign_trace(list(traces.values()), Settings(max_rejected=5))
    assert {pair.chosen.trajectory_id for pair in found.pairs} == {"success"}
    assert {pair.rejected.trajectory_id for pair in found.pairs} == {one.trajectory_id for one in traces.values()} - {
        "success"
    }
    assert all(pair.chosen.score > pair.rejected.score for pair in found.pairs)
    by_rejected = {pair.rejected.trajectory_id: pair for pair in found.pairs}
    assert by_rejected["hallucinated"].kind == "unknown_tool"
    assert by_rejected["longer"].kind is None
    worst = by_rejected["worst"].row()
    assert [message["role"] for message in worst["rejected"]] == ["assistant", "tool", "assistant"]
    assert [message["role"] for message in worst["prompt"]] == ["user"]


def test_the_number_of_pairs_of_a_task_and_the_gap_are_kept(traces):
    made = list(traces.values())
    assert len(relign_trace(made, Settings(max_rejected=2)).pairs) == 2
    far = relign_trace(made, Settings(min_gap=3.0, max_rejected=9)).pairs
    assert {pair.rejected.trajectory_id for pair in far} == {"gave up", "failed", "worst"}


def test_traces_that_rank_alike_and_single_traces_give_no_pair(build, traces):
    alike = relign_trace([traces["failed"]] * 3, STATED)
    assert alike.pairs == [] and alike.counts == {"tasks": 1, "no pair/all traces rank alike": 1}
    assert relign_trace([traces["failed"]], STATED).counts == {"tasks": 1, "no pair/one trace": 1}
    assert relign_trace([], STATED).counts == {"tasks": 1, "no pair/no trace": 1}
