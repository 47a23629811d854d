"""Optimisers by name: AdamW, and Muon for hidden matrices with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from rl.models import RoleModel
from rl.train_engine import LearnerConfig, schedule_factor


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimiser: one state, and each parameter group steps with its own kind."""

    def __init__(self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]]) -> None:
        self._muon = torch.optim.Muon(muon)
        self._adamw = torch.optim.AdamW(adamw)
        for part, kind in ((self._muon, "muon"), (self._adamw, "adamw")):
            for group in part.param_groups:
                group["kind"] = kind
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts work on this optimiser's groups and state."""
        for part, kind in ((self._muon, "muon"), (self._adamw, "adamw")):
            part.param_groups = [group for group in self.param_groups if group["kind"] == kind]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step both parts."""
        self._muon.step()
        self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both parts."""
        super().load_state_dict(state_dict)
        self._share()


def build_optimizer(model: RoleModel, config: LearnerConfig) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over the trained parameters of `model`.

    Every parameter group carries `base_lr`, the rate before the schedule.
    """
    named = dict(model.trained_parameters())
    head = [parameter for name, parameter in named.items() if name.startswith("value_head.")]
    trained = {name: parameter for name, parameter in named.items() if not name.startswith("value_head.")}
    hidden = hidden_matrices(model) if config.optimizer == "muon" else set()
    decayed = [parameter for parameter in trained.values() if parameter.ndim >= 2 and parameter not in hidden]
    plain = [parameter for parameter in trained.values() if parameter.ndim < 2]
    matrices = [parameter for parameter in trained.values() if parameter in hidden]
    apart = config.optimizer == "muon" and config.adamw_learning_rate
    adamw_rate = config.adamw_learning_rate if apart else config.learning_rate
    adamw = [
        _group(decayed, adamw_rate, weight_decay=config.weight_decay, betas=config.betas),
        _group(plain, adamw_rate, weight_decay=0.0, betas=config.betas),
        _group(head, config.value_learning_rate or adamw_rate, weight_decay=0.0, betas=config.betas),
    ]
    # Of an adapter every weight is a hidden matrix, and an optimiser needs a group.
    adamw = [group for group in adamw if group["params"]] or adamw[:1]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(adamw)
    muon = _group(matrices, config.learning_rate, weight_decay=config.weight_decay, momentum=config.momentum)
    return MuonAdamW([muon], adamw)


def hidden_matrices(model: RoleModel) -> set[nn.Parameter]:
    """The 2D weights of linear layers inside the trunk; neither embeddings nor heads."""
    linear = [module for module in model.model.base_model.modules() if isinstance(module, nn.Linear)]
    return {cast(nn.Parameter, module.weight) for module in linear if module.weight.requires_grad}


def set_learning_rate(optimizer: torch.optim.Optimizer, config: LearnerConfig, progress: float) -> float:
    """Set every group's rate for `progress`; returns the first group's."""
    factor = schedule_factor(config, progress)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def _group(parameters: Iterable[nn.Parameter], rate: float, **settings: Any) -> dict[str, Any]:
    return {"params": list(parameters), "lr": rate, "base_lr": rate, **settings}
