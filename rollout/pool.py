"""The rollout pool: workers as Ray actors, episodes dispatched to the least loaded, weights made live and proven.

Who waits for whom:

    run(task) ---------> queue of groups --------> worker with the fewest episodes ------> trajectories
                           | waits for a             | runs at most `concurrency`            ^
                           | serving worker          | episodes, the rest waits              |
                           | below its capacity      v                                       |
                           |                       died, hung or engine failed:              |
                           +<-- lost episodes ---- worker replaced, episodes run again ------+

    load(v, path) -----> all workers: finish requests in flight, new ones wait; load; sample the canary
                           |
                         verify(canaries) <------- the learner's log-probs of the same tokens
                           | equal: accept, the worker serves version v
                           | not:   load once more, then replace
                           v
                         WeightReport

    replacement -------> starts from the checkpoint, loads the weights of the pool, is held against the accepted
                         canary (or the learner), and only then serves

Everything runs in the driver's event loop; the only shared state is the list of slots and the queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError

from envs.component import Component
from envs.types import Task
from rollout.engine import EngineFailed
from rollout.exploration import Exploration
from rollout.trajectory import Ending, Trajectory
from rollout.worker import Canary, EpisodeRequest, EpisodeSettings, RolloutWorker, failed_trajectory

logger = logging.getLogger(__name__)

Verify = Callable[[Sequence[np.ndarray]], Awaitable[Sequence[np.ndarray]]]
"""The learner's view: token ids [L] of several sequences -> log-probs [L] of each; position t speaks about token t."""

CANARY_TOLERANCE = {"fp32": 1e-4, "bf16": 0.5, "fp16": 0.1}
"""Largest difference of canary log-probs between learner and engine that is rounding. The canary's tokens are
often unlikely ones, so in half precision this is wider than the parity of ordinary samples."""

RENDERER = Component(factory="rollout.renderer:load_renderer")

OVERCOMMIT = 1.5
"""Episodes dispatched to a worker per episode it runs: a group's last stragglers leave no gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """What the pool starts, and on what."""

    model_path: str
    version: int = 0
    """Policy version of the checkpoint at `model_path`."""
    engine: Component
    """factory(model_path, version=..., **options) -> Engine."""
    renderer: Component = RENDERER
    num_workers: int = 1
    concurrency: int = 64
    """Episodes a worker runs at the same time."""
    num_cpus: float = 1
    """Per worker; also its number of OpenMP threads, rounded up."""
    num_gpus: float = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers."""
    canary_tolerance: float = CANARY_TOLERANCE["fp32"]
    max_attempts: int = 3
    """Runs of one episode before it is given up as engine_failed, and starts of one worker in a row."""
    start_seconds: float = 900
    """A worker that is not up by then has no resources or hangs."""
    group_seconds: float = 1800
    """A worker that has not finished a group by then hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReport:
    """How one weight update went."""

    version: int
    seconds: float
    differences: tuple[float, ...]
    """Per worker that serves: largest absolute difference between its canary's log-probs and the learner's."""
    moved: float
    """The same between the canary of the version before and this version's learner: a canary that hardly moves
    cannot tell a stale engine; NaN for the first update."""
    reloaded: int
    """Workers that passed only at the second load."""
    replaced: int
    """Workers that passed at neither, or died."""

    @property
    def max_difference(self) -> float:
        """Over the workers; NaN without any."""
        return max(self.differences, default=float("nan"))


class _Slot:
    """One worker as the pool sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.load = 0
        self.serving = False


@dataclass(slots=True, kw_only=True)
class _Weights:
    """What every worker has to serve."""

    version: int
    path: str
    verify: Verify
    accepted: Canary | None = None
    """Of the first worker that was proven against the learner."""


