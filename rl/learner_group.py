"""The learner group: the ranks of `rl.learner` as Ray actors that move in step.

    driver                         rank 0 .. rank n - 1
    update(samples) -- one copy in the object store --> each takes its share, all sum gradients
    metrics <-- of rank 0, the same on all
    export(folder) --------------> all gather, rank 0 writes; done when the file is there

Every call goes to every rank, because sharded engines meet in each of them. A rank that fails ends the group: the
others would wait for it for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray

from envs.component import Component
from rl.checkpoint import begin, commit, prune
from rl.config import Lora
from rl.learner import Learner
from rl.models import NO_ADAPTER
from rl.sample import Sample
from rl.train_engine import LearnerConfig, join_ranks

_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
"""Keeps freed tensors' memory in the process: a quarter faster on a CPU than giving it back each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankConfig:
    """How many ranks there are, and what each one gets."""

    num_ranks: int = 1
    backend: Literal["gloo", "nccl"] = "gloo"
    num_cpus_per_rank: float = 1
    num_gpus_per_rank: float = 0
    num_threads: int = 1
    """OpenMP threads of one rank."""

    def __post_init__(self) -> None:
        if self.num_ranks < 1:
            raise ValueError(f"num_ranks {self.num_ranks}: expected at least 1")
        if self.backend == "nccl" and not self.num_gpus_per_rank:
            raise ValueError("backend nccl needs num_gpus_per_rank > 0; use gloo on CPUs")

    def environment(self) -> dict[str, str]:
        """Environment variables of a rank's process."""
        variables = {"OMP_NUM_THREADS": str(self.num_threads), "TOKENIZERS_PARALLELISM": "false", **_ALLOCATOR}
        if not self.num_gpus_per_rank:
            variables |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        return variables


class LearnerGroup:
    """The learner as the driver sees it."""

    def __init__(
        self,
        *,
        algorithm: Component,
        model_path: str | Path,
        config: LearnerConfig,
        ranks: RankConfig,
        adapter: Lora = NO_ADAPTER,
        resume: Path | None = None,
        kept: Path | None = None,
    ) -> None:
        """Describe the group; `start` makes its processes.

        Args:
            algorithm: the `rl.algorithms.Algorithm` to learn by.
            model_path: a Hugging Face model folder that every rank can read.
            config: how to optimise.
            ranks: how many processes, and their resources.
            adapter: what is trained in place of the model's own weights.
            resume: a checkpoint folder to go on from.
            kept: a folder that every rank sees, for log-probs that are computed once (`rl.kept_logprobs`).
        """
        self._learner = {
            "algorithm": algorithm,
            "model_path": str(model_path),
            "config": config,
            "adapter": adapter,
            "resume": resume,
            "kept": kept,
        }
        self._config = config
        self._ranks = ranks
        self._actors: list[Any] = []
        self.version = 0
        """How many updates the weights have seen."""

    async def start(self) -> None:
        """Make the processes and load the models.

        Raises:
            ValueError: the model or the settings are refused.
        """
        actor = ray.remote(_Rank).options(
            num_cpus=self._ranks.num_cpus_per_rank,
            num_gpus=self._ranks.num_gpus_per_rank,
            runtime_env={"env_vars": self._ranks.environment()},
        )
        self._actors = [actor.remote() for _ in range(self._ranks.num_ranks)]
        address, port = await self._actors[0].rendezvous.remote()
        if self._ranks.num_ranks > 1 or self._config.engine == "deepspeed":
            joins = [
                rank.join.remote(index, self._ranks.num_ranks, address, port, self._ranks.backend)
                for index, rank in enumerate(self._actors)
            ]
            await self._all(joins)
        self.version = (await self._call("load", **self._learner))[0]

    async def update(self, samples: Sequence[Sample], progress: float) -> dict[str, float]:
        """Learn from `samples`; see `Learner.update`."""
        metrics = await self._call("update", ray.put(list(samples)), progress)
        self.version += 1
        return metrics[0]

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probability of every token of each sequence under the policy; 0 for the first, float32 [L]."""
        return (await self._call("logprobs", [list(map(int, sequence)) for sequence in sequences]))[0]

    async def export(self, folder: Path, *, dtype: str = "fp32") -> Path:
        """Write the policy's weights into `folder`; returns, when they are complete, what engines load."""
        return (await self._call("export", Path(folder), dtype))[0]

    async def save(self, root: Path, step: int, state: Mapping[str, Any], *, keep: int) -> Path:
        """Write the checkpoint of `step` under `root`, which all ranks must see, and keep the newest `keep`.

        Args:
            root: folder of the run's checkpoints.
            step: of the learning loop.
            state: what else is needed to go on; `step` and `version` are added.
            keep: how many checkpoints are left.

        Returns:
            The checkpoint's folder.
        """
        partial = begin(Path(root), step)
        await self._call("save", partial)
        folder = commit(partial, {**state, "step": step, "version": self.version})
        prune(Path(root), keep)
        return folder

    async def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of every rank; their results in order."""
        if not self._actors:
            raise RuntimeError("the learner group is not running: call start first, and nothing after a failure")
        return await self._all([getattr(actor, method).remote(*args, **kwargs) for actor in self._actors])

    async def _all(self, references: Sequence[Any]) -> list[Any]:
        try:
            return list(await asyncio.gather(*references))
        except BaseException:
            await self.close()
            raise


class _Rank:
    """One rank's process."""

    def __init__(self) -> None:
        self._learner: Learner | None = None

    def rendezvous(self) -> tuple[str, int]:
        """An address and a free port of this machine, for the ranks to meet at."""
        with socket.socket() as listener:
            listener.bind(("", 0))
            return ray.util.get_node_ip_address(), listener.getsockname()[1]

    def join(self, rank: int, num_ranks: int, address: str, port: int, backend: str) -> None:
        """Meet the other ranks."""
        join_ranks(rank=rank, num_ranks=num_ranks, address=address, port=port, backend=backend)

    def load(self, *, algorithm: Component, **settings: Any) -> int:
        """Build the learner (`rl.learner.Learner`); returns the version of its weights."""
        self._learner = Learner(algorithm=algorithm.build(), **settings)
        return self._learner.version

    @property
    def learner(self) -> Learner:
        """The learner, once it is loaded."""
        assert self._learner is not None
        return self._learner

    def update(self, samples: list[Sample], progress: float) -> dict[str, float]:
        """See `Learner.update`."""
        return self.learner.update(samples, progress)

    def logprobs(self, sequences: list[list[int]]) -> list[np.ndarray]:
        """See `Learner.logprobs`."""
        return self.learner.logprobs(sequences)

    def export(self, folder: Path, dtype: str) -> Path:
        """See `Learner.export`."""
        return self.learner.export(folder, dtype=dtype)

    def save(self, partial: Path) -> None:
        """See `Learner.save`."""
        self.learner.save(partial)
