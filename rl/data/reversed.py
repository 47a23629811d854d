"""The work of `tether data reversed`: samples in TTPA's reversed order, and what is kept of them.

Source: TTPA (arXiv 2505.20016), reversed dataset construction, with the checks that its description asks for and its
release lacks: that the request can be answered, that nothing leaks into it, that nothing is there twice, and that no
benchmark is met.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.actions import DEFERRALS, FINISH
from envs.toolworld.catalogue import Catalogue, Split
from envs.toolworld.reversed import ReversedTask
from envs.types import Json, Task, ToolCall, ToolStatus
from rewards.grounding import Context, ungrounded_places
from rl.data.conversations import conversation_of, right_episode
from rl.data.datasets import DataSet
from rl.data.job import Done, Item
from rl.data.overlap import TextIndex, request_of
from rl.errors import RunFailed
from rollout.trajectory import Trajectory

MIN_TOOLS = 2
"""Distinct tools of a sample, as TTPA has it."""
NEAR_DUPLICATE = 0.8
"""From this likeness of their trigrams on, two requests are one."""
CONTAMINATED = 0.5
"""From this share of its 5-grams on, a request meets a benchmark."""
_TRIES_PER_SAMPLE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One construction: the task that came of it, and the conversation that does it rightly."""

    task: Task
    trajectory: Trajectory


class Rejected(ValueError):
    """No sample came of an attempt, or none that is kept; says why."""


class Generator(Protocol):
    """Makes samples by their number."""

    def samples(self, start: int) -> Iterator[Sample | Rejected]:
        """What comes of attempt number `start` and those after it, without end."""
        ...


class RuleGenerator:
    """The tool world's construction: offline, and the same in every run."""

    def __init__(
        self,
        catalogues: Sequence[Catalogue],
        *,
        split: Split,
        seed: int,
        num_calls: tuple[int, int],
        num_distractors: int,
    ) -> None:
        """Say what to make.

        Args:
            catalogues: the tools; each sample is made of one of them.
            split: of the wording.
            seed: another one gives other samples.
            num_calls: least and most right calls of a sample.
            num_distractors: tools offered beside those that are called.
        """
        self._catalogues = catalogues
        self._split: Split = split
        self._seed = seed
        self._num_calls = num_calls
        self._num_distractors = num_distractors

    def samples(self, start: int) -> Iterator[Sample]:
        """As `Generator.samples`."""
        number = start
        while True:
            rng = random.Random(f"reversed {self._split} {self._seed} {number}")
            name = f"reversed-{self._split}-{self._seed}-{number}"
            maker = ReversedTask(rng, self._split, rng.choice(self._catalogues), name)
            task = maker.build(num_calls=rng.randint(*self._num_calls), num_distractors=self._num_distractors)
            yield Sample(task=task, trajectory=right_episode(task))
            number += 1


class Reversed:
    """Attempts until there are enough samples; those that a filter rejects are counted with the reason."""

    def __init__(
        self,
        generator: Generator,
        *,
        num: int,
        min_calls: int = 0,
        num_distractors: int = 0,
        against: Sequence[DataSet] = (),
        conversations: bool = True,
    ) -> None:
        """Say how many are wanted.

        Args:
            generator: makes the attempts.
            num: samples to keep.
            min_calls: least right calls of a sample that is kept.
            num_distractors: least tools that such a sample offers beside those that are called.
            against: data sets that no request may meet.
            conversations: give demonstrations and not tasks.
        """
        self._generator = generator
        self._num = num
        self._min_calls = min_calls
        self._num_distractors = num_distractors
        self._conversations = conversations
        self._against = {one.name: TextIndex() for one in against}
        for one in against:
            for task in one.tasks:
                self._against[one.name].add(task.task_id, request_of(task))

    def __call__(self, done: Done) -> Iterator[Item]:
        """The attempts that follow those that are done.

        Raises:
            RunFailed: hardly any attempt is kept.
        """
        known = TextIndex(3)
        for record in done.records():
            known.add(record["task_id"] if "task_id" in record else record["id"], _request_in(record))
        num_kept, number = done.counts["kept"], done.num_items
        attempts = self._generator.samples(number)
        while num_kept < self._num:
            if number >= _TRIES_PER_SAMPLE * (num_kept + 10):
                raise RunFailed(f"only {num_kept} of {number} attempts were kept{_most_dropped(done.counts)}")
            item = self._item(next(attempts), known, number)
            num_kept += len(item.records)
            number += 1
            yield item

    def _item(self, attempt: Sample | Rejected, known: TextIndex, number: int) -> Item:
        try:
            if isinstance(attempt, Rejected):
                raise attempt
            expect_size(attempt, min_calls=self._min_calls, num_distractors=self._num_distractors)
            expect_answerable(attempt)
            expect_no_leak(attempt)
            self._expect_new(attempt, known)
        except Rejected as reason:
            return Item(counts={f"dropped/{reason}": 1})
        known.add(attempt.task.task_id, request_of(attempt.task))
        record = attempt.task.to_json() if not self._conversations else _with_scenario(attempt)
        num_calls = len(attempt.task.reference or ())
        return Item(records=(record,), origin={"index": number}, counts={"kept": 1, f"calls/{num_calls}": 1})

    def _expect_new(self, sample: Sample, known: TextIndex) -> None:
        """Neither a sample nor a benchmark has the request.

        Raises:
            Rejected: one has.
        """
        request = request_of(sample.task)
        nearest = known.most_similar(request)
        if nearest is not None and (nearest.exact or nearest.similarity >= NEAR_DUPLICATE):
            raise Rejected("the request is there already")
        for name, texts in self._against.items():
            met = texts.nearest(request)
            if met is not None and (met.exact or met.containment >= CONTAMINATED):
                raise Rejected(f"the request is met in {name}")


