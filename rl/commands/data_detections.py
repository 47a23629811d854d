"""Sample episodes of detection and keep those that pass HaluAgent's filters, or pair the others with them.

IN is `train` or `heldout` (responses made from the seed, English and Chinese), a file of labelled responses ({"id",
"response", "question"?, "hallucinated"} a line), or a folder of episodes that an earlier call sampled. Who checks is
--model: the rules, a model behind an OpenAI-compatible endpoint, or one that is run here. The episodes lie in
OUT.episodes, so that a second call can pair what the first one dropped.

Dropped is what calls a tool wrongly, breaks the format, or ends with another verdict than the truth. OUT holds
conversations for `source.conversations`, or with --pairs preferences for `source.preferences`: an episode that was
dropped against one of the same response that was kept.

  tether data detections train --num 2000 --out sft.jsonl
  tether data detections train --model runs/detect_sft_tiny-20260101-120000 --samples 8 --rules --out own.jsonl
  tether data detections own.jsonl.episodes --pairs --out pairs.jsonl
  tether data detections labelled.jsonl --model http://localhost:8000/v1 --endpoint-model qwen --long --out sft.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl.endpoints import expect_openai, is_endpoint
from rl.errors import BadInput

if TYPE_CHECKING:
    from envs.types import Json, Task
    from rl.config import Config
    from rl.data.detections import Sample

RULES = "rules"


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether data detections IN [CLUSTER] [key=value ...] --out OUT [options]"
    parser.add_argument("path", metavar="IN")
    parser.add_argument(
        "rest",
        metavar="CLUSTER key=value",
        nargs="*",
        default=[],
        help="of a model that is run here: where, and single settings of it",
    )
    parser.add_argument("--pairs", action="store_true", help="write preference pairs and not conversations")
    parser.add_argument(
        "--at-parting",
        action="store_true",
        help="of pairs: the first message in which the episodes differ, behind what they have in common",
    )
    group = parser.add_argument_group("who checks")
    group.add_argument("--model", metavar="rules|URL|MODEL", default=RULES, help="(default: rules)")
    group.add_argument("--endpoint-model", metavar="NAME", help="the model's name at the endpoint")
    group.add_argument(
        "--rules", action="store_true", help="beside the model, one episode of each response by the rules"
    )
    group.add_argument(
        "--slips", type=float, default=0.0, metavar="P", help="of the rules: share of checks that err on purpose"
    )
    group.add_argument("--samples", type=int, default=1, metavar="N", help="episodes of each response (default: 1)")
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of a model (default: 1)")
    group.add_argument("--max-tokens", type=int, metavar="N", help="of one turn (default: 48, with --long 512)")
    group.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at a time (default: 8)")
    group.add_argument(
        "--skip-failed", action="store_true", help="leave out what an engine or endpoint failed at, and go on"
    )
    group = parser.add_argument_group("what is checked")
    group.add_argument("--num", type=int, default=500, metavar="N", help="responses, at most (default: 500)")
    group.add_argument(
        "--languages", choices=("en", "zh", "both"), default="both", help="of train and heldout (default: both)"
    )
    group.add_argument("--long", action="store_true", help="full instructions and tools, for models of the usual size")
    group = parser.add_argument_group("what is kept")
    group.add_argument("--max-kept", type=int, default=1, metavar="N", help="of one response (default: 1)")
    group.add_argument("--max-rejected", type=int, default=4, metavar="N", help="pairs of one response (default: 4)")


def run(arguments: argparse.Namespace) -> int:
    """Sample what is left, sift, and say what was kept."""
    from rl.data.detections import Conversations, PreferencePairs, figures
    from rl.data.job import Job, check_out, run_job
    from rl.data.preferences import Groups

    _check(arguments)
    folder = Path(arguments.path)
    sampled: dict[str, Json] = {}
    if not folder.is_dir():
        folder = arguments.out.with_name(f"{arguments.out.name}.episodes")
        tasks = _tasks(arguments)
        sampled = _sampled(arguments, tasks)
    job = Job(
        command="detections",
        out=arguments.out,
        inputs=(folder / "trajectories",),
        settings={
            **sampled,
            "pairs": arguments.pairs,
            "at_parting": arguments.at_parting,
            "max_kept": arguments.max_kept,
            "max_rejected": arguments.max_rejected,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    check_out(job)
    if sampled:
        _sample(arguments, folder, tasks, sampled)
    groups = Groups(folder)
    work = (
        PreferencePairs(groups, max_rejected=arguments.max_rejected, at_parting=arguments.at_parting)
        if arguments.pairs
        else Conversations(groups, max_kept=arguments.max_kept)
    )
    return run_job(job, work, total=len(groups), unit="responses", figures=figures)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.at_parting and not arguments.pairs:
        raise BadInput("--at-parting: belongs to --pairs")
    for option in ("num", "samples", "concurrency", "max_kept", "max_rejected", "max_tokens"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise BadInput(f"--{option.replace('_', '-')} {value}: expected at least 1")
    if not 0 <= arguments.slips <= 1:
        raise BadInput(f"--slips {arguments.slips:g}: expected a share from 0 to 1")
    if arguments.temperature < 0:
        raise BadInput(f"--temperature {arguments.temperature:g}: expected 0 or more")
    has_endpoint = is_endpoint(arguments.model)
    if has_endpoint != (arguments.endpoint_model is not None):
        raise BadInput("--endpoint-model NAME belongs to --model URL; expected both or neither")
    if has_endpoint:
        expect_openai()
    if arguments.rest and (has_endpoint or arguments.model == RULES):
        raise BadInput(f"{arguments.rest[0]}: belongs to a model that is run here, with --model MODEL")


def _tasks(arguments: argparse.Namespace) -> Sequence[Task]:
    """The responses to be checked.

    Raises:
        BadInput: there are none.
    """
    from envs.detection.tasks import DetectionTasks
    from envs.detection.toolbox import Toolbox
    from rl.data.detections import read_labelled

    short = not arguments.long
    if arguments.path in ("train", "heldout"):
        return list(
            DetectionTasks(arguments.path, arguments.languages, seed=arguments.seed, num=arguments.num, short=short)
        )
    try:
        tasks = read_labelled(Path(arguments.path), Toolbox(), short=short)[: arguments.num]
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not tasks:
        raise BadInput(f"{arguments.path}: holds no responses")
    return tasks


def _sampled(arguments: argparse.Namespace, tasks: Sequence[Task]) -> dict[str, Json]:
    """All that decides what is sampled, but the seed."""
    from rl.data.pairs import digest

    return {
        "model": arguments.model,
        "endpoint_model": arguments.endpoint_model,
        "rules": arguments.rules,
        "slips": arguments.slips,
        "samples": arguments.samples,
        "temperature": arguments.temperature,
        "max_tokens": _max_tokens(arguments),
        "responses": digest([task.to_json() for task in tasks]),
    }


def _max_tokens(arguments: argparse.Namespace) -> int:
    return arguments.max_tokens or (512 if arguments.long else 48)


def _sample(arguments: argparse.Namespace, folder: Path, tasks: Sequence[Task], sampled: dict[str, Json]) -> None:
    from rl.console import make_console
    from rl.data.detections import sample_missing, together
    from rl.data.episode_parts import EpisodeParts

    parts = EpisodeParts(folder, {**sampled, "seed": arguments.seed}, overwrite=arguments.overwrite)
    skip_failed = arguments.skip_failed
    if not (parts.missing(len(tasks)) if skip_failed else parts.unfinished(len(tasks))):
        return
    console = make_console()

    async def work(sample: Sample) -> None:
        samplers = [sample, _rules(arguments, num=1, slips=0.0)] if arguments.rules else [sample]
        await sample_missing(parts, tasks, together(*samplers), console, skip_failed=skip_failed)

    if arguments.model == RULES:
        asyncio.run(work(_rules(arguments, num=arguments.samples, slips=arguments.slips)))
    elif is_endpoint(arguments.model):
        asyncio.run(_by_endpoint(arguments, work))
    else:
        console.print(f"starting the engine for {arguments.model}", markup=False)
        _by_model(arguments, folder, work)


def _rules(arguments: argparse.Namespace, *, num: int, slips: float) -> Sample:
    from envs.detection.toolbox import Toolbox
    from rl.data.detections import SlippingRules, policy_sampler

    def policy(task: Task, number: int) -> SlippingRules:
        return SlippingRules(task, seed=arguments.seed + number, slips=slips, thoughts=arguments.long)

    return policy_sampler(policy, Toolbox(), num=num, at_once=arguments.concurrency)


async def _by_endpoint(arguments: argparse.Namespace, work: Callable[[Sample], Awaitable[None]]) -> None:
    from envs.detection.toolbox import Toolbox
    from rl.data.detections import policy_sampler
    from rollout.endpoint import EndpointPolicy

    endpoint = EndpointPolicy(
        arguments.model,
        arguments.endpoint_model,
        max_tokens=_max_tokens(arguments),
        temperature=arguments.temperature,
    )
    try:
        await work(
            policy_sampler(
                lambda task, number: endpoint, Toolbox(), num=arguments.samples, at_once=arguments.concurrency
            )
        )
    finally:
        await endpoint.close()


def _by_model(arguments: argparse.Namespace, folder: Path, work: Callable[[Sample], Awaitable[None]]) -> None:
    from envs.component import Component
    from rl.data.detections import ENV, MAX_TURNS
    from rl.serving import with_pool
    from rollout.engine import Sampling
    from rollout.pool import RolloutPool
    from rollout.trajectory import Trajectory
    from rollout.worker import EpisodeSettings

    config = _serving(arguments)
    settings = EpisodeSettings(
        env=Component(factory=ENV),
        sampling=Sampling(
            temperature=arguments.temperature,
            max_tokens=_max_tokens(arguments),
            seed=arguments.seed if arguments.temperature else None,
        ),
        max_turns=MAX_TURNS,
    )

    async def on(pool: RolloutPool) -> None:
        async def sample(task: Task, group: str) -> Sequence[Trajectory]:
            return await pool.run(task, group_id=group, group_size=arguments.samples, settings=settings)

        await work(sample)

    with_pool(config, folder, on)


def _serving(arguments: argparse.Namespace) -> Config:
    from rl import config as configs
    from rl.commands.train import cluster_and_overrides

    cluster, overrides = cluster_and_overrides(arguments.rest)
    return configs.for_model(arguments.model, cluster, overrides)
