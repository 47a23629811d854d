"""Proximal policy optimisation with a critic, GAE over action tokens, and correction for the engine's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rewards.types import Score
from rl.advantages import gae, group_baselines, over_turns, turn_rewards
from rl.algorithms import Loss, Models, Prepared
from rl.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    importance_weights,
    kl_to_reference,
    masked_sum,
)
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rl.train_engine import max_over_ranks, sum_over_ranks
from rollout.trajectory import UNKNOWN_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class PPO:
    """Policy and critic learn from the rewards of turns."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    value_clip: float | None = None
    """How far a value may move in one update; None: no limit."""
    value_coefficient: float = 0.1
    """Weight of the value loss beside the policy loss, where they share a trunk."""
    value_trunk_gradient: float = 1.0
    """Share of the value loss's gradient that enters a shared trunk."""
    kl_coefficient: float = 0.0
    """Weight of the KL to the reference; 0 needs no reference model."""
    entropy_coefficient: float = 0.0
    gamma: float = 1.0
    gae_lambda: float = 0.95
    group_baseline: bool = False
    """Expect of a turn what the other trajectories of its task earned from that turn on; the critic then learns what
    deviates from it. Takes the spread between tasks out of the advantages; needs groups of several, and gamma 1.
    Groups in which all earned the same are left out, as in DAPO (arXiv 2503.14476, section 3.2): nothing in them was
    better than the rest."""
    normalise_advantages: bool = True
    """To mean 0 and deviation 1 over all action tokens of an update."""
    critic: Literal["shared", "separate"] = "shared"
    """A value head on the policy's trunk, or a model of its own."""
    importance_cap: float = 2.0
    """Largest weight for a token that the learner finds likelier than the engine did."""
    warmup_updates: int = 0
    """First updates in which only the value head (a separate critic: only the critic) learns."""

    def __post_init__(self) -> None:
        if self.critic not in ("shared", "separate"):
            raise ValueError(f"critic {self.critic!r}: expected 'shared' or 'separate'")
        if self.group_baseline and self.gamma != 1.0:
            raise ValueError(f"gamma {self.gamma}: expected 1 with group_baseline, which adds up rewards undiscounted")

    @property
    def roles(self) -> tuple[Role, ...]:
        """Policy, critic where it is separate, reference where the KL counts."""
        shared = self.critic == "shared"
        policy = Role(
            name="policy",
            values=shared,
            value_trunk_gradient=self.value_trunk_gradient,
            value_warmup_updates=self.warmup_updates,
        )
        critic = () if shared else (Role(name="critic", policy=False, values=True),)
        reference = (Role(name="reference", trained=False),) if self.kl_coefficient else ()
        return (policy, *critic, *reference)

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        """One sample for each scored trajectory that our engines sampled."""
        return [sample for group in groups for sample in self._samples_of(group)]

    def _samples_of(self, group: ScoredGroup) -> list[Sample]:
        pairs = [pair for pair in group.scored() if pair[0].oldest_version != UNKNOWN_VERSION]
        if self.group_baseline and len(pairs) > 1 and _earned_the_same([score for _, score in pairs]):
            return []
        baselines = group_baselines([score for _, score in pairs])
        samples = []
        for (trajectory, score), baseline in zip(pairs, baselines, strict=True):
            streams = {
                "rewards": turn_rewards(trajectory, score),
                "sampler_logprobs": np.where(trajectory.action_mask, trajectory.logprobs, 0.0).astype(np.float32),
            }
            if self.group_baseline:
                streams["baselines"] = over_turns(trajectory, baseline)
            samples.append(
                Sample(
                    token_ids=trajectory.token_ids,
                    loss_mask=trajectory.action_mask,
                    streams=streams,
                    group=trajectory.group_id,
                    oldest_version=trajectory.oldest_version,
                )
            )
        return samples

    def denominator(self, samples: Sequence[Sample]) -> float:
        """The number of action tokens."""
        return float(sum(sample.num_trained for sample in samples))

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Log-probs and values before the update, reference log-probs, advantages and returns."""
        prepared = [self._before_update(batch, models) for batch in batches]
        metrics = _prepared_metrics(prepared, self.importance_cap)
        if self.normalise_advantages:
            prepared = _normalised(prepared)
        return Prepared(batches=prepared, metrics=metrics)

    def _before_update(self, batch: Batch, models: Models) -> Batch:
        policy = models["policy"](batch)
        values = policy["values"] if self.critic == "shared" else models["critic"](batch)["values"]
        # The group's expectation and the critic's are one value; the critic learns what is left of the returns.
        baselines = batch.streams.get("baselines", torch.zeros_like(values))
        advantages, returns = gae(
            batch.streams["rewards"].cpu().numpy(),
            (values + baselines).cpu().numpy(),
            batch.loss_mask.cpu().numpy(),
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        streams = {
            "learner_logprobs": policy["logprobs"],
            "values": values,
            "advantages": torch.from_numpy(advantages).to(values.device),
            "returns": torch.from_numpy(returns).to(values.device) - baselines,
        }
        if self.kl_coefficient:
            streams["reference_logprobs"] = models["reference"](batch)["logprobs"]
        return batch.with_streams(**streams)

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        """The critic's loss, or the policy's with the value loss of a shared trunk in it."""
        if role == "critic":
            value_loss = self._value_loss(batch, outputs)
            return Loss(total=value_loss, metrics={"loss": value_loss})
        total, metrics = self._policy_loss(batch, outputs)
        if self.critic == "shared":
            value_loss = self._value_loss(batch, outputs)
            metrics["value_loss"] = value_loss
            total = total + self.value_coefficient * value_loss
        return Loss(total=total, metrics={"loss": total, **metrics})

    def _policy_loss(self, batch: Batch, outputs: Outputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        streams, mask = batch.streams, batch.loss_mask
        weights, _ = importance_weights(
            streams["learner_logprobs"], streams["sampler_logprobs"], mask, cap=self.importance_cap
        )
        policy_loss, num_clipped = clipped_policy_loss(
            outputs["logprobs"],
            streams["learner_logprobs"],
            streams["advantages"],
            mask,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            weights=weights,
        )
        entropy = masked_sum(outputs["entropy"], mask)
        total = policy_loss - self.entropy_coefficient * entropy
        metrics = {"policy_loss": policy_loss, "clip_fraction": num_clipped, "entropy": entropy}
        metrics["update_kl"] = kl_to_reference(outputs["logprobs"].detach(), streams["learner_logprobs"], mask)
        if self.kl_coefficient:
            metrics["kl"] = kl_to_reference(outputs["logprobs"], streams["reference_logprobs"], mask)
            total = total + self.kl_coefficient * metrics["kl"]
        return total, metrics

    def _value_loss(self, batch: Batch, outputs: Outputs) -> torch.Tensor:
        streams = batch.streams
        return clipped_value_loss(
            outputs["values"], streams["values"], streams["returns"], batch.loss_mask, value_clip=self.value_clip
        )


def _earned_the_same(scores: Sequence[Score]) -> bool:
    """Whether all have the same rewards, turn by turn."""
    return all(np.array_equal(score.per_turn, scores[0].per_turn) for score in scores)


def _over_batches(batches: list[Batch], name: str) -> torch.Tensor:
    """A stream's values at the trained tokens of this rank's batches: float64 [N]."""
    return torch.cat([batch.streams[name][batch.loss_mask] for batch in batches]).double()


def _normalised(batches: list[Batch]) -> list[Batch]:
    """Advantages with mean 0 and deviation 1 over all ranks."""
    advantages = _over_batches(batches, "advantages")
    count, total = sum_over_ranks(torch.stack([advantages.new_tensor(len(advantages)), advantages.sum()]))
    mean = total / count
    # Squares about the mean: the difference of two large sums would lose the digits that count.
    deviation = (sum_over_ranks((advantages - mean).square().sum()) / count).sqrt()
    return [
        batch.with_streams(
            advantages=torch.where(
                batch.loss_mask, (batch.streams["advantages"] - mean) / (deviation + 1e-8), 0.0
            ).float()
        )
        for batch in batches
    ]


def _prepared_metrics(batches: list[Batch], importance_cap: float) -> dict[str, float]:
    """What the update starts from, over all ranks."""
    learner, sampler = _over_batches(batches, "learner_logprobs"), _over_batches(batches, "sampler_logprobs")
    values, returns = _over_batches(batches, "values"), _over_batches(batches, "returns")
    if "baselines" in batches[0].streams:
        expected = _over_batches(batches, "baselines")
        values, returns = values + expected, returns + expected
    advantages = _over_batches(batches, "advantages")
    ratio = torch.exp(learner - sampler)
    sums = sum_over_ranks(
        torch.stack(
            [
                ratio.new_tensor(len(ratio)),
                ratio.sum(),
                (ratio > importance_cap).double().sum(),
                (learner - sampler).abs().sum(),
                returns.sum(),
                (returns - values).sum(),
                advantages.sum(),
                values.sum(),
            ]
        )
    )
    count = sums[0].clamp(min=1.0)
    mean_ratio, share_capped, difference, mean_return, mean_error, mean_advantage, mean_value = sums[1:] / count
    spreads = torch.stack([(returns - mean_return).square().sum(), (returns - values - mean_error).square().sum()])
    return_spread, error_spread = sum_over_ranks(spreads)
    largest = max_over_ranks(ratio.max() if len(ratio) else ratio.new_tensor(0.0))
    return {
        "importance_mean": mean_ratio.item(),
        "importance_max": largest.item(),
        "importance_capped": share_capped.item(),
        "sampler_learner_difference": difference.item(),
        "explained_variance": (1.0 - error_spread / return_spread.clamp(min=1e-12)).item(),
        "advantage": mean_advantage.item(),
        "value": mean_value.item(),
        "return": mean_return.item(),
    }
