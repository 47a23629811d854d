"""The seam between learning and the library that trains: protocol, settings, and sums over the ranks.

Two engines implement it: `rl.torch_engine` and `rl.deepspeed_engine`. In both, gradients are plain sums over
micro-batches and ranks; the caller divides the loss by one global denominator, and nothing else is divided.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.distributed as dist

from rl.models import Outputs, RoleModel
from rl.sample import Batch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """How the learner optimises, and on which engine."""

    learning_rate: float = 1e-6
    """Of AdamW, or of Muon where the optimizer is Muon."""
    adamw_learning_rate: float = 0.0
    """With Muon: the rate of what AdamW trains (embeddings, heads, biases, norms); 0: `learning_rate`."""
    value_learning_rate: float = 0.0
    """Of a value head, which starts at zero and has to follow the returns; 0: that of the rest."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    momentum: float = 0.95
    """Of Muon."""
    weight_decay: float = 0.0
    """Of matrices; biases and norms are never decayed."""
    schedule: Literal["constant", "linear", "warmup_stable_decay"] = "constant"
    warmup_fraction: float = 0.0
    """Share of the run in which the rate rises from 0 (not for `constant`)."""
    decay_fraction: float = 0.4
    """Share of the run in which `warmup_stable_decay` falls."""
    final_fraction: float = 0.0
    """Share of the rate that is left at the end."""
    hold_fraction: float = 0.0
    """Share of the run, its last, in which `warmup_stable_decay` stays at what is left."""
    max_grad_norm: float = 1.0
    minibatches: int = 1
    """Optimiser steps in which one pass over an update's samples is made."""
    epochs: int = 1
    """Passes over the samples of an update."""
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: int = 0
    """Of DeepSpeed: what is sharded over the ranks (1 optimiser state, 2 gradients, 3 weights)."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in bf16; master weights and optimiser state stay fp32."""
    micro_batch_tokens: int = 8192
    """Padded tokens that go through the model at once. Changes memory and speed, never the gradient."""
    recompute_activations: bool = False
    """Gradient checkpointing: a third more arithmetic for a fraction of the memory. Never changes the gradient."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.engine == "torch" and self.zero_stage:
            raise ValueError(f"zero_stage {self.zero_stage}: the torch engine shards nothing; use engine deepspeed")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError(f"zero_stage {self.zero_stage}: expected 0, 1, 2 or 3")
        if self.optimizer == "muon" and self.zero_stage:
            raise ValueError(
                f"optimizer muon with zero_stage {self.zero_stage}: Muon needs whole matrices; use zero_stage 0 or "
                "optimizer adamw"
            )
        if self.minibatches < 1 or self.epochs < 1:
            raise ValueError(f"minibatches {self.minibatches} and epochs {self.epochs} must be at least 1")


class TrainEngine(Protocol):
    """One trained model on one rank."""

    @property
    def device(self) -> torch.device:
        """Where batches must lie."""
        ...

    @property
    def module(self) -> RoleModel:
        """The model; its parameters may be sharded."""
        ...

    def forward(self, batch: Batch, *, value_only: bool = False) -> Outputs:
        """Outputs of the model for a batch on its device; with gradient unless torch says otherwise."""
        ...

    def backward(self, total: torch.Tensor) -> None:
        """Add the gradient of `total`, a share of the loss that was divided by the global denominator."""
        ...

    def step(self, progress: float) -> Mapping[str, float]:
        """Sum gradients over ranks, clip, and make one optimiser step at the rate of `progress` in [0, 1].

        Returns:
            grad_norm before clipping and the learning rate.
        """
        ...

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All trained weights, whole, by their name in the module. Every rank must exhaust it."""
        ...

    def save(self, folder: Path) -> None:
        """Write the optimiser state into `folder`. Every rank must call it."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Every rank must call it."""
        ...


def schedule_factor(config: LearnerConfig, progress: float) -> float:
    """What the learning rate is multiplied with at `progress` in [0, 1] of the run."""
    progress = min(max(progress, 0.0), 1.0)
    if config.schedule == "constant":
        return 1.0
    if progress < config.warmup_fraction:
        return progress / config.warmup_fraction
    if config.schedule == "linear":
        start, end = config.warmup_fraction, 1.0
    else:
        end = 1.0 - config.hold_fraction
        start = end - config.decay_fraction
    if progress <= start:
        return 1.0
    return (
        config.final_fraction
        if progress >= end
        else 1.0 - (1.0 - config.final_fraction) * (progress - start) / (end - start)
    )


def join_ranks(*, rank: int, num_ranks: int, address: str, port: int, backend: str) -> None:
    """Make this process one rank of the learner group. Each rank sees one device of its own."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(num_ranks), LOCAL_RANK="0", MASTER_ADDR=address, MASTER_PORT=str(port)
    )
    dist.init_process_group(backend, rank=rank, world_size=num_ranks)


def num_ranks() -> int:
    """How many ranks learn together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rank() -> int:
    """Index of this rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Sum `tensor` over the ranks in place and return it."""
    if num_ranks() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def max_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Take the elementwise maximum of `tensor` over the ranks in place and return it."""
    if num_ranks() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def gather_over_ranks(value: T) -> list[T]:
    """What each rank gives, in their order; it is pickled."""
    if num_ranks() == 1:
        return [value]
    values: list[Any] = [None] * num_ranks()
    dist.all_gather_object(values, value)
    return values


def wait_for_ranks() -> None:
    """Return when every rank has come here."""
    if num_ranks() > 1:
        dist.barrier()


def default_device() -> torch.device:
    """The accelerator of this process, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
