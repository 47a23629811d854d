"""Reversed construction by a language model behind an OpenAI-compatible endpoint, in TTPA's steps.

    scenario, constraints, tools  ->  one call after the other, with their results  ->  answer  ->  request

Source: TTPA (arXiv 2505.20016) and its release; the words of the prompts are ours. Three things differ from the
release: who writes the request sees the calls with arguments and results, a call that fails ends the attempt, and
distractors are offered beside the tools that were used.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence

from envs.schema import check
from envs.toolworld import ToolWorldEnv
from envs.toolworld.catalogue import Catalogue, WorldTool
from envs.toolworld.reversed import candidate_tools
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec, ToolStatus
from rl.data.conversations import right_episode
from rl.data.reversed import Rejected, Sample
from rl.errors import RunFailed
from rollout.endpoint import EndpointPolicy
from rollout.engine import EngineFailed

NUM_FALLBACK_TOOLS = 5
"""Tools taken by chance where the scenario names none that is offered."""
MAX_RESULT_CHARACTERS = 8192


def _action(name: str, description: str, **properties: Json) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return ToolSpec(name=name, description=description, parameters=parameters)


SCENARIO = _action(
    "scenario",
    "Set the scene.",
    scenario={"type": "string", "description": "A few words that state a situation; no question, no name of a tool."},
    constraints={
        "type": "array",
        "items": {"type": "string"},
        "minItems": 4,
        "maxItems": 7,
        "description": "Facts of the situation with concrete values: times, places, people, amounts, ids.",
    },
    tools={"type": "array", "items": {"type": "string"}, "minItems": 2, "description": "Names of the tools it needs."},
)
ANSWER = _action("answer", "Give the final answer.", answer={"type": "string"})
RESTART = _action("restart", "Give up: the calls lead nowhere.", error_summary={"type": "string"})
QUESTION = _action("question", "Say what was asked.", question={"type": "string"})

_SET_THE_SCENE = """\
Think of a realistic situation in which somebody needs several of the tools below, at least two, one after the other.
State it, with four to seven facts that give every value these tools will need, and name the tools.

{tools}"""
_WORK = """\
You work for somebody whose question you do not know; you know the situation. Find out what is worth knowing in it with
the tools, one call at a time, at least two different tools. Take every value from the facts or from earlier results,
and never make one up. When you know enough, call `answer`. If the calls lead nowhere, call `restart`.

The situation: {scenario}
{constraints}"""
_BEGIN = "Begin."
_GO_ON = "Call another tool, or answer."
_LAST = "One more tool at most, then the answer."
_ENOUGH = "Answer now."
_ASK = """\
Somebody asked for something, and this was done for it:

{steps}

The answer given was: {answer}

