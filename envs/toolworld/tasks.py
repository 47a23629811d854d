"""Tasks of the tool world, made on demand: task number i follows from split, catalogue, seed and i."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

from envs.actions import CHANGE_TOOLS, TALK_TO_USER, without_deferrals
from envs.task_sequence import TaskSequence
from envs.toolworld.catalogue import Catalogue, ProceduralCatalogue, Split, WorldTool, plausible_value
from envs.toolworld.real import RealCatalogue
from envs.toolworld.simulator import simulate
from envs.toolworld.wording import chain_request, parallel_request, single_request, value_text
from envs.types import Json, Message, Task, TaskKind, ToolCall

KIND_WEIGHTS: Mapping[str, float] = {
    TaskKind.SINGLE: 0.27,
    TaskKind.CHAIN: 0.17,
    TaskKind.PARALLEL: 0.11,
    TaskKind.MISSING_ARGUMENT: 0.24,
    TaskKind.UNMATCHED_TOOLS: 0.21,
}
"""Share of each kind unless told otherwise."""

NO_TOOL_SHARE = 1 / 3
"""Share of unmatched-tools tasks that no tool at all can serve."""

FOREIGN_SHARE = 2 / 3
"""Share of unmatched-tools tasks that offer the tools of another request, as Relign makes all of them (A.5). The others
are harder: of tools alike, just the right one is not offered."""


class ToolWorldTasks(TaskSequence):
    """Tasks of the tool world."""

    def __init__(
        self,
        split: Split = "train",
        catalogue: Literal["procedural", "real", "mixed"] = "procedural",
        seed: int = 0,
        kinds: Mapping[str, float] | None = None,
        num: int | None = None,
        real_share: float = 0.25,
        deferrals: bool = True,
    ) -> None:
        """Describe a sequence of tasks.

        Args:
            split: train and held-out tasks share no tool name, no compound noun and no request: requests
                are put together from the same pieces in other combinations.
            catalogue: procedural tools, real API documents, or both.
            seed: another seed gives other tasks.
            kinds: weight of each kind; kinds not named do not occur. None: KIND_WEIGHTS.
            num: length of the sequence; None: endless.
            real_share: share of tasks on real documents if `catalogue` is "mixed".
            deferrals: whether the indecisive actions are offered; without them only `finish` is.

        Raises:
            ValueError: an unknown split, catalogue or kind.
        """
        if split not in ("train", "heldout"):
            raise ValueError(f"split {split!r}: expected 'train' or 'heldout'")
        shares = {"procedural": 0.0, "mixed": real_share, "real": 1.0}
        if catalogue not in shares:
            raise ValueError(f"catalogue {catalogue!r}: expected one of {', '.join(shares)}")
        weights = dict(KIND_WEIGHTS if kinds is None else kinds)
        unknown = sorted(set(weights) - set(KIND_WEIGHTS))
        if unknown or not sum(weights.values()) > 0:
            raise ValueError(f"kinds {weights}: expected positive weights of {', '.join(KIND_WEIGHTS)}")
        self.split: Split = split
        self.catalogue = catalogue
        self.seed = seed
        self.num = num
        self._deferrals = deferrals
        self._real_share = shares[catalogue]
        self._kinds = [str(kind) for kind in weights]
        self._weights = list(weights.values())
        self._procedural = ProceduralCatalogue(split)
        self._real = RealCatalogue(split) if self._real_share > 0 else None

    def task(self, index: int) -> Task:
        """Task number `index`."""
        self.expect(index)
        name = f"{self.split}-{self.catalogue}-{self.seed}-{index}"
        rng = random.Random(name)
        kind = rng.choices(self._kinds, self._weights)[0]
        tools: Catalogue = self._procedural
        if self._real is not None and rng.random() < self._real_share:
            tools = self._real
        task = _Builder(rng, self.split, tools, kind, f"toolworld-{name}").build()
        return task if self._deferrals else without_deferrals(task)


class _Builder:
    """Makes one task."""

    def __init__(self, rng: random.Random, split: Split, catalogue: Catalogue, kind: str, task_id: str) -> None:
        self.rng = rng
        self.split: Split = split
        self.catalogue = catalogue
        self.kind = kind
        self.task_id = task_id
        self.seed = rng.randrange(2**31)
        self.offered: list[WorldTool] = []
        self.new_tools: list[WorldTool] = []
        self.results: dict[str, Mapping[str, Json]] = {}

    def build(self) -> Task:
        match self.kind:
            case TaskKind.CHAIN:
                return self._chain()
            case TaskKind.PARALLEL:
                return self._parallel()
            case TaskKind.MISSING_ARGUMENT:
                return self._missing()
            case TaskKind.UNMATCHED_TOOLS:
                return self._unmatched()
        return self._single()

    def _single(self) -> Task:
        tool = self._target()
        arguments = self._arguments(tool)
        self.offered = self._offer([tool])
        return self._task(
            request=single_request(self.rng, self.split, tool, arguments),
            reference=[ToolCall(name=tool.name, arguments=arguments)],
            answer=self._answer(tool, arguments),
            known=arguments,
        )

    def _missing(self) -> Task:
        tool = self._target()
        arguments = self._arguments(tool)
        required = tool.spec.required
        num_missing = 2 if len(required) > 2 and self.rng.random() < 0.15 else 1
        left_out = set(self.rng.sample(required, num_missing))
        missing = [name for name in required if name in left_out]
        given = {name: value for name, value in arguments.items() if name not in left_out}
        arguments = given | {name: arguments[name] for name in missing}
        self.offered = self._offer([tool])
        return self._task(
            request=single_request(self.rng, self.split, tool, given),
            reference=[
                ToolCall(name=TALK_TO_USER, arguments={"missing": missing}),
                ToolCall(name=tool.name, arguments=arguments),
            ],
            answer=self._answer(tool, arguments),
            known=arguments,
        )

    def _unmatched(self) -> Task:
        tool = self._target()
        arguments = self._arguments(tool)
        if self.rng.random() < FOREIGN_SHARE:
            self.offered = self._foreign(tool)
        else:
            near = self._offer([tool], count=self.rng.randint(4, 6))
            self.offered = [other for other in near if other.name != tool.name]
        reference = [ToolCall(name=CHANGE_TOOLS, arguments={})]
        answer = f"no tool can {tool.phrase}"
        if self.rng.random() >= NO_TOOL_SHARE:
            self.new_tools = self._offer([tool], count=self.rng.randint(2, 3))
            reference.append(ToolCall(name=tool.name, arguments=arguments))
            answer = self._answer(tool, arguments)
        return self._task(
            request=single_request(self.rng, self.split, tool, arguments),
            reference=reference,
            answer=answer,
            known=arguments,
            extra={"wanted": {"name": tool.name, "phrase": tool.phrase, "arguments": arguments}},
        )

    def _parallel(self) -> Task:
        first = self._target()
        tools = [first, first if self.rng.random() < 0.4 else self._other([first])]
        if self.rng.random() < 0.12:
            tools.append(first)
        calls: list[tuple[WorldTool, dict[str, Json]]] = []
        for tool in tools:
            for _ in range(20):
                arguments = self._arguments(tool)
                if (tool, arguments) not in calls:
                    calls.append((tool, arguments))
                    break
        self.offered = self._offer(list({tool.name: tool for tool, _ in calls}.values()))
        known: dict[str, Json] = {}
        for _, arguments in calls:
            for name, value in arguments.items():
                known[name] = value if name not in known else f"{value_text(known[name])}, {value_text(value)}"
        return self._task(
            request=parallel_request(self.rng, self.split, calls),
            reference=[ToolCall(name=tool.name, arguments=arguments) for tool, arguments in calls],
            answer=", ".join(self._answer(tool, arguments) for tool, arguments in calls),
            known=known,
            ordered=False,
        )

    def _chain(self) -> Task:
        for _ in range(50):
            first, second = self._target(), self._target()
            links = [name for name in second.spec.required if _can_link(second, name, first)]
            if links and first.name != second.name:
                break
        else:
            self.kind = str(TaskKind.SINGLE)
            return self._single()
        link = self.rng.choice(links)
        self.results[first.name] = {link: dict(second.spec.properties[link])}
        arguments = self._arguments(first)
        linked = self._simulate(first, arguments)[link]
        others = {name: value for name, value in self._arguments(second).items() if name != link}
        full = {link: linked, **others}
        self.offered = self._offer([first, second])
        return self._task(
            request=chain_request(self.rng, self.split, (first, second), arguments, others, link),
            reference=[
                ToolCall(name=first.name, arguments=arguments),
                ToolCall(name=second.name, arguments=full),
            ],
            answer=self._answer(second, full),
            known=arguments | others,
        )

    def _target(self) -> WorldTool:
        """A tool to ask for; a task needs something to ask, so it has a required parameter."""
        while True:
            tool = self.catalogue.sample(self.rng)
            if tool.spec.required:
                return tool

    def _other(self, tools: list[WorldTool]) -> WorldTool:
        names = {tool.name for tool in tools}
        while True:
            tool = self._target()
            if tool.name not in names:
                return tool

    def _arguments(self, tool: WorldTool) -> dict[str, Json]:
        """In the order in which the user gives them, so that a call can follow its request word by word."""
        required = set(tool.spec.required)
        names = [name for name in tool.spec.properties if name in required or self.rng.random() < 0.5]
        self.rng.shuffle(names)
        return {name: plausible_value(name, tool.spec.properties[name], self.rng) for name in names}

    def _offer(self, targets: list[WorldTool], *, count: int = 0) -> list[WorldTool]:
        """The targets among distractors in random order; one distractor at least begins like a target."""
        count = count or self.rng.randint(3, 5)
        tools = {tool.name: tool for tool in targets}
        forbidden = set(tools)
        while len(tools) < count:
            same = len(tools) == len(targets) or self.rng.random() < 0.25
            near = self.catalogue.neighbour(self.rng, self.rng.choice(targets), same_start=same)
            if near.name not in forbidden:
                tools[near.name] = near
        chosen = list(tools.values())
        self.rng.shuffle(chosen)
        return chosen

    def _foreign(self, tool: WorldTool) -> list[WorldTool]:
        """What another request would be offered; no two words of a name are those of `tool`."""
        wanted = set(tool.phrase.split())
        while True:
            offered = self._offer([self._target()])
            if all(len(wanted & set(other.phrase.split())) < 2 for other in offered):
                return offered

    def _simulate(self, tool: WorldTool, arguments: Mapping[str, Json]) -> dict[str, Json]:
        return simulate(self.seed, tool.name, arguments, self.results.get(tool.name, tool.results))

    def _answer(self, tool: WorldTool, arguments: Mapping[str, Json]) -> str:
        return answer_text(self._simulate(tool, arguments))

    def _task(
        self,
        *,
        request: str,
        reference: list[ToolCall],
        answer: str,
        known: Mapping[str, Json],
        ordered: bool = True,
        extra: Mapping[str, Json] | None = None,
    ) -> Task:
        results = {tool.name: dict(tool.results) for tool in [*self.offered, *self.new_tools]} | self.results
        facts: dict[str, Json] = {"user": dict(known), "results": results, **(extra or {})}
        if self.kind == TaskKind.UNMATCHED_TOOLS:
            facts["new_tools"] = [tool.spec.to_json() for tool in self.new_tools]
        return Task(
            task_id=self.task_id,
            prompt=(Message(role="user", content=request),),
            tools=tuple(tool.spec for tool in self.offered),
            reference=tuple(reference),
            ordered=ordered,
            answer=answer,
            kind=self.kind,
            seed=self.seed,
            facts=facts,
        )


def answer_text(result: Mapping[str, Json]) -> str:
    """The final answer for a result: "total 42, place Rome"."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in result.items())


def _can_link(second: WorldTool, name: str, first: WorldTool) -> bool:
    """Whether a result can give this argument, and nothing else in the task can be taken for it."""
    schema = second.spec.properties[name]
    return "enum" not in schema and schema.get("type") != "boolean" and name not in first.spec.properties
