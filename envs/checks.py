"""`check_env`: whether an environment keeps the promises that training rests on. For ours and for users' own."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, FINISH, TALK_TO_USER
from envs.component import Component
from envs.env import Env
from envs.schema import check_schema
from envs.types import (
    Call,
    Json,
    MalformedCall,
    Message,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolStatus,
)

_NO_SUCH_TOOL = "tether_no_such_tool"
_OMIT = "tether: leave this argument out"


def check_env(make_env: Component | Callable[[Task], Env], tasks: Iterable[Task]) -> list[str]:
    """Everything found wrong with an environment on these tasks; empty if all is well.

    Checked are: factory and tasks can be pickled, tasks survive JSON, two episodes with the same messages are equal,
    the reference calls of every task succeed and `finish` ends it, every step has one result per call and messages
    unless done, bad calls are answered rather than raised, and a message without calls is answered.

    Args:
        make_env: the factory of the environment, as a recipe names it or as a function of the task.
        tasks: tasks to play. Those without a reference are played with bad calls only.
    """
    problems = []
    if isinstance(make_env, Component):
        try:
            make_env.check("task")
        except ValueError as error:
            return [str(error)]
        build: Callable[[Task], Env] = make_env.build
    else:
        build = make_env
    problems += [f"factory: {problem}" for problem in _pickle_problems(make_env)]
    num_tasks = 0
    for task in tasks:
        num_tasks += 1
        found = asyncio.run(_check_task(build, task))
        problems += [f"task {task.task_id}: {problem}" for problem in dict.fromkeys(found)]
    return problems if num_tasks else [*problems, "no tasks to check"]


@dataclass(slots=True)
class _Episode:
    prompt: tuple[Message, ...] = ()
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    problems: list[str] = field(default_factory=list)


async def _check_task(build: Callable[[Task], Env], task: Task) -> list[str]:
    problems = [f"the task {problem}" for problem in _pickle_problems(task)]
    try:
        copied = Task.from_json(json.loads(json.dumps(task.to_json())))
    except (TypeError, ValueError, KeyError) as error:
        return [*problems, f"does not survive JSON: {error!r}"]
    if copied != task:
        problems.append("is not the same after a JSON round trip (tuples or non-string keys in its values?)")
    for tool in task.tools:
        try:
            check_schema(tool.parameters)
        except ValueError as error:
            return [*problems, f"tool {tool.name}: {error}"]
    scripts = {"bad calls": _bad_messages(), "no calls": [Message(role="assistant", content="I am done.")]}
    if task.reference is not None:
        scripts["reference"] = _reference_messages(task)
    for name, script in scripts.items():
        first = await _play(build, task, script)
        second = await _play(build, copied, script)
        problems += [f"{name}: {problem}" for problem in first.problems]
        if not first.problems and first != second:
            problems.append(f"{name}: two episodes with the same messages differ")
        if not first.problems:
            problems += [f"{name}: {problem}" for problem in _judge(name, task, first)]
    return problems


async def _play(build: Callable[[Task], Env], task: Task, script: Sequence[Message]) -> _Episode:
    episode = _Episode()
    # gather keeps an exception as a value: a raising environment is a finding, not a crash of the check.
    (error,) = await asyncio.gather(_run(build, task, script, episode), return_exceptions=True)
    if isinstance(error, BaseException):
        episode.problems.append(f"raised {type(error).__name__}: {error}")
    return episode


async def _run(build: Callable[[Task], Env], task: Task, script: Sequence[Message], episode: _Episode) -> None:
    env = build(task)
    episode.prompt = await env.open()
    if not episode.prompt or not all(isinstance(message, Message) for message in episode.prompt):
        episode.problems.append("open() must return at least one Message")
    for message in script:
        step = await env.step(message)
        episode.steps.append(step)
        episode.problems += _step_problems(message, step)
        if step.done or episode.problems:
            break
    episode.outcome = await env.close()
    if Outcome.from_json(json.loads(json.dumps(episode.outcome.to_json()))) != episode.outcome:
        episode.problems.append("the outcome is not the same after a JSON round trip")


def _step_problems(message: Message, step: Step) -> list[str]:
    problems = []
    made, answered = [call.call_id for call in message.calls], [result.call_id for result in step.results]
    if made != answered:
        problems.append(f"calls {made} were answered by results {answered}")
    if step.done == bool(step.messages):
        problems.append("a step must have messages if and only if it is not done")
    if step.tools is not None and not {tool.name for tool in step.tools} >= ACTION_NAMES:
        problems.append("the tools of a step must include the actions")
    if [ToolResult.from_json(json.loads(json.dumps(result.to_json()))) for result in step.results] != list(
        step.results
    ):
        problems.append("a result is not the same after a JSON round trip")
    return problems


def _judge(name: str, task: Task, episode: _Episode) -> list[str]:
    problems = []
    results = [result for step in episode.steps for result in step.results]
    if name == "bad calls":
        expected = [ToolStatus.MALFORMED, ToolStatus.UNKNOWN_TOOL]
        if [result.status for result in results] != expected:
            problems.append(f"expected status {[str(status) for status in expected]}")
    if name == "reference":
        problems += [
            f"call {result.call_id} of the reference got {result.status}: {result.content}"
            for result in results
            if result.status != ToolStatus.OK
        ]
        if not problems and not (episode.steps[-1].done and episode.outcome.finished):
            problems.append("finish did not end the episode")
        if not problems and task.answer is not None and episode.outcome.answer != task.answer:
            problems.append(f"the outcome holds the answer {episode.outcome.answer!r}, given was {task.answer!r}")
    return problems


def _reference_messages(task: Task) -> list[Message]:
    calls: list[Call] = []
    for number, call in enumerate(task.reference or ()):
        arguments = {name: _accepted(value) for name, value in call.arguments.items() if _accepted(value) != _OMIT}
        if call.name == TALK_TO_USER:
            arguments = {"question": "please?", "missing": []} | arguments
        elif call.name == CHANGE_TOOLS:
            arguments = {"reason": "none serves"} | arguments
        calls.append(ToolCall(call_id=f"call_{number}", name=call.name, arguments=arguments))
    finish = ToolCall(call_id=f"call_{len(calls)}", name=FINISH, arguments={"answer": task.answer or ""})
    groups = [[call] for call in calls] if task.ordered else [calls] if calls else []
    return [Message(role="assistant", calls=tuple(group)) for group in [*groups, [finish]]]


def _accepted(value: Json) -> Json:
    """One value that the reference accepts for an argument; _OMIT if it accepts only that it is left out."""
    if isinstance(value, Mapping) and set(value) == {"any_of"}:
        return next((accepted for accepted in value["any_of"] if accepted != ""), _OMIT)
    return value


def _bad_messages() -> list[Message]:
    malformed = MalformedCall(call_id="call_0", text='{"name": ', reason="invalid JSON")
    unknown = ToolCall(call_id="call_1", name=_NO_SUCH_TOOL, arguments={})
    return [Message(role="assistant", calls=(call,)) for call in (malformed, unknown)]


def _pickle_problems(value: object) -> list[str]:
    try:
        pickle.loads(pickle.dumps(value))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return [f"cannot be pickled: {error}"]
    return []
