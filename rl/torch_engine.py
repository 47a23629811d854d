"""The plain torch engine: whole weights on every rank, gradients summed by one all-reduce per step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from rl.models import Outputs, RoleModel
from rl.optimizers import build_optimizer, set_learning_rate
from rl.sample import Batch
from rl.train_engine import LearnerConfig, default_device, num_ranks, own_rank, sum_over_ranks


class TorchEngine:
    """Trains fp32 weights; bf16 means autocast around them."""

    def __init__(self, module: RoleModel, config: LearnerConfig) -> None:
        self.device = default_device()
        self.module = module.to(self.device)
        self._config = config
        self._optimizer = build_optimizer(module, config)
        self._parameters = [parameter for _, parameter in module.trained_parameters()]

    def forward(self, batch: Batch, *, value_only: bool = False) -> Outputs:
        """Outputs for a batch."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._config.dtype == "bf16"):
            return self.module(batch.token_ids, batch.loss_mask, value_only)

    def backward(self, total: torch.Tensor) -> None:
        """Add the gradient of `total`."""
        total.backward()

    def step(self, progress: float) -> Mapping[str, float]:
        """One optimiser step on the summed gradients.

        Raises:
            FloatingPointError: the gradient is not finite; the weights are untouched.
        """
        self._sum_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"gradient norm of role {self.module.role.name} is {norm}")
        rate = set_learning_rate(self._optimizer, self._config, progress)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "learning_rate": rate}

    def _sum_gradients(self) -> None:
        if num_ranks() == 1:
            return
        # Every rank must contribute the same tensors, also those that got no gradient here.
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self._parameters
        ]
        flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The trained weights; a tied one comes once."""
        for name, parameter in self.module.trained_parameters():
            yield name, parameter.detach()

    def save(self, folder: Path) -> None:
        """Write the optimiser state, which is the same on every rank."""
        if own_rank() == 0:
            torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """Read the optimiser state."""
        state = torch.load(folder / "optimizer.pt", map_location=self.device, weights_only=True)
        self._optimizer.load_state_dict(state)
