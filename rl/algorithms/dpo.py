"""Direct preference optimisation, alone or together with supervised learning of the better side.

Source: DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7). With an SFT term it is Relign's simultaneous strategy
(arXiv 2412.04141); the sequential one is a recipe whose `first` learns by SFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rl.algorithms import LearnsFrom, Loss, Models, Prepared
from rl.algorithms.sft import demonstration_sample
from rl.losses import preference_loss, weighted_nll
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class DPO:
    """The chosen trajectory becomes likelier against the rejected one, measured from the reference.

    For chosen y and rejected z after a prompt, with h the sum of token weight x (log-prob - reference log-prob):

        loss = -log sigmoid(beta * (h(y) - h(z)))

    averaged over the pairs by their weights. The reference is the model that the run, or this part of it, starts from.
    """

    beta: float = 0.1
    """How sharply the loss reacts to a margin: small values let the policy go far from the reference."""
    sft_coefficient: float = 0.0
    """Weight of the negative log-likelihood of the chosen side beside the preference loss: Relign's ratio. The
    likelihood is a mean over all chosen tokens of an update. 0: DPO alone."""
    differing_weight: float = 1.0
    """Weight of the tokens in which the two sides differ, those between what they begin and end with in common (TTPA,
    arXiv 2505.20016, token-level preferences); 1: all tokens count the same."""
    length_normalised: bool = False
    """h is the mean over the tokens and not the sum, so that no side gains by its length; needs a larger beta."""
    label_smoothing: float = 0.0
    """Share of pairs that are taken to be the wrong way round (conservative DPO)."""
    robust: bool = False
    """With `label_smoothing`: the unbiased estimate of the loss without the wrong pairs (Chowdhury et al. 2024, arXiv
    2403.00409)."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta {self.beta}: expected a positive number")
        if self.sft_coefficient < 0 or self.differing_weight < 0:
            raise ValueError("sft_coefficient and differing_weight: expected 0 or more")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing}: expected 0 or more and less than 0.5")

    @property
    def learns_from(self) -> LearnsFrom:
        """Preferences, or groups of rollouts."""
        return "scores"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The policy and what it started as."""
        return (Role(name="policy"), Role(name="reference", trained=False, kept=True))

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        """Two samples for each group: its best trajectory and its worst. Nothing, if they scored the same."""
        pairs = [pair for group in groups for pair in self._pair(group)]
        samples = [replace(sample, unit=str(number)) for number, pair in enumerate(pairs) for sample in pair]
        return _with_sft_weights(samples) if self.sft_coefficient else samples

    def _pair(self, group: ScoredGroup) -> list[tuple[Sample, Sample]]:
        scored = group.scored()
        if not scored:
            return []
        best = max(scored, key=lambda pair: pair[1].total)
        worst = min(scored, key=lambda pair: pair[1].total)
        if best[1].total == worst[1].total:
            return []
        chosen, rejected = demonstration_sample(best[0]), demonstration_sample(worst[0])
        if not chosen.num_trained or not rejected.num_trained:
            return []
        weights = _differing(chosen, rejected, self.differing_weight)
        sides = [
            replace(sample, streams={"weights": own, "preference": sample.loss_mask * np.float32(sign * group.weight)})
            for sample, own, sign in zip((chosen, rejected), weights, (1, -1), strict=True)
        ]
        return [(sides[0], sides[1])]

    def denominator(self, samples: Sequence[Sample]) -> float:
        """The sum of the pairs' weights: the loss is a weighted mean over pairs."""
        return float(sum(max(float(sample.streams["preference"].max()), 0.0) for sample in samples))

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Log-probs under the reference."""
        return Prepared(
            batches=[batch.with_streams(reference_logprobs=models["reference"](batch)["logprobs"]) for batch in batches]
        )

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        """The preference loss of the pairs, and the likelihood of the chosen sides if it counts."""
        streams = batch.streams
        ratios = (outputs["logprobs"] - streams["reference_logprobs"]) * streams["weights"]  # [B, T]
        rows = ratios.sum(dim=1)
        if self.length_normalised:
            rows = rows / streams["weights"].sum(dim=1).clamp(min=1e-8)
        # One value for all trained tokens of a row, 0 elsewhere: the pair's weight, negative on the rejected side.
        sides = streams["preference"].amax(dim=1) + streams["preference"].amin(dim=1)  # [B]
        zeros = rows.new_zeros(len(rows))
        margins = zeros.index_add(0, batch.units, rows * sides.sign())
        pair_weights = zeros.index_add(0, batch.units, sides.clamp(min=0.0))
        losses = preference_loss(self.beta * margins, label_smoothing=self.label_smoothing, robust=self.robust)
        total = (pair_weights * losses).sum()
        metrics = {
            "preference_loss": total,
            "margin": (pair_weights * margins).sum(),
            "preferred": (pair_weights * (margins > 0)).sum(),
            "chosen_ratio": (rows * sides.clamp(min=0.0)).sum(),
            "rejected_ratio": (rows * (-sides).clamp(min=0.0)).sum(),
        }
        if self.sft_coefficient:
            metrics["sft_loss"] = weighted_nll(outputs["logprobs"], streams["sft_weights"])
            total = total + self.sft_coefficient * metrics["sft_loss"]
        return Loss(total=total, metrics={"loss": total, **metrics})


def _differing(chosen: Sample, rejected: Sample, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the trained tokens of each side, float32 [L]: `weight` from the first to the last one that differs.

    What comes before the first difference is the same on both sides, and so are its log-probs: its weight is of no
    consequence.
    """
    found = [sample.loss_mask.astype(np.float32) for sample in (chosen, rejected)]
    if weight != 1.0:
        start, num_after = _common(chosen.token_ids, rejected.token_ids)
        for sample, weights in zip((chosen, rejected), found, strict=True):
            weights[start : len(sample) - num_after] *= weight
    return found[0], found[1]


def _common(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """How many tokens two sequences begin and end with in common; the two parts do not overlap."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    start = int(differs.argmax()) if differs.any() else length
    left = length - start
    differs = one[::-1][:left] != other[::-1][:left]
    return start, int(differs.argmax()) if differs.any() else left


def _with_sft_weights(samples: list[Sample]) -> list[Sample]:
    """Add the weights with which tokens of the chosen sides are imitated.

    They sum to the sum of the pairs' weights, by which the loss is divided: so a mean over tokens is what is left.
    """
    weights = [np.maximum(sample.streams["preference"], 0.0) for sample in samples]
    pairs = sum(float(weight.max()) for weight in weights)
    tokens = sum(float(weight.sum(dtype=np.float64)) for weight in weights)
    return [
        replace(sample, streams={**sample.streams, "sft_weights": (weight * (pairs / tokens)).astype(np.float32)})
        for sample, weight in zip(samples, weights, strict=True)
    ]
