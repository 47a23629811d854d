"""`tether data preferences`: stored trajectories -> preference pairs, task by task."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from rich.console import Console

from envs.types import Json
from rl.console import make_progress
from rl.data.esm_pairs import MIN_GAP, binary, esm
from rl.data.job import Done, Item
from rl.data.minimal_pairs import minimal
from rl.data.pairs import NO_KIND, WITH_A_PAIR, Pair, Rule, Settings, why_not_exact
from rl.data.relign_pairs import relign_step, relign_trace
from rl.errors import BadInput
from rollout.parsers import PARSERS
from rollout.renderer import Renderer
from rollout.store import dataset_files, read_trajectories, step_of
from rollout.trajectory import Trajectory

RULES: Mapping[str, Rule] = {
    "relign-step": relign_step,
    "relign-trace": relign_trace,
    "esm": esm,
    "binary": binary,
    "minimal": minimal,
}
"""By the names that users give them."""

RELEASED = ("relign-step", "esm")
"""Rules of which the papers' releases have code."""

DEFAULT_GAPS: Mapping[str, float] = dict.fromkeys(RULES, 0.0) | {"esm": MIN_GAP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The trajectories of one task that stand together in a file."""

    path: Path
    step: int
    trajectories: tuple[Trajectory, ...]


class Groups:
    """The groups of a run directory or of Parquet files, in their order."""

    def __init__(self, path: Path) -> None:
        """Find the files.

        Raises:
            BadInput: there are none.
        """
        try:
            self.files = dataset_files(path, "trajectories")
        except ValueError as error:
            raise BadInput(str(error)) from error
        inner = path / "trajectories"
        self.root = inner if inner.is_dir() else path
        """What is read, without the other files of a run."""

    def __len__(self) -> int:
        return sum(len(list(groupby(_group_ids(path)))) for path in self.files)

    def __iter__(self) -> Iterator[Group]:
        for path in self.files:
            try:
                for _, members in groupby(read_trajectories(path), key=lambda one: one.group_id):
                    yield Group(path=path, step=step_of(path), trajectories=tuple(members))
            except ValueError as error:
                raise BadInput(str(error)) from error


def _group_ids(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=["group_id"]).column("group_id").to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BadInput(f"{path}: expected trajectories as Parquet: {error}") from error


class PairWork:
    """Makes the pairs of each group, drops what must not be learned, and keeps a share of each kind of error."""

    def __init__(
        self,
        groups: Iterable[Group],
        *,
        rule: Rule,
        settings: Settings,
        per_kind: int | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        """Describe the work.

        Args:
            groups: can be gone through more than once if `per_kind` is given.
            rule: makes the pairs.
            settings: of the rule.
            per_kind: most pairs of one kind of error; which ones is for the seed to say. None: all.
            renderer: pairs whose rendering is not what was sampled are dropped; None: that is not looked at.
        """
        self._groups = groups
        self._rule = rule
        self._settings = settings
        self._per_kind = per_kind
        self._renderer = renderer
        self._parser = PARSERS["hermes"] if renderer is None else renderer.parser
        self._kept: frozenset[str] | None = None

    def __call__(self, done: Done) -> Iterator[Item]:
        """One item for each group behind those that are done."""
        if self._per_kind is not None and self._kept is None:
            self._kept = self._drawn(self._per_kind, self._groups)
        seen = {str(record["pair_id"]) for record in done.records()}
        for group in islice(self._groups, done.num_items, None):
            yield self.item(group, seen)

    def draw(self, console: Console, total: int) -> None:
        """Say which pairs of each kind are kept: goes through all groups, with a bar. The work does so else, without.

        Args:
            console: shows the bar.
            total: number of groups.
        """
        if self._per_kind is None:
            return
        with make_progress(console) as progress:
            bar = progress.add_task("kinds of error", total=total)

            def watched() -> Iterator[Group]:
                for group in self._groups:
                    yield group
                    progress.advance(bar)

            self._kept = self._drawn(self._per_kind, watched())

    def item(self, group: Group, seen: set[str]) -> Item:
        """What comes of one group; adds the names of its pairs to `seen`."""
        found = self._rule(group.trajectories, self._settings)
        counts = Counter(found.counts)
        broken = sum(one.ending.is_failure for one in group.trajectories)
        if broken:
            counts["episodes that the infrastructure broke"] += broken
        records: list[Mapping[str, Json]] = []
        origins: list[Mapping[str, Json]] = []
        for pair, row in self._sound(found.pairs, counts):
            name = str(row["pair_id"])
            kind = pair.kind or NO_KIND
            if name in seen:
                counts["dropped/the same pair again"] += 1
            elif self._kept is not None and name not in self._kept:
                counts["dropped/enough of its kind"] += 1
            else:
                seen.add(name)
                counts[f"pairs/{kind}"] += 1
                if "parts_in" in pair.lineage:
                    counts[f"sides part in/{pair.lineage['parts_in']}"] += 1
                records.append(row)
                origins.append(pair.source())
        step = {"step": group.step} if group.step >= 0 else {}
        return Item(
            records=tuple(records), origin={"part": group.path.name, **step}, origins=tuple(origins), counts=counts
        )

    def _sound(self, pairs: Sequence[Pair], counts: Counter[str]) -> Iterator[tuple[Pair, dict[str, Json]]]:
        for pair in pairs:
            if pair.prompt[-1].role == "assistant":
                counts["dropped/nothing stands between two turns"] += 1
                continue
            row = pair.row(self._parser)
            reason = "" if self._renderer is None else why_not_exact(pair, row, self._renderer)
            if reason:
                counts[f"dropped/{reason}"] += 1
            else:
                yield pair, row

    def _drawn(self, num: int, groups: Iterable[Group]) -> frozenset[str]:
        """The names of the pairs that are kept: of each kind those `num` that the seed ranks first."""
        kinds: dict[str, set[str]] = defaultdict(set)
        for group in groups:
            found = self._rule(group.trajectories, self._settings)
            for pair, row in self._sound(found.pairs, Counter()):
                kinds[pair.kind or NO_KIND].add(str(row["pair_id"]))
        return frozenset(name for names in kinds.values() for name in heapq.nsmallest(num, names, key=self._rank))

    def _rank(self, name: str) -> str:
        return hashlib.blake2b(f"{self._settings.seed} {name}".encode()).hexdigest()


def figures(counts: Mapping[str, int]) -> dict[str, float]:
    """For the summary: the share of the contexts (replies, tasks) looked at of which a pair could be made."""
    looked_at = next((counts[name] for name in ("contexts", "replies", "tasks") if counts.get(name)), 0)
    return {"share with a pair": counts.get(WITH_A_PAIR, 0) / looked_at} if looked_at else {}
