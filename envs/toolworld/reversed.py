"""Reversed construction: first a scenario and its tools, then calls and results, then the answer, and last the request.

Source: TTPA (arXiv 2505.20016), reversed dataset construction. Its generator is a language model; this one is a rule,
the same in every run. As the calls were made before the request was written, every request can be answered.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.toolworld.catalogue import Catalogue, Split, WorldTool, plausible_value, spoken
from envs.toolworld.simulator import simulate
from envs.toolworld.tasks import answer_text
from envs.toolworld.wording import sequence_request, value_text
from envs.types import Json, Message, Task, TaskKind, ToolCall

MAX_CANDIDATES = 20
"""Tools that a scenario may choose from."""
MAX_CONSTRAINTS = 7
"""Facts of a scenario. TTPA asks for 4 to 7."""
LINK_SHARE = 0.5
"""Of the calls that can take a value from the result before them, those that do."""

_OPENINGS = ("All of this is about", "What is known:", "Given are", "The matter concerns", "At hand are")


@dataclass(slots=True)
class Memory:
    """What was called and what came back."""

    calls: list[ToolCall] = field(default_factory=list)
    results: list[dict[str, Json]] = field(default_factory=list)


def candidate_tools(rng: random.Random, catalogue: Catalogue) -> list[WorldTool]:
    """T_can, what a scenario may choose from: MAX_CANDIDATES tools or as many as there are, some alike."""
    found: dict[str, WorldTool] = {}
    for _ in range(10 * MAX_CANDIDATES):
        tool = catalogue.sample(rng)
        near = catalogue.neighbour(rng, tool, same_start=rng.random() < 0.5)
        for one in (tool, near):
            if len(found) < MAX_CANDIDATES:
                found.setdefault(one.name, one)
        if len(found) == MAX_CANDIDATES:
            break
    return list(found.values())


class ReversedTask:
    """Makes one task in TTPA's order; each step sees what the steps before it made."""

    def __init__(self, rng: random.Random, split: Split, catalogue: Catalogue, task_id: str) -> None:
        """Begin a task.

        Args:
            rng: decides everything.
            split: of the wording.
            catalogue: the tools.
            task_id: of the task.
        """
        self._rng = rng
        self._split: Split = split
        self._catalogue = catalogue
        self._task_id = task_id
        self._seed = rng.randrange(2**31)
        self.tools: list[WorldTool] = []
        """The tools to be used, in the order of their calls."""
        self.links: list[str] = []
        """For each tool but the first, its parameter whose value the result before it gives, or ""."""
        self.constraints: dict[str, Json] = {}
        """The facts of the scenario: values by the name of the parameter, the same for all tools."""
        self._results: dict[str, Mapping[str, Json]] = {}

    def build(self, *, num_calls: int, num_distractors: int) -> Task:
        """The task.

        Args:
            num_calls: of the right calls; fewer where the constraints would become too many.
            num_distractors: tools offered beside those that are called.
        """
        candidates = candidate_tools(self._rng, self._catalogue)
        self._choose(candidates, num_calls)
        memory = self._interact()
        answer = self._answer(memory)
        return self._question(memory, answer, candidates, num_distractors)

    def _choose(self, candidates: Sequence[WorldTool], num_calls: int) -> None:
        """T_use and Cons: tools whose values together make no more than MAX_CONSTRAINTS facts."""
        for tool in self._rng.sample(list(candidates), len(candidates)):
            if len(self.tools) == num_calls:
                break
            if not tool.spec.required:
                continue
            link = self._link(tool)
            facts = {
                name: plausible_value(name, schema, self._rng)
                for name, schema in tool.spec.properties.items()
                if name != link and name not in self.constraints
                if name in tool.spec.required or self._rng.random() < 0.3
            }
            if not self._fits(tool, self.constraints | facts) or len(self.constraints | facts) > MAX_CONSTRAINTS:
                continue
            if self.tools:
                self.links.append(link)
                if link:
                    self._results[self.tools[-1].name] = {link: dict(tool.spec.properties[link])}
            self.tools.append(tool)
            self.constraints |= facts

    def _link(self, tool: WorldTool) -> str:
        """A required parameter that the last result can give and no fact does, or ""."""
        if not self.tools or self._rng.random() >= LINK_SHARE:
            return ""
        free = [
            name
            for name in tool.spec.required
            if name not in self.constraints
            and name not in self.tools[-1].spec.properties
            and "enum" not in tool.spec.properties[name]
            and tool.spec.properties[name].get("type") != "boolean"
        ]
        return self._rng.choice(free) if free else ""

    def _fits(self, tool: WorldTool, facts: Mapping[str, Json]) -> bool:
        """Whether each fact means the same to the tool and to those before it, and none is what a result gives."""
        if any(link in facts for link in self.links):
            return False
        return all(
            _meaning(other.spec.properties[name]) == _meaning(schema)
            for name, schema in tool.spec.properties.items()
            for other in self.tools
            if name in facts and name in other.spec.properties
        )

    def _interact(self) -> Memory:
        """One call after the other, each in sight of the results before it."""
        memory = Memory()
        for tool, link in zip(self.tools, ["", *self.links], strict=True):
            arguments = {name: value for name, value in self.constraints.items() if name in tool.spec.properties}
            if link:
                arguments = {link: memory.results[-1][link], **arguments}
            memory.calls.append(ToolCall(name=tool.name, arguments=arguments))
            results = self._results.get(tool.name, tool.results)
            memory.results.append(simulate(self._seed, tool.name, arguments, results))
        return memory

    def _answer(self, memory: Memory) -> str:
        """What no later call took up."""
        taken = [*(bool(link) for link in self.links), False]
        return ", ".join(answer_text(result) for result, used in zip(memory.results, taken, strict=True) if not used)

    def _question(self, memory: Memory, answer: str, candidates: Sequence[WorldTool], num_distractors: int) -> Task:
        """Q, written for the calls and the answer; and the tools that are offered for it."""
        given = [
            {name: value for name, value in call.arguments.items() if name != link}
            for call, link in zip(memory.calls, ["", *self.links], strict=True)
        ]
        request = sequence_request(self._rng, self._split, list(zip(self.tools, given, strict=True)), self.links)
        offered = {tool.name: tool for tool in self.tools}
        for tool in candidates:
            if len(offered) < len(self.tools) + num_distractors:
                offered.setdefault(tool.name, tool)
        tools = self._rng.sample(list(offered.values()), len(offered))
        return Task(
            task_id=self._task_id,
            prompt=(Message(role="user", content=request),),
            tools=tuple(tool.spec for tool in tools),
            reference=tuple(memory.calls),
            ordered=True,
            answer=answer,
            kind=TaskKind.CHAIN,
            seed=self._seed,
            facts={
                "user": dict(self.constraints),
                "results": {tool.name: dict(tool.results) for tool in tools} | self._results,
                "scenario": self._scenario(),
                "constraints": [f"{spoken(name)}: {value_text(value)}" for name, value in self.constraints.items()],
            },
        )

    def _scenario(self) -> str:
        """S: a statement without the name of a tool."""
        facts = [f"{spoken(name)} {value_text(value)}" for name, value in self.constraints.items()]
        return f"{self._rng.choice(_OPENINGS)} {', '.join(facts)}."


def _meaning(schema: Mapping[str, Json]) -> Json:
    return [schema.get(key) for key in ("type", "format", "enum")]
