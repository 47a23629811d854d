import json
import pickle

import pytest

from envs.checks import check_env
from envs.component import Component
from envs.faults import FaultyEnv
from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from envs.toolworld.demonstrator import NO_ERRORS
from envs.types import Message, ToolCall

TASKS = list(ToolWorldTasks(num=60, kinds={"single": 1.0}))
PARALLEL = ToolWorldTasks(kinds={"parallel": 1.0}).task(0)


def gold_message(task):
    calls = tuple(
        ToolCall(call_id=f"call_{number}", name=call.name, arguments=call.arguments)
        for number, call in enumerate(task.reference)
    )
    return Message(role="assistant", calls=calls)


def faulty(**options):
    return lambda task: FaultyEnv(task, env=ToolWorldEnv, **options)


async def results_of(make_env, task):
    return (await make_env(task).step(gold_message(task))).results


@pytest.mark.parametrize(
    ("options", "status"),
    [({"timeouts": 1.0}, "timed_out"), ({"failures": 1.0}, "failed"), ({"noise": 1.0}, "ok"), ({}, "ok")],
)
async def test_a_full_share_hits_every_call(options, status):
    for task in TASKS:
        assert [result.status for result in await results_of(faulty(**options), task)] == [status]


async def test_noise_keeps_the_result_and_irrelevant_results_replace_it():
    for task in TASKS:
        (clean,) = await results_of(ToolWorldEnv, task)
        (noisy,) = await results_of(faulty(noise=1.0), task)
        (other,) = await results_of(faulty(irrelevant=1.0), task)
        assert json.loads(clean.content).items() < json.loads(noisy.content).items()
        assert json.loads(other.content) != json.loads(clean.content)


async def test_faults_follow_from_the_seed():
    def shares(seed):
        return faulty(seed=seed, timeouts=0.25, failures=0.25, noise=0.25, irrelevant=0.25)

    first = [await results_of(shares(1), task) for task in TASKS]
    assert first == [await results_of(shares(1), task) for task in TASKS]
    assert first != [await results_of(shares(2), task) for task in TASKS]
    assert {result.status for (result,) in first} == {"ok", "failed", "timed_out"}


async def test_results_stay_in_the_order_of_the_calls_when_some_are_lost():
    seen = set()
    for seed in range(20):
        step = await faulty(seed=seed, timeouts=0.5)(PARALLEL).step(gold_message(PARALLEL))
        ids = [call.call_id for call in gold_message(PARALLEL).calls]
        assert [result.call_id for result in step.results] == ids == [m.call_id for m in step.messages]
        seen.add(tuple(result.status for result in step.results))
    assert len(seen) > 2


async def test_unknown_tools_and_actions_draw_no_fault():
    env = faulty(timeouts=1.0)(TASKS[0])
    calls = (
        ToolCall(call_id="a", name="nothing", arguments={}),
        ToolCall(call_id="b", name="finish", arguments={"answer": "x"}),
    )
    step = await env.step(Message(role="assistant", calls=calls))
    assert step.done and [result.status for result in step.results] == ["unknown_tool", "ok"]
    assert (await env.close()).answer == "x"


async def test_the_demonstrator_retries_what_was_lost(play):
    for task in ToolWorldTasks(num=60):
        env = FaultyEnv(task, env=ToolWorldEnv, timeouts=0.2, failures=0.2)
        turns, outcome = await play(env, Demonstrator(task, 0, NO_ERRORS), task)
        assert outcome.finished and outcome.answer == task.answer
        assert not any(turn.erroneous for turn in turns)


def test_the_faulty_environment_is_a_component_and_passes_the_check():
    make = Component(
        factory="envs.faults:FaultyEnv", options={"env": {"factory": "envs.toolworld:ToolWorldEnv"}, "noise": 0.5}
    )
    assert pickle.loads(pickle.dumps(make)) == make
    assert check_env(make, TASKS[:10]) == []


@pytest.mark.parametrize("options", [{"timeouts": -0.1}, {"timeouts": 0.6, "noise": 0.6}])
def test_impossible_shares_are_refused(options):
    with pytest.raises(ValueError, match="shares"):
        faulty(**options)(TASKS[0])
