from __future__ import annotations

import pytest

from envs.detection.demonstrator import SLIPS, Demonstrator
from envs.detection.env import DetectionEnv
from envs.detection.tasks import DetectionTasks
from envs.types import MalformedCall, ToolStatus

CHEAP = {"arithmetic": 1.0, "dates": 1.0, "lengths": 1.0, "mixed": 1.0}
TASKS = list(DetectionTasks(kinds=CHEAP, seed=11, num=40))


async def play(task, **options):
    """Messages with whether they err and what came back, and the outcome."""
    env, policy = DetectionEnv(task, patience=99), Demonstrator(task, **options)
    messages, said, step = list(await env.open()), [], None
    while step is None or not step.done:
        message, erroneous = policy.reply(messages, task.tools, step)
        step = await env.step(message)
        said.append((message, erroneous, step.results))
        messages += [message, *step.messages]
    return said, await env.close()


async def test_without_slips_every_call_serves_and_every_verdict_is_right():
    for task in TASKS:
        said, outcome = await play(task)
        assert outcome.facts["success"] is True and not any(erroneous for _, erroneous, _ in said)
        assert {result.status for _, _, results in said for result in results} == {ToolStatus.OK}


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("wrong_tool", {ToolStatus.FAILED, ToolStatus.OK}),
        ("wrong_sentence", {ToolStatus.FAILED}),
        ("unknown_tool", {ToolStatus.UNKNOWN_TOOL}),
        ("malformed", {ToolStatus.MALFORMED}),
        ("lingers", {ToolStatus.FAILED, ToolStatus.OK}),
    ],
)
async def test_a_slip_is_told_apart_and_followed_by_the_right_call(kind, statuses):
    slipped = 0
    for task in TASKS:
        said, outcome = await play(task, slips=1.0, kinds={kind: 1.0})
        slipped += sum(erroneous for _, erroneous, _ in said)
        assert {result.status for _, erroneous, results in said if erroneous for result in results} <= statuses
        assert {result.status for _, erroneous, results in said if not erroneous for result in results} == {
            ToolStatus.OK
        }
        assert kind in ("wrong_tool", "lingers") or outcome.facts["success"] is True
    assert slipped >= len(TASKS)


@pytest.mark.parametrize("kind", ["stops", "guesses"])
async def test_some_slips_end_the_episode_and_are_often_wrong(kind):
    rights = []
    for task in TASKS:
        said, outcome = await play(task, slips=1.0, kinds={kind: 1.0})
        assert said[-1][1] is True and outcome.finished
        rights.append(outcome.facts["success"])
    assert 0 < sum(rights) < len(rights)


async def test_seed_and_task_decide_the_slips():
    for task in TASKS[:5]:
        one, _ = await play(task, slips=0.5, seed=1)
        assert one == (await play(task, slips=0.5, seed=1))[0]
    assert any([(await play(task, slips=0.5, seed=1))[0] != (await play(task, slips=0.5, seed=2))[0] for task in TASKS])


async def test_calls_have_ids_of_their_own():
    said, _ = await play(TASKS[0], slips=1.0, kinds={"malformed": 1.0})
    ids = [call.call_id for message, _, _ in said for call in message.calls]
    assert len(set(ids)) == len(ids)
    assert any(isinstance(call, MalformedCall) for message, _, _ in said for call in message.calls)


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"slips": 1.5}, "slips 1.5"), ({"kinds": {"naps": 1.0}}, "naps"), ({"kinds": {}}, ", ".join(SLIPS))],
)
def test_slips_that_there_are_not_are_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        Demonstrator(TASKS[0], **options)
