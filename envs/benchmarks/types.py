"""What every reader of a benchmark gives: named subsets, and the tasks of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envs.benchmarks.dialogues import Dialogue
from envs.types import Message, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One public benchmark as files in a folder.

    A task of it has the id `NAME/SUBSET/RECORD`. Its `facts["benchmark"]` is a JSON object with all that the published
    metric needs and the policy does not see; `facts["gold_fault"]`, where present, names the known fault of the gold
    that the reader handled.
    """

    name: str
    subsets: tuple[str, ...]
    """In the order of reports."""
    read: Callable[[Path, str], Iterator[Task]]
    """Tasks of one subset in file order, from a folder. Raises ValueError: `FILE:LINE: what, expected`."""
    gold_faults: Mapping[str, str] = field(default_factory=dict)
    """Name of each known fault of the gold, and what the reader does about it."""
    uncounted_faults: frozenset[str] = frozenset()
    """Those of `gold_faults` that no task names: faults of documents, or of records that cannot be told."""
    traces: Callable[[Path], Iterator[Dialogue]] | None = None
    """Recorded episodes that come with the benchmark, from the same folder; errors as of `read`. Where a record is not
    complete, `task.facts["unjudged"]` lists {"turn", "call", "kinds"}: kinds of error that say nothing there."""
    to_actions: Callable[[Message], Message] | None = None
    """Rewrites the calls of an assistant message that end or defer in the benchmark's own way (ToolBench's Finish) as
    tether's actions, for tether's own rates."""
    from_actions: Callable[[Message], Message] | None = None
    """The inverse, for the published metric where tether's actions were offered."""
