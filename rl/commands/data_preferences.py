"""Make preference pairs of sampled episodes: replies to one context, or whole traces, of which one is better.

IN is a run directory, or the trajectories of one as Parquet (docs/formats.md); the episodes of one task have to stand
together, several of them for every rule but `minimal` (`source.group_size`, `tether rollout --group-size 8 --out`).
OUT holds what `source.preferences` of a recipe reads.

  --rule relign-step    at one step a clean call over an action over a hallucinated call (Relign)
  --rule relign-trace   the best trace of a task over those that rank lower (Relign)
  --rule esm            a right reply over those that TTPA's error-oriented score puts below it
  --rule binary         a right reply over any other, however wrong
  --rule minimal        an erroneous call against the same call put right, where the correction is certain

What was looked at and why no pair came of it is counted in OUT.summary.json.

  tether data preferences runs/ppo_tiny-20260101-120000 --rule minimal --out pairs.jsonl
  tether data preferences episodes --rule esm --min-gap 0.1 --per-kind 200 --model package:tiny --out pairs.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rl.errors import BadInput

if TYPE_CHECKING:
    from rollout.renderer import Renderer


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", metavar="IN", type=Path)
    parser.add_argument("--rule", required=True, choices=("relign-step", "relign-trace", "esm", "binary", "minimal"))
    parser.add_argument(
        "--preset",
        choices=("stated", "released"),
        default="stated",
        help="released: as the paper's code does it, faults included; of relign-step and esm (default: stated)",
    )
    add_selection(parser)
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="drop pairs that its chat template does not render to the tokens that were sampled; must be the model "
        "that sampled them",
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options that say which pairs are kept."""
    group = parser.add_argument_group("which pairs are kept")
    group.add_argument(
        "--min-gap", type=float, metavar="GAP", help="of the two scores (default: 0.05 for esm, else any gap)"
    )
    group.add_argument(
        "--max-rejected",
        type=int,
        default=4,
        metavar="N",
        help="pairs of one context, or of one task for relign-trace (default: 4)",
    )
    group.add_argument("--per-kind", type=int, metavar="N", help="pairs of each kind of error (default: all)")


def check_selection(arguments: argparse.Namespace) -> None:
    """Refuse options that leave nothing.

    Raises:
        BadInput: one of them does.
    """
    if arguments.min_gap is not None and not 0 <= arguments.min_gap <= 6:
        raise BadInput(f"--min-gap {arguments.min_gap:g}: expected a number from 0 to 6")
    for option in ("max_rejected", "per_kind"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise BadInput(f"--{option.replace('_', '-')} {value}: expected at least 1")


def run(arguments: argparse.Namespace) -> int:
    """Make the pairs and say what became of the contexts."""
    from rl.console import make_console
    from rl.data.job import Job, check_out, run_job
    from rl.data.pairs import Settings
    from rl.data.preferences import DEFAULT_GAPS, RELEASED, RULES, Groups, PairWork, figures

    check_selection(arguments)
    if arguments.preset == "released" and arguments.rule not in RELEASED:
        raise BadInput(f"--preset released: of {' and '.join(RELEASED)} alone there is a release")
    min_gap = DEFAULT_GAPS[arguments.rule] if arguments.min_gap is None else arguments.min_gap
    groups = Groups(arguments.path)
    renderer, model = _renderer(arguments.model)
    job = Job(
        command="preferences",
        out=arguments.out,
        inputs=(groups.root,),
        settings={
            "rule": arguments.rule,
            "preset": arguments.preset,
            "min_gap": min_gap,
            "max_rejected": arguments.max_rejected,
            "per_kind": arguments.per_kind,
            "model": model,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    work = PairWork(
        groups,
        rule=RULES[arguments.rule],
        settings=Settings(
            preset=arguments.preset, min_gap=min_gap, max_rejected=arguments.max_rejected, seed=arguments.seed
        ),
        per_kind=arguments.per_kind,
        renderer=renderer,
    )
    check_out(job)
    work.draw(make_console(), len(groups))
    return run_job(job, work, total=len(groups), unit="tasks", figures=figures)


def _renderer(model: str | None) -> tuple[Renderer | None, str | None]:
    """The renderer of a model and its folder; None of both without one.

    Raises:
        BadInput: there is no such model, or it has no chat template that can be used.
    """
    if model is None:
        return None, None
    from rl import config as configs

    config = configs.for_model(model)
    try:
        return config.model.renderer.build(str(configs.model_path(config.model.path))), config.model.path
    except ValueError as error:
        raise BadInput(f"--model {model}: {error}") from error
