"""The one loop: groups from a source, samples, an update of the weights, and the new weights back to the source.

    tasks -> source -> groups -> Algorithm.samples -> LearnerGroup.update --+
               ^                                                            |
               +----------------- publish: export, load, proof -------------+

SFT, PPO and everything else run through it; it knows neither algorithm nor engine nor where they run. A recipe that
names another one as `first` runs it through the same loop before its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from rich.console import Console

from rewards.actor import RewardFailed
from rl import calls, checkpoint, parts
from rl import config as configs
from rl.clock import Clock
from rl.cluster import connected
from rl.config import Config
from rl.console import all_started, duration, make_console
from rl.errors import BadInput, RunFailed
from rl.evaluate import RATES
from rl.evaluator import SAMPLED, Evaluator, place, task_sets
from rl.interruption import Interruption
from rl.learner_group import LearnerGroup
from rl.logging import to_files
from rl.memory import MemoryWatch
from rl.metrics import Recorder, group_metrics
from rl.records import Records
from rl.report.summary import SUMMARY_NAME, comparison, write_summary
from rl.sample import ScoredGroup
from rl.sequence import Part, directories, parts_to_run, seconds_before
from rl.sources import GroupSource
from rl.tables import paired, print_paired, print_stages
from rollout.engine import EngineFailed
from rollout.pool import RolloutPool
from rollout.renderer import prove_prefix_property

logger = logging.getLogger(__name__)

INTERRUPTED = 130
KEPT_CHECKPOINTS = 3
SHARED_MEMORY = Path("/dev/shm")


def train(config: Config) -> int:
    """Run what `config` says, which `rl.config.check` accepted.

    Returns:
        The exit code: 0, or 130 after an interruption.

    Raises:
        BadInput: the Ray cluster lacks what is asked for, or a part of the run cannot be built.
        RunFailed: with one line.
    """
    directory = run_directory(config)
    configs.write_resolved(config, directory)
    to_files(directory / "logs")
    console = make_console()
    console.print(f"run {directory}", markup=False)
    with (
        connected(config.ray, config.resources(), directory / "logs"),
        MemoryWatch() as memory,
        calls.recorded(directory, memory) as call,
    ):
        return asyncio.run(_run(config, directory, console, call))


def run_directory(config: Config) -> Path:
    """The folder of the run: a new one named for recipe and time, or the one that is resumed."""
    if config.resume:
        return Path(config.resume)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    directory = Path(config.run.directory) / f"{config.recipe}-{stamp}"
    number = 1
    while directory.exists():
        number += 1
        directory = directory.with_name(f"{config.recipe}-{stamp}-{number}")
    directory.mkdir(parents=True)
    return directory


async def _run(config: Config, directory: Path, console: Console, call: calls.Call) -> int:
    interruption = Interruption()
    try:
        with interruption.watched():
            for part in parts_to_run(config, directory):
                session = await _run_part(part, directory, console, interruption)
                if interruption.requested:
                    break
                if part.is_last and session.stages:
                    session.report(call.used())
    except asyncio.CancelledError:
        if not interruption.requested:
            raise
    except (EngineFailed, FloatingPointError, RewardFailed) as error:
        raise RunFailed(_last_line(error)) from error
    except RayTaskError as error:
        if isinstance(error.cause, FloatingPointError):
            raise RunFailed(_last_line(error.cause)) from error
        raise
    except (OutOfMemoryError, RayActorError) as error:
        raise RunFailed(lost_process(error)) from error
    if interruption.requested:
        console.print(f"interrupted; go on with: tether train {config.recipe} resume={directory}", markup=False)
        return INTERRUPTED
    return 0


def lost_process(error: Exception) -> str:
    """One line for what Ray tells in many of a learner's process that is gone."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        used = re.search(r"was ([\d.]+ ?GB used / [\d.]+ ?GB) limit", text)
        amount = f" ({used[1]})" if used else ""
        return f"a process of the learner was killed: the machine ran low on memory{amount}"
    cause = re.search(r"The actor died because .*|.*died unexpectedly.*", text)
    return f"a process of the learner was lost: {cause[0].strip() if cause else text.strip().splitlines()[0]}"


async def _run_part(part: Part, directory: Path, console: Console, interruption: Interruption) -> Session:
    """Run one part of the run in `directory` to its end, or until it is interrupted."""
    if not part.is_last:
        console.print(f"first: {part.config.recipe}", markup=False)
    async with AsyncExitStack() as stack:
        session = await Session.open(part.config, part.directory, console, stack, start=directories(directory)[0])
        await session.evaluate("before")
        await session.learn(interruption)
        if not interruption.requested:
            await session.evaluate("after")
    return session


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