def _most_dropped(counts: Mapping[str, int]) -> str:
    dropped = {name.removeprefix("dropped/"): num for name, num in counts.items() if name.startswith("dropped/")}
    if not dropped:
        return ""
    reason = max(dropped, key=lambda one: dropped[one])
    return f"; most often dropped ({dropped[reason]}): {reason}"


def _request_in(record: Mapping[str, Json]) -> str:
    messages = record["prompt"] if "prompt" in record else record["messages"]
    texts = []
    for message in messages:
        if message["role"] == "assistant":
            break
        if message["role"] == "user":
            texts.append(message["content"])
    return "\n".join(texts)


def _with_scenario(sample: Sample) -> dict[str, Json]:
    facts = sample.task.facts
    return {**conversation_of(sample.trajectory), "scenario": facts["scenario"], "constraints": facts["constraints"]}


# The filters.


def expect_size(sample: Sample, *, min_calls: int, num_distractors: int) -> None:
    """As many calls and distractors are there as were asked for.

    Raises:
        Rejected: fewer are.
    """
    calls = sample.task.reference or ()
    if len(calls) < min_calls:
        raise Rejected("too few calls could be made")
    if len({tool.name for tool in sample.task.tools} - {call.name for call in calls}) < num_distractors:
        raise Rejected("too few tools are left to offer beside those that are called")


def expect_answerable(sample: Sample) -> None:
    """Every call succeeds, and each of its values is in the request, in an earlier result or in its document.

    Raises:
        Rejected: not so, or fewer than MIN_TOOLS tools are called.
    """
    trajectory = sample.trajectory
    texts = [message.content for message in sample.task.prompt]
    called: set[str] = set()
    for index, turn in enumerate(trajectory.turns):
        offered = {tool.name: tool for tool in trajectory.offered_tools(index)}
        context = Context(texts)
        for call in turn.message.calls:
            if not isinstance(call, ToolCall):
                raise Rejected("a call cannot be read")
            if call.name == FINISH or call.name in DEFERRALS:
                continue
            called.add(call.name)
            properties = offered[call.name].properties if call.name in offered else {}
            for name, value in call.arguments.items():
                if ungrounded_places(name, value, properties.get(name), context, defaults=True):
                    raise Rejected("a value is given by nothing that was read")
        if any(result.status is not ToolStatus.OK for result in turn.results):
            raise Rejected("a call failed")
        texts.extend(result.content for result in turn.results)
    if len(called) < MIN_TOOLS:
        raise Rejected(f"fewer than {MIN_TOOLS} tools are called")


def expect_no_leak(sample: Sample) -> None:
    """The request holds neither the name of an offered tool nor what only a result can tell.

    Raises:
        Rejected: it does.
    """
    request = request_of(sample.task)
    words = request.lower().split()
    for tool in sample.task.tools:
        is_word = tool.name.isalpha() and tool.name.islower()
        if not is_word and any(tool.name.lower() in word for word in words):
            raise Rejected("the request holds the name of a tool")
    context = Context([request])
    given = {str(value) for call in sample.task.reference or () for value in _leaves(dict(call.arguments))}
    for turn in sample.trajectory.turns:
        for result in turn.results:
            for value in _leaves(_json(result.content)):
                if _is_telling(value) and str(value) not in given and context.holds(value):
                    raise Rejected("the request holds a result")


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _leaves(value: Json) -> Iterator[Json]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_telling(value: Json) -> bool:
    """Whether a value would not stand in a request by chance: a number of two digits, a name, a code, a date."""
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, (int, float)):
        return abs(value) >= 10
    text = str(value)
    return len(text) > 2 and (any(map(str.isdigit, text)) or text[0].isupper())
