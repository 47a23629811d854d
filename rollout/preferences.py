"""Files of preferences: two ways to go on after one prompt, the better and the worse one, as two trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from envs.types import Json, ToolSpec
from rollout.demonstrations import from_messages
from rollout.recorded import Row, listed, read_rows, roles_of, shown, task_of_messages, tools_of
from rollout.renderer import Renderer
from rollout.trajectory import Ending, Trajectory

PAIR_FIELDS = ("prompt", "chosen", "rejected", "tools", "pair_id", "kind", "source", "weight")
"""Fields of a preference; the first three are required. `source` says where the pair comes from, and is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPair:
    """One row of a file of preferences."""

    where: str
    """File and line (or row), for messages."""
    prompt: tuple[Json, ...]
    """What both sides have read, in OpenAI form; earlier turns of the assistant are context."""
    chosen: tuple[Json, ...]
    """What is better, from a message of the assistant on."""
    rejected: tuple[Json, ...]
    tools: tuple[ToolSpec, ...]
    pair_id: str = ""
    """The file's own name for it; "": none."""
    kind: str = ""
    """What is wrong with the rejected side; "": not said."""
    weight: float = 1.0
    """How much it counts in the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryPair:
    """A preference in tokens. Only the turns of `chosen` and `rejected` are to be learned from."""

    chosen: Trajectory
    rejected: Trajectory
    weight: float

    @property
    def fits(self) -> bool:
        """Whether neither side was cut by the context."""
        return Ending.MAX_TOKENS not in (self.chosen.ending, self.rejected.ending)


def read_preferences(path: str | Path) -> Iterator[RecordedPair]:
    """Read the preferences of a JSONL file (also .gz) or a Parquet file, one a line or row.

    Lists may also be JSON strings, as they often are in Parquet. Fields that are not known are left alone.

    Raises:
        ValueError: the file cannot be read or a row is wrong; says file, line and what was expected.
    """
    for row in read_rows(path, columns=PAIR_FIELDS):
        try:
            pair = _pair(row)
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error
        yield pair


def read_pairs(path: str | Path, renderer: Renderer) -> Iterator[TrajectoryPair]:
    """The preferences of a file as pairs of trajectories, each pair a group of its own.

    Raises:
        ValueError: as `read_preferences`.
    """
    name = Path(path).name
    for number, recorded in enumerate(read_preferences(path)):
        # A name of the file's own need not be unique.
        pair_id = f"{name}:{number}"
        try:
            yield TrajectoryPair(
                chosen=_side(recorded, recorded.chosen, renderer, pair_id, "chosen"),
                rejected=_side(recorded, recorded.rejected, renderer, pair_id, "rejected"),
                weight=recorded.weight,
            )
        except ValueError as error:
            raise ValueError(f"{recorded.where}: {error}") from error


def _side(
    recorded: RecordedPair, completion: tuple[Json, ...], renderer: Renderer, pair_id: str, name: str
) -> Trajectory:
    messages = [*recorded.prompt, *completion]
    trajectory = from_messages(
        task_of_messages(messages, recorded.tools, pair_id),
        messages,
        recorded.tools,
        renderer,
        trajectory_id=f"{pair_id}:{name}",
        group_id=pair_id,
    )
    num_context = roles_of(recorded.prompt, "prompt").count("assistant")
    turns = tuple(
        replace(turn, train=False) if index < num_context else turn for index, turn in enumerate(trajectory.turns)
    )
    return replace(trajectory, turns=turns)


def _pair(row: Row) -> RecordedPair:
    prompt = listed(row.value, "prompt")
    roles = roles_of(prompt, "prompt")
    if not roles or "assistant" in (roles[0], roles[-1]):
        raise ValueError("prompt: expected messages, the first and the last of another role than assistant")
    sides: dict[str, list[Json]] = {}
    for name in ("chosen", "rejected"):
        sides[name] = listed(row.value, name)
        if roles_of(sides[name], name)[:1] != ["assistant"]:
            raise ValueError(f"{name}: expected messages, the first of role assistant")
    if sides["chosen"] == sides["rejected"]:
        raise ValueError("chosen and rejected are the same")
    return RecordedPair(
        where=row.where,
        prompt=tuple(prompt),
        chosen=tuple(sides["chosen"]),
        rejected=tuple(sides["rejected"]),
        tools=tools_of(row.value),
        pair_id=_text(row.value, "pair_id"),
        kind=_text(row.value, "kind"),
        weight=_weight(row.value),
    )


def _text(row: Mapping[str, Json], name: str) -> str:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise ValueError(f"{name}: expected a string, got {shown(value)}")
    return "" if value is None else str(value)


def _weight(row: Mapping[str, Json]) -> float:
    value = row.get("weight")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"weight: expected a positive number, got {shown(value)}")
    return float(value)
