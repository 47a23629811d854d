"""The parts of a run that come one after the other: `first` of a recipe, then the recipe itself.

    RUN/first/      a whole run of its own: run.json, metrics, checkpoints, evaluation/before
    RUN/            the last part: goes on with the newest checkpoint of RUN/first

A part that was finished is not run again when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rl import checkpoint
from rl.config import RESOLVED_NAME, Config, write_resolved

FIRST = "first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as it has to be run now."""

    config: Config
    """With the model to start from, and `resume` only if this part was begun."""
    directory: Path
    """Where it is run: the run's own for the last part."""
    is_last: bool


def directories(run: Path) -> list[Path]:
    """The folders of a run's parts in order; the last is the run's own."""
    first = run / FIRST
    return [*(directories(first) if (first / RESOLVED_NAME).is_file() else []), run]


def parts_to_run(config: Config, directory: Path, *, is_last: bool = True) -> Iterator[Part]:
    """The parts that are not finished, in order; each is decided on when the one before it has ended."""
    if config.first is None:
        yield Part(config=config, directory=directory, is_last=is_last)
        return
    first = directory / FIRST
    begun = checkpoint.latest(directory / "checkpoints") is not None
    if not begun and not is_finished(config.first, first):
        first.mkdir(exist_ok=True)
        resumed = config.first.model_copy(update={"resume": str(first) if can_be_resumed(first) else ""})
        write_resolved(resumed, first)
        yield from parts_to_run(resumed, first, is_last=False)
    own = config.model_copy(update={"resume": config.resume if begun else ""})
    left = checkpoint.latest(first / "checkpoints")
    if left is not None:
        model = config.model.model_copy(update={"path": str(left), "init": None})
        own = own.model_copy(update={"model": model})
    yield Part(config=own, directory=directory, is_last=is_last)


def can_be_resumed(run: Path) -> bool:
    """Whether any part of the run left a checkpoint."""
    return any(checkpoint.latest(folder / "checkpoints") for folder in directories(run))


def is_finished(config: Config, directory: Path) -> bool:
    """Whether the part in `directory` has made all its steps, or used up its time."""
    newest = checkpoint.latest(directory / "checkpoints")
    if newest is None:
        return False
    state = checkpoint.read_state(newest)
    run = config.run
    return state["step"] >= run.steps or (bool(run.max_seconds) and state["elapsed"] >= run.max_seconds)


def seconds_before(directory: Path) -> float:
    """Seconds of learning in the parts before the last one of the run in `directory`."""
    newest = [checkpoint.latest(folder / "checkpoints") for folder in directories(directory)[:-1]]
    return sum(float(checkpoint.read_state(folder)["elapsed"]) for folder in newest if folder is not None)
