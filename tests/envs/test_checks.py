import random
import re
from dataclasses import replace

import pytest

from envs.checks import check_env
from envs.component import Component
from envs.toolworld import ToolWorldEnv, ToolWorldTasks
from envs.types import Message, Outcome, Step, Task, ToolCall, ToolResult, ToolSpec, ToolStatus

TASKS = list(ToolWorldTasks(num=12))


def test_the_tool_world_passes_on_every_catalogue_and_split():
    make = Component(factory="envs.toolworld:ToolWorldEnv")
    for split in ("train", "heldout"):
        for catalogue in ("procedural", "real"):
            assert check_env(make, ToolWorldTasks(split=split, catalogue=catalogue, num=25)) == []


class Random(ToolWorldEnv):
    async def step(self, message):
        step = await super().step(message)
        return replace(step, results=tuple(replace(r, content=str(random.random())) for r in step.results))


class Raising(ToolWorldEnv):
    async def step(self, message):
        raise KeyError("oops")


class Forgetful(ToolWorldEnv):
    async def step(self, message):
        return replace(await super().step(message), results=())


class Unfinishing(ToolWorldEnv):
    async def step(self, message):
        step = await super().step(message)
        reply = (Message(role="tool", content="{}", call_id=message.calls[0].call_id),) if message.calls else ()
        return replace(step, done=False, messages=step.messages or reply or (Message(role="user", content="go on"),))


class Empty(ToolWorldEnv):
    async def open(self):
        return ()


class WithoutActions(ToolWorldEnv):
    async def step(self, message):
        return replace(await super().step(message), tools=self.task.tools)


class WrongOutcome(ToolWorldEnv):
    async def close(self):
        return Outcome(finished=True, answer="other", facts={"pair": (1, 2)})


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Random, "differ"),
        (Raising, "raised KeyError"),
        (Forgetful, "were answered by results"),
        (Unfinishing, "finish did not end"),
        (Empty, "open\\(\\) must return"),
        (WithoutActions, "must include the actions"),
        (WrongOutcome, "JSON round trip"),
    ],
)
def test_each_fault_of_an_environment_is_found(env, message):
    problems = check_env(env, TASKS[:3])
    assert problems and any(re.search(message, problem) for problem in problems)


def test_faults_of_tasks_are_found():
    odd = replace(TASKS[0], facts={**TASKS[0].facts, "pair": (1, 2)})
    assert any("not the same after a JSON" in problem for problem in check_env(ToolWorldEnv, [odd]))
    wrong = replace(TASKS[0], reference=(ToolCall(name="nothing", arguments={}),), ordered=True)
    assert any("got unknown_tool" in problem for problem in check_env(ToolWorldEnv, [wrong]))


def test_a_tool_with_a_broken_schema_is_found():
    broken = ToolSpec(name="f", parameters={"type": "object", "properties": {"a": {"type": "dict"}}})
    problems = check_env(ToolWorldEnv, [replace(TASKS[0], tools=(*TASKS[0].tools, broken))])
    assert len(problems) == 1 and "not a JSON schema" in problems[0]


def test_a_factory_that_cannot_be_pickled_or_built_is_found():
    assert any("pickled" in problem for problem in check_env(lambda task: ToolWorldEnv(task), TASKS[:1]))
    assert "no callable" in check_env(Component(factory="envs.toolworld:Nothing"), TASKS[:1])[0]
    assert check_env(ToolWorldEnv, []) == ["no tasks to check"]


class Minimal:
    """An environment of the user's own that shares no code with ours."""

    def __init__(self, task):
        self.task = task
        self.outcome = Outcome()

    async def open(self):
        return self.task.prompt

    async def step(self, message):
        results = []
        for call in message.calls:
            status = ToolStatus.OK if isinstance(call, ToolCall) else ToolStatus.MALFORMED
            if status == ToolStatus.OK and call.name not in ("add", "finish"):
                status = ToolStatus.UNKNOWN_TOOL
            if status == ToolStatus.OK and call.name == "finish":
                self.outcome = Outcome(finished=True, answer=call.arguments["answer"])
            results.append(ToolResult(call_id=call.call_id, status=status, content="7"))
        done = self.outcome.finished or not message.calls
        messages = () if done else tuple(Message(role="tool", content="7", call_id=r.call_id) for r in results)
        return Step(messages=messages, results=tuple(results), done=done)

    async def close(self):
        return self.outcome


def test_an_environment_that_shares_no_code_passes():
    task = Task(
        task_id="add",
        prompt=(Message(role="user", content="3 + 4"),),
        tools=(ToolSpec(name="add"),),
        reference=(ToolCall(name="add", arguments={"a": {"any_of": [3, "3"]}, "b": {"any_of": ["", 4]}}),),
        answer="7",
    )
    assert check_env(Minimal, [task]) == []
