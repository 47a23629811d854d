"""Supervised learning from demonstrations, with a weight for every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np

from rl.algorithms import LearnsFrom, Loss, Models, Prepared
from rl.key_tokens import KeyTokens, KeyWeights
from rl.losses import masked_sum, weighted_nll
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rollout.renderer import Renderer
from rollout.trajectory import Trajectory


class SFT:
    """Weighted negative log-likelihood of the turns that are meant to be learned from."""

    learns_from: LearnsFrom = "anything"
    roles = (Role(name="policy"),)

    def __init__(self, *, key_tokens: Mapping[str, Any] | None = None) -> None:
        """Choose the weights.

        Args:
            key_tokens: options of `rl.key_tokens.KeyTokens`, for TL-Training's weights of the tokens that decide which
                tool is called; {}: as the paper has them. None: all tokens weigh the same.

        Raises:
            ValueError: options that there are not, or that mean nothing.
        """
        unknown = sorted(set(key_tokens or {}) - {field.name for field in fields(KeyTokens)})
        if unknown:
            raise ValueError(f"key_tokens {unknown}: expected {', '.join(field.name for field in fields(KeyTokens))}")
        self._key_tokens = None if key_tokens is None else KeyTokens(**key_tokens)
        self._key_weights: KeyWeights | None = None

    def with_renderer(self, renderer: Renderer) -> SFT:
        """The same with the tokens of the model that learns."""
        ready = copy(self)
        ready._key_weights = None if self._key_tokens is None else KeyWeights(self._key_tokens, renderer)
        return ready

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        """One sample for each trajectory that leaves something to learn; of a scored group, for the best ones.

        Raises:
            ValueError: there are key tokens to find and no renderer to find them with.
        """
        samples = [self._sample(trajectory) for group in groups for trajectory in group.best()]
        return [sample for sample in samples if sample.num_trained]

    def _sample(self, trajectory: Trajectory) -> Sample:
        sample = demonstration_sample(trajectory)
        if self._key_tokens is None:
            return sample
        if self._key_weights is None:
            raise ValueError("key_tokens: the model's tokens are not known; call with_renderer first")
        return replace(sample, streams={"weights": sample.streams["weights"] * self._key_weights(trajectory)})

    def denominator(self, samples: Sequence[Sample]) -> float:
        """The sum of the weights: the loss is a weighted mean over tokens."""
        return float(sum(sample.streams["weights"].sum(dtype=np.float64) for sample in samples))

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Nothing: demonstrations carry all that is needed."""
        return Prepared(batches=batches)

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        """Negative log-likelihood, weighted."""
        total = weighted_nll(outputs["logprobs"], batch.streams["weights"])
        weighted_entropy = masked_sum(outputs["entropy"].detach() * batch.streams["weights"], batch.loss_mask)
        return Loss(total=total, metrics={"loss": total.detach(), "entropy": weighted_entropy})


def demonstration_sample(trajectory: Trajectory) -> Sample:
    """Weight 1 for the tokens of turns to learn from; turns with `train` false are context only."""
    loss_mask = np.zeros(len(trajectory.token_ids), dtype=bool)
    for turn in trajectory.turns:
        loss_mask[turn.start : turn.end] = turn.train
    return Sample(
        token_ids=trajectory.token_ids,
        loss_mask=loss_mask,
        streams={"weights": loss_mask.astype(np.float32)},
        group=trajectory.group_id,
        oldest_version=trajectory.oldest_version,
    )