@dataclass(kw_only=True)
class Session:
    """What one run holds while it runs."""

    config: Config
    directory: Path
    console: Console
    model_path: Path
    learners: LearnerGroup
    pool: RolloutPool | None
    source: GroupSource
    weights_directory: Path
    step: int
    """Steps that were made, also by the run that is resumed."""
    clock: Clock
    stages: dict[str, Any]
    """Evaluations that were made, in the form of summary.json."""
    start: Path
    """Folder of the run's first part: what was measured before learning lies there."""
    learning_seconds: float = 0.0
    """Wall clock of the whole loop, rollouts and earlier parts included: what an equal-time control is given as
    run.max_seconds."""

    @classmethod
    async def open(
        cls, config: Config, directory: Path, console: Console, stack: AsyncExitStack, *, start: Path
    ) -> Session:
        """Start the processes of the part in `directory`; `stack` stops them.

        Args:
            config: of the part.
            directory: of the part.
            console: for what is said on the way.
            stack: closes everything.
            start: folder of the run's first part.

        Raises:
            BadInput: there is no checkpoint to resume from, or the model cannot be used.
        """
        started = time.monotonic()
        resumed = checkpoint.latest(directory / "checkpoints") if config.resume else None
        if config.resume and resumed is None:
            raise BadInput(f"resume: {directory} holds no checkpoint")
        state = checkpoint.read_state(resumed) if resumed else {"step": 0, "position": 0, "elapsed": 0.0}
        model_path = await asyncio.to_thread(parts.make_model, config, directory)
        try:
            prove_prefix_property(parts.build_renderer(config, model_path))
        except ValueError as error:
            raise BadInput(f"model {model_path}: {error}") from error
        console.print("starting " + ("learner and engine" if parts.needs_pool(config) else "learner"))
        learners = LearnerGroup(
            algorithm=config.algorithm,
            model_path=model_path.absolute(),
            config=parts.learner_config(config),
            ranks=parts.rank_config(config),
            adapter=config.model.lora,
            resume=resumed.absolute() if resumed else None,
            kept=(directory / "kept").absolute(),
        )
        stack.push_async_callback(learners.close)
        pool = None
        if parts.needs_pool(config):
            pool = RolloutPool(parts.pool_config(config, model_path, directory), parts.episode_settings(config))
            stack.push_async_callback(pool.close)
        source = parts.build_source(config, model_path, pool, int(state["position"]))
        stack.push_async_callback(source.close)
        await all_started(console, {"learner": learners.start(), **({"engine": pool.start()} if pool else {})})
        session = cls(
            config=config,
            directory=directory,
            console=console,
            model_path=model_path,
            learners=learners,
            pool=pool,
            source=source,
            weights_directory=_weights_directory(config, directory, stack),
            step=int(state["step"]),
            clock=Clock(config.run.steps, config.run.max_seconds, float(state["elapsed"])),
            stages={},
            start=start,
        )
        if pool is not None:
            await session.publish()
        console.print(f"ready after {duration(time.monotonic() - started)}")
        return session

    async def evaluate(self, stage: Literal["before", "after"]) -> None:
        """Measure the policy as it is, if the recipe says so; what was measured before learning is kept."""
        config = self.config.evaluation
        if not (config.before if stage == "before" else config.after):
            return
        folder = (self.start if stage == "before" else self.directory) / "evaluation" / stage
        kept = folder / "rates.json"
        if stage == "before" and kept.is_file():
            self.stages[stage] = json.loads(kept.read_text())
            return
        if stage == "before" and (self.step or self.start != self.directory):
            return
        started = time.monotonic()
        evaluator = await self._evaluator()
        sets = task_sets(config)
        self.console.print(f"evaluating {stage}: " + ", ".join(f"{len(set_.tasks)} tasks {set_.name}" for set_ in sets))
        self.stages[stage] = await evaluator.run(sets, config.temperatures, config.seed, folder)
        kept.write_text(json.dumps(self.stages[stage], indent=2) + "\n")
        self.console.print(f"evaluated in {duration(time.monotonic() - started)}")

    async def _evaluator(self) -> Evaluator:
        """An evaluator of the newest weights."""
        assert self.pool is not None
        if self.pool.version != self.learners.version:
            await self.publish()
        return Evaluator(
            self.pool,
            self.config.evaluation.env or self.config.source.env,
            max_tokens=self.config.sampling.max_tokens,
            max_turns=self.config.evaluation.max_turns or self.config.sampling.max_turns,
            console=self.console,
        )

    async def evaluate_during(self) -> dict[str, float]:
        """The rates on the first tasks of the first set, as metrics: heldout/success, heldout_greedy/success, ..."""
        config = self.config.evaluation
        evaluator = await self._evaluator()
        first = task_sets(config)[0]
        first = replace(first, tasks=first.tasks[: config.num_during])
        metrics: dict[str, float] = {}
        for temperature in config.temperatures:
            name = place(first.name, temperature)
            folder = self.directory / "evaluation" / f"step-{self.step:06d}" / name
            rates = (await evaluator.one(first, temperature, config.seed, folder)).to_json()
            prefix = first.name if temperature == SAMPLED else name.replace("-", "_")
            metrics |= {f"{prefix}/{rate}": rates[rate] for rate in RATES if rates[rate] is not None}
        return metrics

    async def learn(self, interruption: Interruption) -> None:
        """The loop; ends with a checkpoint, also when it is interrupted."""
        config, algorithm = self.config, parts.build_algorithm(self.config, self.model_path)
        recorder = Recorder(self.directory, self.console, num_steps=config.run.steps, start=self.step)
        records = Records(config, self.directory, step=self.step)
        self.clock.start()
        try:
            with interruption.at_leisure():
                if config.evaluation.every and self.step == 0:
                    with self.clock.paused():
                        recorder.record(0, {"timing_s/elapsed": 0.0, **await self.evaluate_during()})
                while self.step < config.run.steps and not self.clock.is_over() and not interruption.requested:
                    self.clock.begin_step()
                    groups = await self.source.next(config.source.groups_per_step)
                    self.clock.lap("wait")
                    refuse_failures(groups, config.source.max_failure_share)
                    metrics = group_metrics(groups, self.learners.version, rewarded=not config.source.offline)
                    progress = self.clock.progress(self.step)
                    metrics |= await self.learners.update(algorithm.samples(groups), progress)
                    self.clock.lap("update")
                    if not config.source.offline:
                        metrics |= await self.publish()
                    await self.source.learned(len(groups))
                    self.clock.lap("publish")
                    self.step += 1
                    if config.evaluation.every and self.step % config.evaluation.every == 0:
                        with self.clock.paused():
                            metrics |= await self.evaluate_during()
                    recorder.record(self.step, metrics | self.clock.end_step(self.step, metrics))
                    await asyncio.to_thread(records.write, self.step, groups)
                    if config.run.checkpoint_every and self.step % config.run.checkpoint_every == 0:
                        await self.save()
                await self.save()
        finally:
            recorder.close()
        self.learning_seconds = self.clock.elapsed() + seconds_before(self.directory)
        self.console.print(f"{self.step} steps in {duration(self.clock.elapsed())}")
        # What it still makes would compete with the evaluation.
        await self.source.close()

    def report(self, used: calls.Used) -> None:
        """Write summary.json and print it as tables."""
        comparisons = {}
        if {"before", "after"} <= self.stages.keys():
            comparisons = paired(self.start / "evaluation" / "before", self.directory / "evaluation" / "after")
        write_summary(
            self.directory / SUMMARY_NAME,
            measurements=self.stages,
            seconds=round(used.seconds, 1),
            peak_memory_gb=round(used.peak_memory_gb, 2),
            seed=self.config.run.seed,
            more={"learning_seconds": round(self.learning_seconds, 1)},
            comparisons={"before_vs_after": {name: comparison(found) for name, found in comparisons.items()}},
        )
        print_stages(self.console, self.stages)
        print_paired(self.console, comparisons, "before", "after")
        self.console.print(
            f"{duration(used.seconds)}, {used.peak_memory_gb:.1f} GB at most; {self.directory / SUMMARY_NAME}",
            markup=False,
        )

    async def publish(self) -> dict[str, float]:
        """Make the learners' weights live on every engine, and prove it there.

        Engines that fail the proof serve nothing and are replaced; where none can be, the pool raises EngineFailed.
        """
        assert self.pool is not None
        version = self.learners.version
        folder = self.weights_directory / f"version-{version}"
        weights = await self.learners.export(folder)
        report = await self.pool.load(version, str(weights), self._logprobs)
        logger.info("weights: %s", report)
        for other in self.weights_directory.iterdir():
            if other != folder:
                shutil.rmtree(other)
        return {
            "perf/weights_difference": report.max_difference,
            "perf/weights_moved": report.moved,
            "perf/workers_replaced": float(report.replaced),
            "timing_s/weights": report.seconds,
        }

    async def _logprobs(self, sequences: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return await self.learners.logprobs([sequence.tolist() for sequence in sequences])

    async def save(self) -> None:
        """Write a checkpoint: weights, optimiser state, and the place in the data."""
        state = {"position": self.source.position, "elapsed": self.clock.elapsed(), "seed": self.config.run.seed}
        path = await self.learners.save(
            (self.directory / "checkpoints").absolute(), self.step, state, keep=KEPT_CHECKPOINTS
        )
        self.console.print(f"saved {path}", markup=False)


def refuse_failures(groups: Sequence[ScoredGroup], max_share: float) -> None:
    """Stop where the infrastructure fails too often to go on.

    Raises:
        RunFailed: with the last failure's reason.
    """
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    failed = [trajectory for trajectory in trajectories if trajectory.ending.is_failure]
    for trajectory in failed:
        logger.warning("episode %s: %s: %s", trajectory.trajectory_id, trajectory.ending, trajectory.error)
    if len(failed) > max_share * len(trajectories):
        reason = failed[-1].error.strip().splitlines() or ["no reason given"]
        raise RunFailed(
            f"{len(failed)} of {len(trajectories)} episodes failed ({failed[-1].ending}: {reason[-1]}), more than "
            f"source.max_failure_share {max_share:g}"
        )


def _weights_directory(config: Config, directory: Path, stack: AsyncExitStack) -> Path:
    """Where weights lie on their way to the engines: in this machine's memory, or where all machines look."""
    if config.weights.transfer == "memory" and SHARED_MEMORY.is_dir():
        folder = Path(tempfile.mkdtemp(prefix="tether-weights-", dir=SHARED_MEMORY))
    else:
        folder = (directory / "weights").absolute()
        folder.mkdir(exist_ok=True)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