class RolloutPool:
    """Runs groups of episodes on a changing set of workers. Use it from one event loop."""

    def __init__(self, config: PoolConfig, settings: EpisodeSettings) -> None:
        self.config = config
        self.settings = settings
        self.num_lost_workers = 0
        self.num_retried_episodes = 0
        self._slots: list[_Slot] = []
        self._waiting: deque[tuple[int, asyncio.Future[_Slot]]] = deque()
        self._target = config.num_workers
        self._weights: _Weights | None = None
        self._previous: Canary | None = None
        self._updating = asyncio.Lock()
        self._starting: set[asyncio.Task[None]] = set()
        self._broken = ""

    @property
    def version(self) -> int:
        """Version of the weights the pool serves."""
        return self._weights.version if self._weights else self.config.version

    @property
    def num_workers(self) -> int:
        """Workers that serve now."""
        return sum(slot.serving for slot in self._slots)

    async def start(self) -> None:
        """Start all workers; returns when they serve the checkpoint.

        Raises:
            EngineFailed: no worker could be started.
        """
        await asyncio.gather(*[self._add_worker() for _ in range(self._target)])
        if not self._slots:
            raise EngineFailed(self._broken)

    async def run(
        self, task: Task, *, group_id: str, group_size: int = 1, settings: EpisodeSettings | None = None
    ) -> tuple[Trajectory, ...]:
        """Run `group_size` episodes of one task on one worker.

        Episodes whose worker or engine failed run again, on whichever worker serves then; what still fails at the
        last attempt comes back as engine_failed. A trajectory is returned exactly once.

        Raises:
            EngineFailed: no worker is left and none can be started.
        """
        requests = [
            EpisodeRequest(task=task, trajectory_id=f"{group_id}-{number}", group_id=group_id)
            for number in range(group_size)
        ]
        done: dict[str, Trajectory] = {}
        failed: dict[str, Trajectory] = {}
        for attempt in range(self.config.max_attempts):
            pending = [request for request in requests if request.trajectory_id not in done]
            self.num_retried_episodes += len(pending) if attempt else 0
            for trajectory in await self._run_on_a_worker(pending, settings or self.settings):
                bucket = failed if trajectory.ending is Ending.ENGINE_FAILED else done
                bucket[trajectory.trajectory_id] = trajectory
            if len(done) == len(requests):
                break
        return tuple((failed | done)[request.trajectory_id] for request in requests)

    async def explore(
        self, task: Task, exploration: Exploration, *, group_id: str, settings: EpisodeSettings
    ) -> list[Trajectory]:
        """Follow one episode, with the candidates of its turns behind it (`rollout.exploration`).

        What a failed worker or engine broke runs again; what still fails at the last attempt comes back as the
        episode alone, engine_failed.

        Raises:
            EngineFailed: no worker is left and none can be started.
        """
        request = EpisodeRequest(task=task, trajectory_id=f"{group_id}-0", group_id=group_id)
        found: list[Trajectory] = []
        for attempt in range(self.config.max_attempts):
            self.num_retried_episodes += bool(attempt)
            answer = await self._on_a_worker(
                [request], lambda actor: actor.explore.remote([request], settings, exploration)
            )
            found = [_failed(request, answer)] if isinstance(answer, str) else answer[0]
            if found[0].ending is not Ending.ENGINE_FAILED:
                break
        return found

    async def load(self, version: int, weights: str, verify: Verify) -> WeightReport:
        """Make `weights` live as `version` on every worker and prove it.

        `weights` must stay in place until the next load: replacements read it too. Episodes under way go on with
        the new weights from their next turn.

        Raises:
            EngineFailed: no worker is left and none can be started.
        """
        started = time.monotonic()
        async with self._updating:
            self._weights = _Weights(version=version, path=weights, verify=verify)
            slots = list(self._slots)
            for slot in slots:
                slot.serving = False
            passed, reloaded = await self._bring_live(slots, self._weights)
            for slot in slots:
                if slot not in passed:
                    self._lose(slot, f"its canary did not prove version {version}")
            moved = await self._measure_move(self._weights)
        if self._broken:
            raise EngineFailed(self._broken)
        self._dispatch()
        return WeightReport(
            version=version,
            seconds=time.monotonic() - started,
            differences=tuple(passed.values()),
            moved=moved,
            reloaded=reloaded,
            replaced=len(slots) - len(passed),
        )

    async def scale(self, num_workers: int) -> None:
        """Start or retire workers; returns when the new ones serve and the retired ones are empty and gone."""
        missing = num_workers - self._target
        self._target = num_workers
        if missing > 0:
            await asyncio.gather(*[self._add_worker() for _ in range(missing)])
        elif missing < 0:
            retired = sorted(self._slots, key=lambda slot: slot.load)[:-missing]
            await asyncio.gather(*[self._retire(slot) for slot in retired])

    async def close(self) -> None:
        """Stop all workers."""
        self._broken = "the pool is closed"
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*[self._stop(slot) for slot in self._slots])
        self._slots.clear()
        self._fail_waiting()

    def kill(self) -> None:
        """Stop all workers at once, without an event loop: for a run that was interrupted."""
        self._broken = "the pool is closed"
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots.clear()

    # Dispatch

    async def _run_on_a_worker(
        self, requests: Sequence[EpisodeRequest], settings: EpisodeSettings
    ) -> Sequence[Trajectory]:
        found = await self._on_a_worker(requests, lambda actor: actor.run.remote(requests, settings))
        return [_failed(request, found) for request in requests] if isinstance(found, str) else found

    async def _on_a_worker(self, requests: Sequence[EpisodeRequest], ask: Callable[[Any], Any]) -> list[Any] | str:
        """What a worker answers, one item for each request; or why it was lost."""
        slot = await self._acquire(len(requests))
        try:
            found = await asyncio.wait_for(_result(ask(slot.actor)), self.config.group_seconds)
        except (RayActorError, TimeoutError) as error:
            self._lose(slot, f"{type(error).__name__}: {error}")
            return str(error)
        finally:
            slot.load -= len(requests)
            self._dispatch()
        if any(_episode(item).ending is Ending.ENGINE_FAILED for item in found):
            await self._examine(slot)
        return found

    async def _acquire(self, size: int) -> _Slot:
        """A serving worker below its capacity, the least loaded; its load grows by `size`."""
        if self._broken:
            raise EngineFailed(self._broken)
        future: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        self._dispatch()
        return await future

    def _dispatch(self) -> None:
        """Hand waiting groups out, oldest first, as long as a worker has room."""
        capacity = self.config.concurrency * OVERCOMMIT
        while self._waiting:
            ready = [slot for slot in self._slots if slot.serving and slot.load < capacity]
            if not ready:
                return
            size, future = self._waiting.popleft()
            if future.done():  # its caller was cancelled
                continue
            slot = min(ready, key=lambda slot: slot.load)
            slot.load += size
            future.set_result(slot)

    def _fail_waiting(self) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(EngineFailed(self._broken))

    # The workers' lives

    async def _add_worker(self) -> None:
        """Start a worker, bring the pool's weights live on it, and let it serve; try a few times."""
        error = ""
        for _ in range(self.config.max_attempts):
            if self._broken or len(self._slots) >= self._target:
                return
            slot = _Slot(self._start_actor())
            try:
                await asyncio.wait_for(_result(slot.actor.ping.remote()), self.config.start_seconds)
                async with self._updating:
                    error = await self._admit(slot)
            except (RayActorError, TimeoutError) as failure:
                error = f"{type(failure).__name__}: {failure}"
            except asyncio.CancelledError:
                ray.kill(slot.actor)
                raise
            if not error:
                self._dispatch()
                return
            if len(self._slots) >= self._target:
                ray.kill(slot.actor)
                return
            logger.warning("a rollout worker did not start: %s", error)
            ray.kill(slot.actor)
        if not self._slots:
            self._broken = f"no rollout worker can be started: {error}"
            self._fail_waiting()

    async def _admit(self, slot: _Slot) -> str:
        """Let a started worker serve if it proves the pool's weights; returns what is wrong with it."""
        if len(self._slots) >= self._target:
            return "the pool was made smaller meanwhile"
        if self._weights is None:
            await slot.actor.accept.remote(self.config.version)
            slot.serving = True
        elif not (await self._bring_live([slot], self._weights))[0]:
            return f"its canary did not prove version {self._weights.version}"
        self._slots.append(slot)
        return ""

    def _start_actor(self) -> Any:
        threads = {"OMP_NUM_THREADS": str(max(1, round(self.config.num_cpus)))}
        return (
            ray.remote(RolloutWorker)
            .options(
                num_cpus=self.config.num_cpus,
                num_gpus=self.config.num_gpus,
                runtime_env={"env_vars": threads | dict(self.config.environment)},
            )
            .remote(
                engine=self.config.engine,
                renderer=self.config.renderer,
                model_path=self.config.model_path,
                version=self.config.version,
                concurrency=self.config.concurrency,
            )
        )

    def _lose(self, slot: _Slot, reason: str) -> None:
        """Take a worker out and start a replacement, once, however many of its groups report it."""
        slot.serving = False
        if slot not in self._slots:
            return
        logger.warning("a rollout worker is lost and replaced: %s", reason)
        self.num_lost_workers += 1
        self._slots.remove(slot)
        ray.kill(slot.actor)
        task = asyncio.get_running_loop().create_task(self._add_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _examine(self, slot: _Slot) -> None:
        """Episodes reported a failed engine: replace the worker if its engine cannot even sample the canary."""
        try:
            canary = await asyncio.wait_for(_result(slot.actor.canary.remote()), self.config.group_seconds)
        except (RayActorError, TimeoutError) as error:
            canary = str(error)
        if isinstance(canary, str):
            self._lose(slot, canary)

    async def _retire(self, slot: _Slot) -> None:
        slot.serving = False
        self._slots.remove(slot)
        while slot.load:
            await asyncio.sleep(0.05)
        await self._stop(slot)

    async def _stop(self, slot: _Slot) -> None:
        try:
            await asyncio.wait_for(_result(slot.actor.close.remote()), 30)
        except (RayActorError, TimeoutError) as error:
            logger.warning("a rollout worker did not close: %s", error)
        ray.kill(slot.actor)

    # Weights

    async def _bring_live(self, slots: Sequence[_Slot], weights: _Weights) -> tuple[dict[_Slot, float], int]:
        """Load on every worker, and once more where the canary is wrong.

        Returns:
            the workers that serve now with the difference of their canaries, and how many needed the second load.
        """
        passed: dict[_Slot, float] = {}
        reloaded = 0
        for attempt in range(2):
            remaining = [slot for slot in slots if slot not in passed]
            if not remaining:
                break
            canaries = await asyncio.gather(*[_load(slot, weights) for slot in remaining])
            differences = await self._compare(canaries, weights)
            for slot, canary, difference in zip(remaining, canaries, differences, strict=True):
                if not difference <= self.config.canary_tolerance:
                    reason = canary if isinstance(canary, str) else f"its canary is off by {difference:g}"
                    logger.warning("a rollout worker does not serve version %d: %s", weights.version, reason)
                elif await _accept(slot, weights.version):
                    slot.serving = True
                    passed[slot] = difference
                    reloaded += attempt
        return passed, reloaded

    async def _compare(self, canaries: Sequence[Canary | str], weights: _Weights) -> list[float]:
        """For each canary the largest difference to the reference; infinite where there is no valid one."""
        differences = [float("inf")] * len(canaries)
        open_canaries: list[tuple[int, Canary]] = []
        for index, canary in enumerate(canaries):
            if isinstance(canary, str) or canary.version != weights.version:
                continue
            # The learner may have moved on since the pool's weights were published; the accepted canary has not.
            if weights.accepted and np.array_equal(weights.accepted.token_ids, canary.token_ids):
                differences[index] = _difference(canary, weights.accepted.logprobs)
            else:
                open_canaries.append((index, canary))
        if open_canaries:
            references = await weights.verify([canary.token_ids for _, canary in open_canaries])
            for (index, canary), reference in zip(open_canaries, references, strict=True):
                differences[index] = _difference(canary, reference)
                if weights.accepted is None and differences[index] <= self.config.canary_tolerance:
                    weights.accepted = canary
        return differences

    async def _measure_move(self, weights: _Weights) -> float:
        previous, self._previous = self._previous, weights.accepted
        if previous is None or weights.accepted is None:
            return float("nan")
        return _difference(previous, (await weights.verify([previous.token_ids]))[0])


def _episode(item: Trajectory | Sequence[Trajectory]) -> Trajectory:
    """The episode itself of what a worker gives for one request."""
    return item if isinstance(item, Trajectory) else item[0]


def _failed(request: EpisodeRequest, reason: str) -> Trajectory:
    return failed_trajectory(request, Ending.ENGINE_FAILED, reason)


async def _result(reference: Any) -> Any:
    """Await a Ray reference as a plain coroutine."""
    return await reference


async def _load(slot: _Slot, weights: _Weights) -> Canary | str:
    try:
        return await slot.actor.load.remote(weights.version, weights.path)
    except RayActorError as error:
        return str(error)


async def _accept(slot: _Slot, version: int) -> bool:
    try:
        await slot.actor.accept.remote(version)
    except RayActorError:
        return False
    return True


def _difference(canary: Canary, reference: np.ndarray) -> float:
    """Largest absolute difference over the canary's sampled tokens; `reference` may cover the prompt too."""
    return float(np.abs(canary.logprobs - np.asarray(reference)[-len(canary.logprobs) :]).max())
