"""The DeepSpeed engine: ZeRO 0 to 3 behind the protocol of `rl.train_engine`.

DeepSpeed means to average: over accumulation steps (switched off here, the caller owns the boundary) and over ranks
(undone here by multiplying the loss), so gradients are plain sums as everywhere in tether.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist

if not torch.cuda.is_available():
    # Without it DeepSpeed probes for accelerators and may settle on one that is not there.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.utils import logger as deepspeed_logger

from rl.models import Outputs, RoleModel
from rl.optimizers import build_optimizer, set_learning_rate
from rl.sample import Batch
from rl.train_engine import LearnerConfig, default_device, num_ranks

_TAG = "deepspeed"


class DeepSpeedEngine:
    """One trained model whose state is sharded over the ranks as the ZeRO stage says."""

    def __init__(self, module: RoleModel, config: LearnerConfig) -> None:
        if not dist.is_initialized():
            raise ValueError("DeepSpeed needs a process group, also for one rank: call join_ranks first")
        deepspeed_logger.setLevel(logging.WARNING)
        deepspeed.init_distributed(dist_backend=dist.get_backend(), dist_init_required=False, verbose=False)
        self.device = default_device()
        self._config = config
        optimizer = build_optimizer(module, config)
        self._grad_norm = float("nan")
        if config.zero_stage == 0:
            # Stage 0 clips without telling the norm; this hook does both where the gradients are summed.
            optimizer.register_step_pre_hook(self._clip)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=deepspeed_settings(config), dist_init_required=False
        )

    @property
    def module(self) -> RoleModel:
        """The model; at stage 3 its parameters are shards."""
        return cast(RoleModel, self._engine.module)

    def forward(self, batch: Batch, *, value_only: bool = False) -> Outputs:
        """Outputs for a batch."""
        return self._engine(batch.token_ids, batch.loss_mask, value_only)

    def backward(self, total: torch.Tensor) -> None:
        """Add the gradient of `total`, which DeepSpeed divides by the number of ranks."""
        self._engine.backward(total * num_ranks(), scale_wrt_gas=False)

    def step(self, progress: float) -> Mapping[str, float]:
        """One optimiser step.

        Raises:
            FloatingPointError: the gradient is not finite; the weights may be lost.
        """
        rate = set_learning_rate(cast(torch.optim.Optimizer, self._optimizer), self._config, progress)
        self._engine.step()
        norm = self._grad_norm if self._config.zero_stage == 0 else float(self._engine.get_global_grad_norm() or 0.0)
        self._refuse(norm)
        return {"grad_norm": norm, "learning_rate": rate}

    def _clip(self, *_: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._config.max_grad_norm)
        self._grad_norm = norm.item()
        self._refuse(self._grad_norm)

    def _refuse(self, norm: float) -> None:
        # ZeRO reports an overflow as -1.
        if not math.isfinite(norm) or norm < 0:
            raise FloatingPointError(f"gradient norm of role {self.module.role.name} is {norm}")

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The trained weights, gathered one at a time at stage 3; a tied one comes once."""
        for name, parameter in self.module.trained_parameters():
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._config.zero_stage == 3):
                yield name, parameter.detach().clone() if self._config.zero_stage == 3 else parameter.detach()

    def save(self, folder: Path) -> None:
        """Write DeepSpeed's own checkpoint; it is read by as many ranks as wrote it."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """Read DeepSpeed's own checkpoint.

        Raises:
            ValueError: there is none for this engine and rank.
        """
        # What is frozen was not written: the base of an adapter is read from its own folder.
        whole = all(parameter.requires_grad for parameter in self.module.parameters())
        path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=whole)
        if path is None:
            raise ValueError(f"{folder}: expected the state of a DeepSpeed engine with {num_ranks()} ranks")


def deepspeed_settings(config: LearnerConfig) -> dict[str, Any]:
    """DeepSpeed's configuration for ours."""
    bf16 = config.dtype == "bf16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.max_grad_norm if config.zero_stage else 0.0,
        "zero_optimization": {"stage": config.zero_stage, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        # Stage 0 keeps fp32 weights under autocast, like the torch engine; the others keep fp32 masters.
        "bf16": {"enabled": bf16 and config.zero_stage > 0},
        "torch_autocast": {"enabled": bf16 and config.zero_stage == 0, "dtype": "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }
