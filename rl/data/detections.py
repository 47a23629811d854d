"""The work of `tether data detections`: episodes of detection -> those that pass the filters, pairs with the others.

Source: HaluAgent (arXiv 2406.11277), trajectory generation with its three filters: wrong invocation of a tool, error of
format, a verdict that is not the truth. The paper leaves the failed ones unused; here they are the rejected sides of
preference pairs.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from rich.console import Console

from envs.detection.demonstrator import Demonstrator
from envs.detection.env import DetectionEnv, make_task, offered
from envs.detection.prompts import Language, language_of
from envs.detection.toolbox import Toolbox
from envs.types import Json, MalformedCall, Message, Task, ToolSpec, ToolStatus
from rl.console import make_progress
from rl.data.conversations import conversation_of
from rl.data.episode_parts import EpisodeParts, expect_one_sound
from rl.data.job import Done, Item
from rl.data.pairs import Pair, Side, canonical
from rl.data.preferences import Group
from rl.errors import RunFailed
from rollout.engine import Policy
from rollout.episode import converse
from rollout.recorded import read_rows, shown
from rollout.trajectory import Ending, Trajectory

ENV = "envs.detection.env:DetectionEnv"
MAX_TURNS = 60
EXPECTED = '{"id": string or integer, "response": string, "question"?: string, "hallucinated": bool}'

INFRASTRUCTURE = "infrastructure"
_WRONG_TOOL = "wrong tool"
_FORMAT = "format"
_VERDICT = "verdict"


def read_labelled(path: Path, toolbox: Toolbox, *, language: Language | None = None, short: bool = False) -> list[Task]:
    """Responses whose truth is known, as tasks.

    Args:
        path: JSONL, .jsonl.gz or Parquet, as EXPECTED says.
        toolbox: the tools.
        language: of the instructions; None: that of each response.
        short: as of `make_task`.

    Raises:
        ValueError: the file cannot be read, or a row is no such response; says file and line.
    """
    tools, seen = offered(toolbox), set()
    tasks: list[Task] = []
    for row in read_rows(path):
        value = row.value
        item_id, response, question = value.get("id"), value.get("response"), value.get("question")
        if isinstance(item_id, bool) or not isinstance(item_id, str | int) or str(item_id) in seen:
            raise ValueError(f"{row.where}: id: got {shown(item_id)}, expected one of its own; {EXPECTED}")
        if not isinstance(response, str) or not isinstance(question, str | None):
            raise ValueError(f"{row.where}: response and question: expected strings; {EXPECTED}")
        if not isinstance(value.get("hallucinated"), bool):
            raise ValueError(f"{row.where}: hallucinated: got {shown(value.get('hallucinated'))}, expected {EXPECTED}")
        seen.add(str(item_id))
        tasks.append(
            make_task(
                str(item_id),
                question or "",
                response,
                tools=tools,
                language=language or language_of(response),
                hallucinated=value["hallucinated"],
                short=short,
            )
        )
    return tasks


# The filters.


def why_dropped(trajectory: Trajectory) -> str:
    """The first filter that an episode does not pass, with what it found; "" if it passes all."""
    if trajectory.ending.is_failure:
        return INFRASTRUCTURE
    statuses = [result.status for turn in trajectory.turns for result in turn.results]
    if any(isinstance(call, MalformedCall) for turn in trajectory.turns for call in turn.message.calls):
        return f"{_FORMAT}: a call that cannot be read"
    if ToolStatus.UNKNOWN_TOOL in statuses:
        return f"{_WRONG_TOOL}: it is not offered"
    if ToolStatus.INVALID_ARGUMENTS in statuses:
        return f"{_WRONG_TOOL}: its arguments do not fit"
    if ToolStatus.FAILED in statuses:
        return f"{_WRONG_TOOL}: there was nothing for it to do"
    if ToolStatus.TIMED_OUT in statuses:
        return f"{_WRONG_TOOL}: it did not end"
    if any(not turn.message.calls for turn in trajectory.turns):
        return f"{_FORMAT}: text in the place of a call"
    if trajectory.ending is not Ending.COMPLETED or not trajectory.outcome.finished:
        return f"{_VERDICT}: none"
    facts = trajectory.outcome.facts
    if facts.get("hallucinated") is None:
        return f"{_VERDICT}: undecided"
    if all(row["label"] is None for row in facts["sentences"]):
        return f"{_VERDICT}: guessed, nothing was checked"
    return "" if facts.get("success") else f"{_VERDICT}: wrong"


# Sampling.

Sample = Callable[[Task, str], Awaitable[Sequence[Trajectory]]]
"""The episodes of one task; the name is that of their group."""


def policy_sampler(make_policy: Callable[[Task, int], Policy], toolbox: Toolbox, *, num: int, at_once: int) -> Sample:
    """Episodes by a policy in message space: rules or an endpoint.

    Args:
        make_policy: gives the policy of sample number i of a task.
        toolbox: the tools.
        num: episodes of each task.
        at_once: episodes under way.
    """
    slots = asyncio.Semaphore(at_once)

    async def episode(task: Task, group: str, number: int) -> Trajectory:
        async with slots:
            found = await converse(
                task,
                lambda task: DetectionEnv(task, toolbox),
                make_policy(task, number),
                trajectory_id=f"{group}-{number}",
                max_turns=MAX_TURNS,
            )
        return replace(found, group_id=group)

    async def sample(task: Task, group: str) -> Sequence[Trajectory]:
        return await asyncio.gather(*[episode(task, group, number) for number in range(num)])

    return sample


class SlippingRules:
    """The rules with deliberate slips, as a policy of one episode."""

    def __init__(self, task: Task, *, seed: int, slips: float, thoughts: bool) -> None:
        """Prepare.

        Args:
            task: of the episode.
            seed: decides the slips, together with the task.
            slips: probability of a slip at each check.
            thoughts: whether each call is explained in a sentence before it.
        """
        self._demonstrator = Demonstrator(task, seed=seed, slips=slips, thoughts=thoughts)

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Message:
        """The next message."""
        return self._demonstrator.reply(messages, tools, None)[0]


def together(*samplers: Sample) -> Sample:
    """The episodes of several samplers as one group."""

    async def sample(task: Task, group: str) -> Sequence[Trajectory]:
        found: list[Trajectory] = []
        for number, one in enumerate(samplers):
            episodes = await one(task, group if number == 0 else f"{group}-beside")
            found += [replace(episode, group_id=group) for episode in episodes]
        return found

    return sample


async def sample_missing(
    parts: EpisodeParts, tasks: Sequence[Task], sample: Sample, console: Console, *, skip_failed: bool = False
) -> None:
    """Sample the tasks that are not there yet, part by part, and those again in which an engine failed.

    Args:
        parts: the folder.
        tasks: all of them.
        sample: gives the episodes of one.
        console: shows a bar.
        skip_failed: leave what failed as it is.

    Raises:
        RunFailed: an engine failed, and that is not to be skipped; or the infrastructure broke every episode of a part.
    """
    missing = parts.missing(len(tasks)) if skip_failed else parts.unfinished(len(tasks))
    failed: list[Trajectory] = []
    with make_progress(console) as progress:
        bar = progress.add_task("responses", total=len(tasks), completed=len(tasks) - sum(map(len, missing)))

        async def one(index: int, kept: Mapping[str, Sequence[Trajectory]]) -> Sequence[Trajectory]:
            name = f"item-{index}"
            found = kept[name] if name in kept else await sample(tasks[index], name)
            progress.advance(bar)
            return found

        for part in missing:
            kept = parts.sound(part)
            groups = await asyncio.gather(*[one(index, kept) for index in part])
            expect_one_sound(groups)
            parts.write(part, groups, ENV)
            failed += [one for group in groups for one in group if one.ending is Ending.ENGINE_FAILED]
    if failed and not skip_failed:
        reason = (failed[0].error.strip().splitlines() or ["no reason given"])[-1]
        raise RunFailed(
            f"{len(failed)} episodes failed by the engine or endpoint ({reason}); the rest are kept in {parts.folder}: "
            "the same call samples these again, --skip-failed leaves them out"
        )


# What is kept.


class Conversations:
    """The episodes that pass the filters, as conversations."""

    def __init__(self, groups: Iterable[Group], *, max_kept: int) -> None:
        """Say which.

        Args:
            groups: the episodes, task by task.
            max_kept: of one task; the same conversation is kept once.
        """
        self._groups = groups
        self._max_kept = max_kept

    def __call__(self, done: Done) -> Iterator[Item]:
        """One item for each task behind those that are done."""
        for group in islice(self._groups, done.num_items, None):
            yield self._item(group)

    def _item(self, group: Group) -> Item:
        kept, counts = sifted(group.trajectories)
        if len(kept) > self._max_kept:
            counts["dropped/enough of its response"] += len(kept) - self._max_kept
            kept = kept[: self._max_kept]
        for trajectory in kept:
            counts["kept"] += 1
            counts[f"kept of language/{trajectory.task.facts['language']}"] += 1
            counts[f"kept of kind/{trajectory.task.kind}"] += 1
        return Item(
            records=tuple(_record(trajectory) for trajectory in kept),
            origin={"part": group.path.name},
            origins=tuple({"trajectory": trajectory.trajectory_id} for trajectory in kept),
            counts=counts,
        )


class PreferencePairs:
    """The episodes that fail a filter, each against one of the same task that passes."""

    def __init__(self, groups: Iterable[Group], *, max_rejected: int, at_parting: bool = False) -> None:
        """Say which.

        Args:
            groups: the episodes, task by task.
            max_rejected: pairs of one task.
            at_parting: what both have in common is the prompt, and each side is the first message in which they differ;
                else the sides are whole episodes. What a failed episode does rightly after its error is then not
                rejected with it.
        """
        self._groups = groups
        self._max_rejected = max_rejected
        self._at_parting = at_parting

    def __call__(self, done: Done) -> Iterator[Item]:
        """One item for each task behind those that are done."""
        for group in islice(self._groups, done.num_items, None):
            yield self._item(group)

    def _item(self, group: Group) -> Item:
        kept, counts = sifted(group.trajectories)
        failed = _distinct([one for one in group.trajectories if why_dropped(one) not in ("", INFRASTRUCTURE)])
        failed = [one for one in failed if one.turns]
        if not kept or not failed:
            counts[f"no pair/{'no episode passes' if not kept else 'no episode fails'}"] += 1
            return Item(origin={"part": group.path.name}, counts=counts)
        make = _pair_at_parting if self._at_parting else _pair
        pairs = list({pair.row()["pair_id"]: pair for one in failed if (pair := make(kept[0], one))}.values())
        pairs = pairs[: self._max_rejected]
        for pair in pairs:
            counts[f"pairs/{pair.kind}"] += 1
        return Item(
            records=tuple(pair.row() for pair in pairs),
            origin={"part": group.path.name},
            origins=tuple(pair.source() for pair in pairs),
            counts=counts,
        )


def sifted(trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], Counter[str]]:
    """The distinct episodes that pass the filters, and the counts of all."""
    counts: Counter[str] = Counter({"episodes": len(trajectories)})
    passed: list[Trajectory] = []
    for trajectory in trajectories:
        reason = why_dropped(trajectory)
        if reason:
            counts[f"dropped/{reason}"] += 1
        else:
            passed.append(trajectory)
    kept = _distinct(passed)
    if len(kept) < len(passed):
        counts["dropped/the same episode again"] += len(passed) - len(kept)
    return kept, counts


def _distinct(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    found: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        found.setdefault(json.dumps([canonical(turn.message) for turn in trajectory.turns]), trajectory)
    return list(found.values())


def _record(trajectory: Trajectory) -> dict[str, Json]:
    facts = trajectory.outcome.facts
    return {
        **conversation_of(trajectory),
        "id": trajectory.trajectory_id,
        "task_id": trajectory.task.task_id,
        "language": trajectory.task.facts["language"],
        "hallucinated": facts["hallucinated"],
    }


def _pair(chosen: Trajectory, rejected: Trajectory) -> Pair:
    return Pair(
        prompt=chosen.task.prompt,
        tools=chosen.tools,
        chosen=_side(chosen, 1.0),
        rejected=_side(rejected, 0.0),
        kind=why_dropped(rejected),
        lineage={"task": chosen.task.task_id, "group": chosen.group_id},
    )


def _pair_at_parting(chosen: Trajectory, rejected: Trajectory) -> Pair | None:
    """The messages in which two episodes part, behind what they share; None if one is the beginning of the other."""
    said = [[canonical(turn.message) for turn in one.turns] for one in (chosen, rejected)]
    turn = next((index for index, (one, other) in enumerate(zip(*said, strict=False)) if one != other), None)
    if turn is None:
        return None
    sides = [
        Side(messages=(one.turns[turn].message,), score=score, trajectory_id=one.trajectory_id)
        for one, score in ((chosen, 1.0), (rejected, 0.0))
    ]
    return Pair(
        prompt=chosen.messages_before(turn),
        tools=chosen.tools,
        chosen=sides[0],
        rejected=sides[1],
        kind=why_dropped(rejected),
        lineage={"task": chosen.task.task_id, "group": chosen.group_id, "turn": turn},
    )


def _side(trajectory: Trajectory, score: float) -> Side:
    messages = trajectory.messages_before(len(trajectory.turns) - 1)
    return Side(
        messages=(*messages[len(trajectory.task.prompt) :], trajectory.turns[-1].message),
        score=score,
        trajectory_id=trajectory.trajectory_id,
        token_ids=trajectory.token_ids[: trajectory.turns[-1].end] if len(trajectory.token_ids) else None,
    )


def figures(counts: Mapping[str, int]) -> dict[str, float]:
    """For the summary: the share of the episodes that passes the filters."""
    num = counts.get("episodes", 0)
    failed = sum(
        value
        for name, value in counts.items()
        if name.startswith(tuple(f"dropped/{reason}" for reason in (_WRONG_TOOL, _FORMAT, _VERDICT, INFRASTRUCTURE)))
    )
    return {"share that passes the filters": (num - failed) / num} if num else {}
