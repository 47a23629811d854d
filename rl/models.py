"""What is trained: a causal language model with the heads a role needs.

Knows Hugging Face models only as a trunk that gives hidden states and a head that gives logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rl import attention, lora
from rl.config import Lora
from rl.logprobs import predictors, scatter, token_logprobs, trained_positions

Outputs = dict[str, torch.Tensor]
"""float32 [B, T] each, 0 where nothing is trained: logprobs and entropy of a policy, values of a critic."""

NO_ADAPTER = Lora()

_LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of models that change the logits after the head, which the selective head would miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One model an algorithm needs."""

    name: str
    trained: bool = True
    policy: bool = True
    """Whether it gives log-probs and entropy."""
    values: bool = False
    """Whether it gives values."""
    kept: bool = False
    """Of a model that is not trained: whether its log-probs are kept in the run directory, because the same sequences
    come again. It is then loaded where one is missing, and unloaded when an update missed none."""
    value_trunk_gradient: float = 1.0
    """Share of the value loss's gradient that enters the trunk; 0 leaves the trunk to the policy."""
    value_warmup_updates: int = 0
    """In so many first updates only the value head learns."""


class RoleModel(nn.Module):
    """A language model with the heads of one role."""

    def __init__(self, model: PreTrainedModel, role: Role) -> None:
        super().__init__()
        self.model = model
        self.role = role
        self.dropouts: list[nn.Module] = []
        """Of an adapter; they drop only where there is a gradient."""
        if role.values:
            self.value_head = nn.Linear(hidden_size(model.config), 1)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def forward(self, token_ids: torch.Tensor, loss_mask: torch.Tensor, value_only: bool = False) -> Outputs:
        """Log-probs, entropy and values of the tokens in `loss_mask`.

        Args:
            token_ids: int64 [B, T], padded on the right. Attention is causal, so the padding needs no mask, and
                without one the fast causal attention kernel is used.
            loss_mask: bool [B, T].
            value_only: whether nothing but the value head gets a gradient.

        Returns:
            Float32 [B, T] for each output of the role.
        """
        for dropout in self.dropouts:
            dropout.train(torch.is_grad_enabled())
        positions = trained_positions(loss_mask)
        trunk = self.model.base_model
        hidden = predictors(trunk(input_ids=token_ids, use_cache=False).last_hidden_state, positions)  # [N, D]
        outputs: dict[str, torch.Tensor] = {}
        if self.role.policy:
            head = cast(nn.Module, self.model.get_output_embeddings())
            logits = head(hidden)  # [N, V]
            logprobs, entropy = token_logprobs(logits, token_ids.flatten()[positions])
            outputs |= {"logprobs": logprobs, "entropy": entropy}
        if self.role.values:
            share = 0.0 if value_only else self.role.value_trunk_gradient
            outputs["values"] = self.value_head(scale_gradient(hidden, share)).squeeze(1).float()
        if value_only:
            outputs |= {name: scale_gradient(outputs[name], 0.0) for name in outputs if name != "values"}
        return {name: scatter(output, positions, token_ids.shape) for name, output in outputs.items()}

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is learned: everything, or an adapter and the heads; a tied weight comes once."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)


def scale_gradient(values: torch.Tensor, share: float) -> torch.Tensor:
    """`values` unchanged, their gradient times `share`.

    A share of 0 gives zero gradients rather than none: sharded engines wait for every parameter's gradient.
    """
    return values if share == 1.0 else values * share + values.detach() * (1.0 - share)


def hidden_size(config: PreTrainedConfig) -> int:
    """Width of the trunk, also of a multimodal model's text part."""
    return config.get_text_config().hidden_size


def load_model(
    path: str | Path,
    role: Role,
    *,
    dtype: torch.dtype,
    adapter: Lora = NO_ADAPTER,
    recompute_activations: bool = False,
) -> RoleModel:
    """A role's model with the weights in the folder `path`; a value head and an adapter start at zero.

    Args:
        path: a Hugging Face model folder.
        role: what the model is for.
        dtype: of all weights.
        adapter: what is trained in place of the model's own weights, if the role is trained.
        recompute_activations: keep only what enters each layer, and compute the rest again for the gradient.

    Raises:
        ValueError: the folder does not exist, the model transforms its logits after the head, cannot recompute its
            activations, or has no such modules as the adapter is for.
    """
    if not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path}: expected a model folder with config.json")
    config = AutoConfig.from_pretrained(path)
    for name in _LOGIT_TRANSFORMS:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"{path}: models with {name} are not supported")
    loaded = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation="sdpa" if torch.cuda.is_available() else attention.register()
    )
    model = RoleModel(cast(PreTrainedModel, loaded), role)
    if adapter.rank and role.trained:
        lora.add_adapter(model.model, adapter)
        model.dropouts = lora.dropouts(model.model)
    model.to(dtype)
    if not role.trained:
        model.eval().requires_grad_(False)
    elif recompute_activations:
        _recompute_activations(model.model)
    return model


def _recompute_activations(model: PreTrainedModel) -> None:
    # Reentrant: ZeRO 3 frees gathered weights in between, which the other kind takes for tensors that have changed.
    model.gradient_checkpointing_enable({"use_reentrant": True})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # A layer recomputes only in training; what is in it, such as dropout, stays as it is.
            module.training = True
