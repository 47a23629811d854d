"""What one data set has in common with others: requests, parts of requests, tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from envs.actions import ACTION_NAMES
from envs.types import Json, Task, ToolSpec
from rl.data.datasets import DataSet
from rl.data.job import Done, Item
from rl.data.overlap import NGRAM, TextIndex, ToolIndex, plain_name, plain_signature, request_of
from rl.report.rows import Cells

THRESHOLD = 0.5
"""From this share of its n-grams on a request counts as overlapping."""

EXACT, OVERLAPPING = "requests alike", "requests overlapping"
OFFERED, CALLED = "tasks that offer one of its tools", "tasks whose right calls use one of its tools"
NAMES, SIGNATURES = "tools of the same name", "tools of the same signature"
ROWS = (EXACT, OVERLAPPING, OFFERED, CALLED, NAMES, SIGNATURES)
TASKS, TOOLS, DISTINCT = "tasks", "tools", "signatures"
_TOTAL = {NAMES: TOOLS, SIGNATURES: DISTINCT}
"""What a row is a share of, where it is not of the tasks."""


class Overlaps:
    """The work of `tether data contamination`: for each task of a data set, what others have of it."""

    def __init__(
        self, dataset: DataSet, others: Sequence[DataSet], *, ngram: int = NGRAM, threshold: float = THRESHOLD
    ) -> None:
        """Read the other data sets in.

        Args:
            dataset: whose tasks are looked for.
            others: where; by distinct names.
            ngram: words of an n-gram.
            threshold: share of a request's n-grams from which on it counts as overlapping.
        """
        self._dataset = dataset
        self._threshold = threshold
        self._texts: dict[str, TextIndex] = {}
        self._tools: dict[str, ToolIndex] = {}
        for other in others:
            texts = self._texts[other.name] = TextIndex(ngram)
            for task in other.tasks:
                texts.add(task.task_id, request_of(task))
            self._tools[other.name] = ToolIndex(_tools(other.tools()))

    def __call__(self, done: Done) -> Iterator[Item]:
        """The tasks that are not done."""
        for index in range(done.num_items, len(self._dataset.tasks)):
            record, counts = self._overlap(self._dataset.tasks[index])
            if index == 0:
                counts.update(self._distinct_tools())
            yield Item(records=(record,), origin={"index": index}, counts=counts)

    def _overlap(self, task: Task) -> tuple[dict[str, Json], Counter[str]]:
        counts = Counter({TASKS: 1})
        request, found = request_of(task), {}
        called = {call.name for call in task.reference or ()} - ACTION_NAMES
        for name, texts in self._texts.items():
            tools, nearest = self._tools[name], texts.nearest(request)
            shared = [tool.name for tool in _tools(task.tools) if plain_name(tool.name) in tools.names]
            counts[f"{name}/{EXACT}"] = int(nearest is not None and nearest.exact)
            counts[f"{name}/{OVERLAPPING}"] = int(nearest is not None and nearest.containment >= self._threshold)
            counts[f"{name}/{OFFERED}"] = int(bool(shared))
            counts[f"{name}/{CALLED}"] = int(any(tool in called for tool in shared))
            found[name] = {
                "exact": nearest is not None and nearest.exact,
                "containment": round(nearest.containment, 4) if nearest else 0.0,
                "nearest": nearest.name if nearest else None,
                "tools": shared,
                "signatures": [tool.name for tool in _tools(task.tools) if plain_signature(tool) in tools.signatures],
            }
        return {"id": task.task_id, "request": request, "overlaps": found}, counts

    def _distinct_tools(self) -> Counter[str]:
        mine = ToolIndex(_tools(self._dataset.tools()))
        counts = Counter({TOOLS: len(mine.names), DISTINCT: len(mine.signatures)})
        for name, tools in self._tools.items():
            counts[f"{name}/{NAMES}"] = len(mine.names & tools.names)
            counts[f"{name}/{SIGNATURES}"] = len(mine.signatures & tools.signatures)
        return counts


def _tools(tools: Iterable[ToolSpec]) -> list[ToolSpec]:
    """The tools without those that end or defer, which every data set may have."""
    return [tool for tool in tools if plain_name(tool.name).replace(" ", "_") not in ACTION_NAMES]


def cells(counts: Mapping[str, int]) -> Cells:
    """The table of the report: a column for each of the other data sets."""
    names = list(dict.fromkeys(name.partition("/")[0] for name in counts if "/" in name))
    rows = []
    for row in ROWS:
        total = counts[_TOTAL.get(row, TASKS)]
        shares = [_share(counts.get(f"{name}/{row}", 0), total) for name in names]
        rows.append((row, *shares))
    return Cells(
        title="Overlap", header=(f"of {counts[TASKS]} tasks and {counts[TOOLS]} tools", *names), rows=tuple(rows)
    )


def _share(num: int, total: int) -> str:
    return f"{num} ({num / total:.1%})" if total else "0"
