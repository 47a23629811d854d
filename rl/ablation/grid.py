"""What an ablation runs: the `[ablate]` table of a recipe as cells, each a `tether train` with overrides.

[ablate]
seeds = [1, 2, 3]

[ablate.grid.masking]                  an axis; its options are tables of what differs from the recipe
plain = { source.mask_errors = false }
mae   = { source.mask_errors = true }

[ablate.grid.rl]                       with a second axis, every option of one meets every option of the other
none = {}
ppo  = { recipe = "ppo_tiny" }

[ablate.beside.control]                a cell of its own
recipe = "sft_control_tiny"

[ablate.shown]                         cells of other ablations, for comparison; run there, not here
sft = "other_ablation/sft"

The first cell of all is what the others are compared with.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from rl import config as configs
from rl.config import Section
from rl.errors import BadInput

WORK = "{work}"
"""Stands for the ablation's working folder, in steps of preparation and in overrides."""

_NAME = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*")
_ORIGIN = re.compile(rf"{_NAME.pattern}/{_NAME.pattern}")


class Ablation(Section):
    """The `[ablate]` table."""

    # Overrides are any TOML, so they are checked with the run that they make.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    seeds: list[int] = Field(default=[1, 2, 3], min_length=1)
    prepare: list[list[str]] = Field(default_factory=list)
    """`tether` commands, run once before the cells, whose files the cells read; {work} is the working folder."""
    common: dict[str, Any] = Field(default_factory=dict)
    """What differs from the recipe in every cell."""
    grid: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """Axis -> option -> what differs from the recipe; every combination of options is a cell."""
    beside: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Cells outside the grid."""
    shown: dict[str, str] = Field(default_factory=dict)
    """Cells of other ablations that the tables show first, as ABLATION/CELL: what was run there is not run again."""

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds {seeds}: expected different ones")
        return seeds

    @model_validator(mode="after")
    def _named(self) -> Ablation:
        if not self.grid and not self.beside:
            raise ValueError("ablate: expected an axis in ablate.grid or a cell in ablate.beside")
        options = [name for axis in self.grid.values() for name in axis]
        for name in (*self.grid, *options, *self.beside, *self.shown):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r}: expected a name of letters, digits, '_', '.' and single '-'")
        wrong = [name for name, origin in self.shown.items() if not _ORIGIN.fullmatch(origin)]
        if wrong:
            raise ValueError(f"ablate.shown.{wrong[0]}: expected ABLATION/CELL")
        empty = [axis for axis, found in self.grid.items() if not found]
        if empty:
            raise ValueError(f"ablate.grid.{empty[0]}: expected options")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One variant."""

    name: str
    options: Mapping[str, str]
    """Axis -> option; empty for a cell beside the grid."""
    recipe: str
    overrides: tuple[str, ...]
    """`key=value` words of `tether train`."""
    origin: str = ""
    """ABLATION/CELL whose results are shown; "": the cell is run."""

    def words(self, seed: int, work: Path) -> list[str]:
        """The overrides of one run of the cell."""
        return [*(word.replace(WORK, str(work)) for word in self.overrides), f"run.seed={seed}"]


def read(recipe: str) -> Ablation:
    """The `[ablate]` table of a recipe.

    Raises:
        BadInput: the recipe has none, or one that is wrong; names the key.
    """
    path = configs.find(recipe, "recipe")
    table = configs.read_table(path).get(configs.ABLATE)
    if table is None:
        raise BadInput(f"{path}: expected a table [ablate] with a grid of variants")
    try:
        return Ablation.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["ablate", *(str(part) for part in first["loc"])])
        raise BadInput(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def cells(ablation: Ablation, recipe: str) -> list[Cell]:
    """All cells; the first one is the baseline.

    Those of other ablations, those beside the grid, then every combination of the axes' options in their order.

    Args:
        ablation: of the recipe.
        recipe: what cells run that name no other.

    Raises:
        BadInput: two cells have the same name.
    """
    found = [
        Cell(name=name, options={}, recipe="", overrides=(), origin=origin) for name, origin in ablation.shown.items()
    ]
    found += [_cell(name, {}, [ablation.common, own], recipe) for name, own in ablation.beside.items()]
    axes = [[(axis, name, own) for name, own in options.items()] for axis, options in ablation.grid.items()]
    for chosen in itertools.product(*axes) if axes else ():
        name = "-".join(option for _, option, _ in chosen)
        options = {axis: option for axis, option, _ in chosen}
        found.append(_cell(name, options, [ablation.common, *(own for *_, own in chosen)], recipe))
    names = [cell.name for cell in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"ablate: two cells are named {twice}")
    return found


def _cell(name: str, options: Mapping[str, str], tables: list[dict[str, Any]], recipe: str) -> Cell:
    own = [table["recipe"] for table in tables if "recipe" in table]
    if not all(isinstance(value, str) for value in own):
        raise BadInput(f"ablate: cell {name}: recipe: expected a name")
    leaves = [leaf for table in tables for leaf in _leaves({k: v for k, v in table.items() if k != "recipe"}, "")]
    return Cell(
        name=name,
        options=options,
        recipe=own[-1] if own else recipe,
        overrides=tuple(f"{key}={_toml(value)}" for key, value in leaves),
    )


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    # A new factory drops the options of the old one, so it comes before its own.
    for key, value in sorted(table.items(), key=lambda item: item[0] != "factory"):
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