Write what was asked, in the first person and as people write. The answer must answer it and the steps must be what it
takes. It has to contain every value of the steps that is not a result of an earlier one. It must contain neither the
name of a tool nor anything that only the results tell."""


class ModelGenerator:
    """Samples of a language model. Attempts are made side by side and given in their order."""

    def __init__(
        self,
        url: str,
        model: str,
        catalogues: Sequence[Catalogue],
        *,
        seed: int,
        num_calls: tuple[int, int],
        num_distractors: int,
        writer: str | None = None,
        concurrency: int = 4,
        timeout: float = 60.0,
    ) -> None:
        """Say whom to ask; the key is taken from OPENAI_API_KEY.

        Args:
            url: base of the API.
            model: chooses the tools and makes the calls.
            catalogues: the tools; each sample is made of one of them.
            seed: decides which tools are offered and how many calls are made; what the model says it does not.
            num_calls: least and most calls of a sample.
            num_distractors: tools offered beside those that were called.
            writer: the model that writes answer and request; None: the same.
            concurrency: samples at a time.
            timeout: seconds of one request.
        """
        self._catalogues = catalogues
        self._seed = seed
        self._num_calls = num_calls
        self._num_distractors = num_distractors
        self._concurrency = concurrency

        def policy(name: str, forced: ToolSpec | None) -> EndpointPolicy:
            choice: Json = {"type": "function", "function": {"name": forced.name}} if forced else "auto"
            return EndpointPolicy(
                url, name, temperature=1.0, max_tokens=1024, timeout=timeout, options={"tool_choice": choice}
            )

        writer = writer or model
        self._scenes, self._calls = policy(model, SCENARIO), policy(model, None)
        self._answers, self._questions = policy(writer, ANSWER), policy(writer, QUESTION)

    def samples(self, start: int) -> Iterator[Sample | Rejected]:
        """As `Generator.samples`.

        Raises:
            RunFailed: the endpoint does not answer.
        """
        with asyncio.Runner() as runner:
            try:
                while True:
                    numbers = range(start, start + self._concurrency)
                    yield from runner.run(self._attempts(numbers))
                    start = numbers.stop
            except EngineFailed as error:
                raise RunFailed(f"{error}; the same command goes on from here") from error
            finally:
                runner.run(self._close())

    async def _attempts(self, numbers: range) -> list[Sample | Rejected]:
        return await asyncio.gather(*(self._attempt(number) for number in numbers))

    async def _close(self) -> None:
        for policy in (self._scenes, self._calls, self._answers, self._questions):
            await policy.close()

    async def _attempt(self, number: int) -> Sample | Rejected:
        rng = random.Random(f"reversed-model {self._seed} {number}")
        try:
            return await self._construct(rng, f"reversed-model-{self._seed}-{number}")
        except Rejected as reason:
            return reason

    async def _construct(self, rng: random.Random, task_id: str) -> Sample:
        candidates = candidate_tools(rng, rng.choice(self._catalogues))
        scene, tools = await self._scene(rng, candidates)
        results = {tool.name: dict(tool.results) for tool in candidates}
        task = Task(
            task_id=task_id,
            prompt=(),
            tools=tuple(tool.spec for tool in tools),
            seed=rng.randrange(2**31),
            facts={"results": results, **scene},
        )
        memory, answer = await self._interact(task, rng.randint(*self._num_calls))
        calls = [call for message in memory for call in message.calls if isinstance(call, ToolCall)]
        offered = {tool.name: tool.spec for tool in tools if tool.name in {call.name for call in calls}}
        num_offered = len(offered) + self._num_distractors
        for tool in candidates:
            if len(offered) < num_offered:
                offered.setdefault(tool.name, tool.spec)
        done = Task(
            task_id=task_id,
            prompt=(Message(role="user", content=await self._question(memory, answer)),),
            tools=tuple(rng.sample(list(offered.values()), len(offered))),
            reference=tuple(ToolCall(name=call.name, arguments=call.arguments) for call in calls),
            ordered=True,
            answer=answer,
            kind=TaskKind.CHAIN,
            seed=task.seed,
            facts={"user": {}, "results": {name: results[name] for name in offered}, **scene},
        )
        return Sample(task=done, trajectory=right_episode(done))

    async def _scene(
        self, rng: random.Random, candidates: Sequence[WorldTool]
    ) -> tuple[dict[str, Json], list[WorldTool]]:
        """S, Cons and T_use."""
        shown = "\n".join(json.dumps(tool.spec.to_json(), ensure_ascii=False) for tool in candidates)
        prompt = Message(role="user", content=_SET_THE_SCENE.format(tools=shown))
        found = await _forced(self._scenes, SCENARIO, [prompt])
        if any(tool.name.lower() in found["scenario"].lower() for tool in candidates):
            raise Rejected("the scenario holds the name of a tool")
        tools = [tool for tool in candidates if tool.name in found["tools"]]
        tools = tools or rng.sample(list(candidates), min(NUM_FALLBACK_TOOLS, len(candidates)))
        return {"scenario": found["scenario"], "constraints": found["constraints"]}, tools

    async def _interact(self, task: Task, num_calls: int) -> tuple[list[Message], str]:
        """The calls and their results, as messages, and the answer. Of a message only the first call is made."""
        env, memory = ToolWorldEnv(task), []
        numbered = "\n".join(f"{number}. {fact}" for number, fact in enumerate(task.facts["constraints"], start=1))
        system = Message(role="system", content=_WORK.format(scenario=task.facts["scenario"], constraints=numbered))
        begin = Message(role="user", content=_BEGIN)
        for made in range(num_calls + 1):
            if made == num_calls:
                nudge = Message(role="user", content=_ENOUGH)
                found = await _forced(self._answers, ANSWER, [system, begin, *memory, nudge])
                return memory, found["answer"]
            # Earlier nudges are left out: what is due changes.
            nudge = [Message(role="user", content=_LAST if made == num_calls - 1 else _GO_ON)] if made else []
            reply = await self._calls.reply([system, begin, *memory, *nudge], [*task.tools, ANSWER, RESTART])
            call = reply.calls[0] if reply.calls else None
            if not isinstance(call, ToolCall):
                raise Rejected("a reply holds no call that can be read")
            if call.name == RESTART.name:
                raise Rejected("the model gave up")
            if call.name == ANSWER.name:
                return memory, _arguments(call, ANSWER)["answer"]
            message = Message(role="assistant", calls=(call,))
            step = await env.step(message)
            if step.results[0].status is not ToolStatus.OK:
                raise Rejected("a call failed")
            result = Message(role="tool", call_id=call.call_id, content=step.results[0].content[:MAX_RESULT_CHARACTERS])
            memory += [message, result]
        raise AssertionError("the last round returns")

    async def _question(self, memory: Sequence[Message], answer: str) -> str:
        """Q, by one who sees calls and results."""
        steps = [
            f"{number}. {call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)}) gave {result.content}"
            for number, (message, result) in enumerate(zip(memory[::2], memory[1::2], strict=True), start=1)
            for call in message.calls
            if isinstance(call, ToolCall)
        ]
        prompt = Message(role="user", content=_ASK.format(steps="\n".join(steps), answer=answer))
        return (await _forced(self._questions, QUESTION, [prompt]))["question"]


async def _forced(policy: EndpointPolicy, action: ToolSpec, messages: Sequence[Message]) -> Mapping[str, Json]:
    """The arguments of the one call that the model may make."""
    reply = await policy.reply(messages, [action])
    call = reply.calls[0] if reply.calls else None
    if not isinstance(call, ToolCall) or call.name != action.name:
        raise Rejected(f"the model gave no {action.name}")
    return _arguments(call, action)


def _arguments(call: ToolCall, action: ToolSpec) -> Mapping[str, Json]:
    if check(call.arguments, action.parameters):
        raise Rejected(f"the model gave no {action.name}")
    return call.arguments
