from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Outcome, Task, TaskKind, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.types import ErrorKind
from rl.evaluate import FORMAT_ONLY, RATES, RELIGN_RATE, evaluate, measure
from rollout.trajectory import Ending, Trajectory, Turn

HOTEL = ToolSpec(
    name="find_hotel",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
BROKEN = MalformedCall(text="{", reason="no JSON")


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


RIGHT = call("find_hotel", city="Oslo")
WRONG = call("find_hotel", city="Rome")
FINISH = call("finish", answer="done")
ASK = call("talk_to_user", question="where?", missing=["city"])
CHANGE = call("change_tools", reason="none")


def solvable(name="a", kind=TaskKind.SINGLE):
    prompt = (Message(role="user", content="A hotel in Oslo, not in Rome"),)
    return Task(task_id=name, prompt=prompt, tools=(HOTEL,), reference=(RIGHT,), kind=kind)


def missing(name="m"):
    return Task(
        task_id=name,
        prompt=(Message(role="user", content="A hotel"),),
        tools=(HOTEL,),
        reference=(call("talk_to_user", missing=["city"]), RIGHT),
        kind=TaskKind.MISSING_ARGUMENT,
    )


def play(task, *calls, ending=Ending.COMPLETED):
    turns = tuple(
        Turn(
            message=Message(role="assistant", calls=(made,)),
            results=(ToolResult(call_id=str(index), status=ToolStatus.OK, content="{}"),),
            start=index,
            end=index + 1,
        )
        for index, made in enumerate(calls)
    )
    return Trajectory(
        trajectory_id=f"{task.task_id}-0",
        group_id=task.task_id,
        task=task,
        tools=(*task.tools, *ACTIONS),
        turns=turns,
        token_ids=np.zeros(len(turns), dtype=np.int32),
        action_mask=np.ones(len(turns), dtype=bool),
        logprobs=np.zeros(len(turns), dtype=np.float32),
        oldest_version=0,
        newest_version=0,
        ending=ending,
        outcome=Outcome(finished=FINISH in calls),
    )


def rates(*trajectories):
    return measure(trajectories, [trajectory.task for trajectory in trajectories]).to_json()


def test_rates_of_a_small_run():
    found = rates(
        play(solvable("a"), RIGHT, FINISH),
        play(solvable("b"), WRONG, RIGHT, FINISH),
        play(solvable("c"), ASK, RIGHT, FINISH),
        play(missing("d"), ASK, RIGHT, FINISH),
        play(missing("e"), WRONG, FINISH),
    )
    assert found["n"] == 5
    assert found["success"] == pytest.approx(4 / 5)
    assert found["success_first_try"] == pytest.approx(2 / 5)
    assert found["hallucination_rate"] == pytest.approx(2 / 5)
    assert found["deferral_recall"] == pytest.approx(1 / 2)
    assert found["deferral_precision"] == pytest.approx(1 / 2)
    assert found["needless_deferral_rate"] == pytest.approx(1 / 3)
    assert found["errors"]["wrong_value"] == pytest.approx(2 / 5)
    assert found["errors"]["missed_deferral"] == pytest.approx(1 / 5)
    assert set(found["errors"]) == {str(kind) for kind in ErrorKind}
    for rate in (*RATES, RELIGN_RATE):
        low, high = found["intervals"][rate]
        assert 0 <= low <= found[rate] <= high <= 1


def test_an_error_that_was_corrected_still_counts_as_hallucination():
    found = rates(play(solvable(), WRONG, RIGHT, FINISH))
    assert (found["success"], found["success_first_try"], found["hallucination_rate"]) == (1.0, 0.0, 1.0)


def test_success_needs_finish():
    assert rates(play(solvable(), RIGHT))["success"] == 0.0


def test_a_call_before_the_deferral_costs_recall_but_not_success():
    found = rates(play(missing(), WRONG, ASK, RIGHT, FINISH))
    assert (found["success"], found["deferral_recall"], found["hallucination_rate"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("first", [call("talk_to_user", question="?", missing=["day"]), CHANGE, BROKEN])
def test_a_wrong_move_before_the_deferral_costs_recall(first):
    assert rates(play(missing(), first, ASK, RIGHT, FINISH))["deferral_recall"] == 0.0


def test_precision_asks_that_every_deferral_was_right():
    assert rates(play(missing(), ASK, ASK, RIGHT, FINISH))["deferral_precision"] == 0.0
    assert rates(play(missing(), ASK, RIGHT, FINISH))["deferral_precision"] == 1.0
    assert rates(play(solvable(), RIGHT, FINISH))["deferral_precision"] is None


def test_needless_deferral_is_a_share_of_the_tasks_that_ask_for_none():
    found = rates(play(missing("m"), CHANGE, ASK, RIGHT, FINISH), play(solvable("a"), RIGHT, FINISH))
    assert found["needless_deferral_rate"] == 0.0
    assert found["errors"]["needless_deferral"] == 0.5


def test_relign_rate_is_a_mean_over_tasks_of_a_share_of_calls():
    found = rates(
        play(solvable("a"), call("fly"), BROKEN, RIGHT, RIGHT, FINISH),
        play(solvable("b"), RIGHT, FINISH),
        play(solvable("c"), FINISH),
    )
    assert found[RELIGN_RATE] == pytest.approx((3 / 4 + 0 + 0) / 3)


def test_relign_rate_counts_neither_actions_nor_what_relign_does_not_know():
    assert rates(play(solvable(), call("talk_to_user", question="?"), WRONG, FINISH))[RELIGN_RATE] == 0.0


@pytest.mark.parametrize("ending", [Ending.ENV_FAILED, Ending.ENGINE_FAILED])
def test_failures_of_the_infrastructure_are_counted_apart(ending):
    found = rates(play(solvable("a"), RIGHT, FINISH), play(solvable("b"), BROKEN, ending=ending))
    assert (found["n"], found["failed"], found["success"], found["errors"]["malformed"]) == (1, 1, 1.0, 0.0)


def test_rates_by_kind_of_task():
    found = rates(
        play(solvable("a"), RIGHT, FINISH), play(solvable("b", TaskKind.CHAIN), FINISH), play(missing("m"), FINISH)
    )
    assert {kind: part["success"] for kind, part in found["by_task_kind"].items()} == {
        "single": 1.0,
        "chain": 0.0,
        "missing_argument": 0.0,
    }
    assert found["by_task_kind"]["single"]["deferral_recall"] is None
    assert found["by_task_kind"]["single"]["n"] == 1


def test_nothing_to_measure_gives_none_and_valid_json():
    found = measure([], []).to_json()
    assert found["n"] == 0 and found["success"] is None
    json.dumps(found, allow_nan=False)


def test_paired_comparison():
    tasks = [solvable(str(index)) for index in range(8)]
    first = measure([play(task, FINISH) for task in tasks], tasks)
    second = measure([play(task, RIGHT, FINISH) for task in tasks[:6]] + [play(t, FINISH) for t in tasks[6:]], tasks)
    found = first.compare(second)["success"]
    assert (found.n, found.only_first, found.only_second) == (8, 0, 6)
    assert found.difference == pytest.approx(0.75) and found.p == pytest.approx(2 / 64)
    assert second.compare(first)["success"].difference == pytest.approx(-0.75)
    assert first.compare(second)["deferral_recall"].n == 0


def test_comparison_leaves_out_what_failed_in_either_run():
    tasks = [solvable("a"), solvable("b")]
    first = measure([play(tasks[0], RIGHT, FINISH), play(tasks[1], ending=Ending.ENV_FAILED)], tasks)
    second = measure([play(task, RIGHT, FINISH) for task in tasks], tasks)
    assert first.compare(second)["success"].n == 1


def test_comparison_of_different_tasks_is_refused():
    first, second = (measure([play(solvable(name), FINISH)], [solvable(name)]) for name in "ab")
    with pytest.raises(ValueError, match="same tasks"):
        first.compare(second)


def test_results_stand_in_the_order_of_the_tasks():
    tasks = [solvable("a"), solvable("b")]
    found = measure([play(tasks[1], FINISH), play(tasks[0], RIGHT, FINISH)], tasks)
    assert [result.task_id for result in found.results] == ["a", "b"]


@pytest.mark.parametrize("names", ["a", "aab", "abc", "ac"])
def test_every_task_needs_exactly_one_episode(names):
    with pytest.raises(ValueError, match="episode"):
        measure([play(solvable(name), FINISH) for name in names], [solvable("a"), solvable("b")])


async def test_evaluate_runs_and_measures():
    tasks = [solvable("a"), solvable("b")]

    async def run_tasks(wanted):
        return [play(task, RIGHT, FINISH) for task in reversed(wanted)]

    evaluation, trajectories = await evaluate(run_tasks, tasks)
    assert evaluation.to_json()["success"] == 1.0
    assert [trajectory.task.task_id for trajectory in trajectories] == ["a", "b"]


def test_a_prompt_that_did_not_fit_is_a_task_not_solved_and_no_failure():
    task = solvable()
    (result,) = measure([play(task, ending=Ending.MAX_TOKENS)], [task]).results
    assert not result.failed
    assert result.flags["success"] is False
    assert result.flags["hallucination_rate"] is False


def test_relign_metrics_are_averaged_over_kinds_of_task_alike():
    found = rates(
        play(solvable("a"), RIGHT, FINISH),
        play(solvable("b"), RIGHT, FINISH),
        play(solvable("c"), FINISH),
        play(missing("m"), WRONG, FINISH),
    )
    relign = found["relign"]
    assert relign["pass_rate"] == pytest.approx((2 / 3 + 1) / 2)
    assert relign["repr"] == pytest.approx((2 / 3 + 0) / 2)
    assert relign["utility"] == pytest.approx((40 / 3 - 11) / 2)
    assert relign["benefit_cost_ratio"] == pytest.approx((2 / 3 / 1.0 + 1 / 1.1) / 2)
    assert relign["hallucination"] == {"type": 0.0, "timing": 0.0, "format": 0.0, "content": 0.5}
    assert found["by_task_kind"]["single"]["relign"]["pass_rate"] == pytest.approx(2 / 3)
    assert "no LLM judge" in relign["judge"]
    low, high = found["intervals"]["relign.pass_rate"]
    assert 0 <= low <= relign["pass_rate"] <= high <= 1


def test_rates_of_hallucination_by_class_add_up_to_relign_s_rate():
    found = rates(play(solvable("a"), call("fly"), BROKEN, RIGHT, RIGHT, FINISH))
    assert found["relign"]["hallucination"] == {"type": 0.25, "timing": 0.25, "format": 0.25, "content": 0.0}
    assert sum(found["relign"]["hallucination"].values()) == found[RELIGN_RATE]


def test_guards_show_avoidance_spam_and_what_is_only_format():
    found = rates(
        play(solvable("a"), FINISH),
        play(solvable("b"), ASK, FINISH),
        play(solvable("c"), WRONG, WRONG, RIGHT, FINISH),
        play(solvable("d"), BROKEN, RIGHT, FINISH),
        play(missing("m"), ASK, FINISH),
    )
    guards = found["guards"]
    assert guards["call_avoidance"] == pytest.approx(2 / 4)
    assert guards["call_spam"] == pytest.approx((0 + 0 + 2 + 1 + 0) / 5)
    assert guards["malformed_only"] == pytest.approx(1 / 5)
    assert found["intervals"]["guards.call_avoidance"][0] < 0.5 < found["intervals"]["guards.call_avoidance"][1]
    assert found["intervals"]["guards.call_spam"][0] <= 0.6 <= found["intervals"]["guards.call_spam"][1]


def test_guards_say_nothing_where_no_reference_is_known():
    unknown = Task(task_id="u", prompt=solvable().prompt, tools=(HOTEL,))
    guards = rates(play(unknown, RIGHT, FINISH))["guards"]
    assert guards == {"call_avoidance": None, "call_spam": None, "malformed_only": 0.0}


def test_a_gain_in_format_alone_is_told_apart_from_other_gains():
    tasks = [solvable(name) for name in "abcd"]
    before = measure(
        [
            play(tasks[0], BROKEN, RIGHT, FINISH),
            play(tasks[1], BROKEN, WRONG, FINISH),
            play(tasks[2], BROKEN, WRONG, FINISH),
            play(tasks[3], RIGHT, FINISH),
        ],
        tasks,
    )
    after = measure(
        [
            play(tasks[0], RIGHT, FINISH),
            play(tasks[1], WRONG, FINISH),
            play(tasks[2], RIGHT, FINISH),
            play(tasks[3], BROKEN, RIGHT, FINISH),
        ],
        tasks,
    )
    found = before.compare(after)[FORMAT_ONLY]
    assert (found.n, found.only_first, found.only_second) == (4, 1, 2)
    assert (found.first, found.second) == (0.25, 0.5)


def checked(name, language, success):
    task = Task(
        task_id=name,
        prompt=(Message(role="user", content="Check"),),
        tools=(),
        answer="yes",
        kind="dates",
        facts={"language": language},
    )
    return replace(play(task, FINISH), outcome=Outcome(finished=True, answer="yes", facts={"success": success}))


def test_success_is_what_the_environment_says_where_no_reference_does():
    trajectories = [checked("a", "en", True), checked("b", "en", False), checked("c", "zh", True)]
    found = measure(trajectories, [one.task for one in trajectories]).to_json()
    assert found["success"] == pytest.approx(2 / 3)
    assert {name: rates["success"] for name, rates in found["by_language"].items()} == {"en": 0.5, "zh": 1.0}
    low, high = found["by_language"]["zh"]["intervals"]["success"]
    assert 0 < low < high == 1.0


def test_tasks_that_name_no_language_are_not_grouped_by_it():
    trajectory = play(solvable(), RIGHT, FINISH)
    assert "by_language" not in measure([trajectory], [trajectory.task]).to_json()
