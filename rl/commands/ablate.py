"""Run a grid of variants of a recipe with several seeds, and print what each came to, with intervals.

The recipe's table [ablate] says what varies: axes whose options are combined, cells beside the grid, cells of other
ablations that are shown for comparison, seeds, and steps of preparation; the first cell is the baseline. Runs go side
by side, each on a core of its own, one seed of every cell before the second of any. Each leaves one JSON file, written
as it ends; what has one is not run again, so the command goes on where it was stopped. Tables are made from the files.

  tether ablate masking_ablation_tiny
  tether ablate my/recipe.toml one_core --out results --jobs 2 --seeds 1
  tether ablate masking_ablation_tiny --table             only the tables, from what is there
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from rl import config as configs
from rl.ablation import grid
from rl.ablation.grid import Cell
from rl.config import Config
from rl.console import make_console, make_progress
from rl.errors import BadInput, RunFailed

DEFAULT_CLUSTER = "one_core"
TABLE_NAME = "table.md"


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether ablate RECIPE [CLUSTER] [options]"
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file, or the name of a shipped one, with [ablate]")
    parser.add_argument(
        "cluster",
        metavar="CLUSTER",
        nargs="?",
        default=DEFAULT_CLUSTER,
        help=f"where each run is run (default: {DEFAULT_CLUSTER})",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the results (default: docs/ablations/RECIPE)"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder of runs and logs (default: runs/ablate-RECIPE)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="run only these of the recipe's seeds (default: all)"
    )
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="runs at a time (default: one a core)")
    parser.add_argument("--table", action="store_true", help="run nothing, make the tables")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, and print the tables."""
    ablation = grid.read(arguments.recipe)
    cells = grid.cells(ablation, arguments.recipe)
    name = Path(arguments.recipe).stem
    out: Path = arguments.out or Path("docs/ablations") / name
    work: Path = (arguments.work or Path("runs") / f"ablate-{name}").absolute()
    num_cores = len(os.sched_getaffinity(0))
    num_jobs = arguments.jobs or num_cores
    if not 1 <= num_jobs <= num_cores:
        raise BadInput(f"--jobs {num_jobs}: expected 1 to {num_cores}, the cores there are")
    console = make_console()
    faults = []
    if not arguments.table:
        faults = _run(console, arguments.cluster, ablation, _seeds(arguments, ablation), cells, out, work, num_jobs)
    _report(console, name, cells, ablation.seeds, out)
    if faults:
        raise RunFailed(f"{len(faults)} runs left no result, the first: {faults[0]}")
    return 0


def _seeds(arguments: argparse.Namespace, ablation: grid.Ablation) -> list[int]:
    chosen = arguments.seeds or ablation.seeds
    unknown = sorted(set(chosen) - set(ablation.seeds))
    if unknown:
        raise BadInput(f"--seeds {unknown[0]}: expected seeds of the recipe, {', '.join(map(str, ablation.seeds))}")
    return chosen


def _run(
    console: Console,
    cluster: str,
    ablation: grid.Ablation,
    seeds: Sequence[int],
    cells: Sequence[Cell],
    out: Path,
    work: Path,
    num_jobs: int,
) -> list[str]:
    """Run what is missing; returns why runs left no result."""
    from rl.ablation.runner import Ended, pending, prepare, run_all
    from rl.commands.train import check

    for folder in (out, work):
        configs.check_directory(folder)
    try:
        runs = pending(out, cells, seeds)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not runs:
        return []
    _load(cells, cluster, ablation.seeds[0], work)
    work.mkdir(parents=True, exist_ok=True)
    console.print(f"{len(runs)} runs of {len(cells)} cells, {num_jobs} at a time; logs in {work}", markup=False)
    if ablation.prepare:
        console.print(f"preparing in {len(ablation.prepare)} steps")
        prepare(ablation.prepare, work)
    for cell, config in _load(cells, cluster, ablation.seeds[0], work):
        with _named(cell):
            check(config)
    faults = []
    with make_progress(console) as progress:
        bar = progress.add_task("runs", total=len(runs))

        def ended(one: Ended) -> None:
            progress.advance(bar)
            console.print(f"{one.run.name}: {one.fault or 'done'}", markup=False, soft_wrap=True)
            if one.fault:
                faults.append(f"{one.run.name}: {one.fault}")

        run_all(runs, cluster=cluster, work=work, out=out, num_jobs=num_jobs, ended=ended)
    return faults


def _load(cells: Sequence[Cell], cluster: str, seed: int, work: Path) -> list[tuple[Cell, Config]]:
    """The run that each cell means.

    Raises:
        BadInput: names the cell.
    """
    found = []
    for cell in cells:
        if cell.origin:
            continue
        with _named(cell):
            config = configs.load(cell.recipe, cluster, cell.words(seed, work))
            if not config.evaluation.after:
                raise BadInput("evaluation.after: expected true, nothing else is compared")
            found.append((cell, config))
    return found


@contextmanager
def _named(cell: Cell) -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        raise BadInput(f"cell {cell.name}: {error}") from error


def _report(console: Console, name: str, cells: Sequence[Cell], seeds: Sequence[int], out: Path) -> None:
    from rl.ablation.results import cell_path, read_cells, tables, write_tables
    from rl.report.console import table

    try:
        found = read_cells(out, cells, seeds)
        parts = tables(found)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not found:
        console.print(f"no results in {out}", markup=False)
        return
    for cells_of_table in parts:
        console.print()
        console.print(table(cells_of_table))
    write_tables(out / TABLE_NAME, f"Ablation {name}", parts)
    absent = [cell for cell in cells if cell.origin and not cell_path(out, cell, seeds[0]).is_file()]
    if absent:
        other = absent[0].origin.split("/")[0]
        console.print(f"\nnot there: {absent[0].origin}, seed {seeds[0]} (tether ablate {other})", markup=False)
    console.print(
        f"\n{sum(map(len, found.values()))} runs of {len(cells) * len(seeds)}; {out / TABLE_NAME}", markup=False
    )
