"""Proximal policy optimisation with a critic, GAE over action tokens, and correction for the engine's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from rl.advantages import Credit, check_credit, gae, group_baselines, over_turns, token_rewards
from rl.algorithms import LearnsFrom, Loss, Models, Prepared
from rl.algorithms.surrogate import (
    earned_the_same,
    num_action_tokens,
    over_batches,
    policy_loss,
    rollout_sample,
    sampled,
    sampling_metrics,
)
from rl.losses import clipped_value_loss
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rl.train_engine import sum_over_ranks


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
    credit: Credit = "turn"
    """Where the costs of errors stand: `turn`, at the end of the turn like every reward; `error`, on the last token of
    what is wrong, as far as the score tells what an error costs (ours)."""
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
        check_credit(self.credit)
        if self.group_baseline and self.gamma != 1.0:
            raise ValueError(f"gamma {self.gamma}: expected 1 with group_baseline, which adds up rewards undiscounted")

    @property
    def learns_from(self) -> LearnsFrom:
        """Its own rollouts."""
        return "rollouts"

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
        pairs = sampled(group)
        if self.group_baseline and len(pairs) > 1 and earned_the_same([score for _, score in pairs]):
            return []
        baselines = group_baselines([score for _, score in pairs])
        samples = []
        for (trajectory, score), baseline in zip(pairs, baselines, strict=True):
            streams = {"rewards": token_rewards(trajectory, score, self.credit)}
            if self.group_baseline:
                streams["baselines"] = over_turns(trajectory, baseline)
            samples.append(rollout_sample(trajectory, **streams))
        return samples

    def denominator(self, samples: Sequence[Sample]) -> float:
        """The number of action tokens."""
        return num_action_tokens(samples)

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Log-probs and values before the update, reference log-probs, advantages and returns."""
        prepared = [self._before_update(batch, models) for batch in batches]
        metrics = sampling_metrics(prepared, self.importance_cap) | _value_metrics(prepared)
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
        total, metrics = policy_loss(
            batch,
            outputs,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            importance_cap=self.importance_cap,
            entropy_coefficient=self.entropy_coefficient,
            kl_coefficient=self.kl_coefficient,
        )
        if self.critic == "shared":
            value_loss = self._value_loss(batch, outputs)
            metrics["value_loss"] = value_loss
            total = total + self.value_coefficient * value_loss
        return Loss(total=total, metrics={"loss": total, **metrics})

    def _value_loss(self, batch: Batch, outputs: Outputs) -> torch.Tensor:
        streams = batch.streams
        return clipped_value_loss(
            outputs["values"], streams["values"], streams["returns"], batch.loss_mask, value_clip=self.value_clip
        )


def _normalised(batches: list[Batch]) -> list[Batch]:
    """Advantages with mean 0 and deviation 1 over all ranks."""
    advantages = over_batches(batches, "advantages")
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


def _value_metrics(batches: list[Batch]) -> dict[str, float]:
    """What was expected and what was earned, over all ranks."""
    values, returns = over_batches(batches, "values"), over_batches(batches, "returns")
    if "baselines" in batches[0].streams:
        expected = over_batches(batches, "baselines")
        values, returns = values + expected, returns + expected
    sums = sum_over_ranks(
        torch.stack([returns.new_tensor(len(returns)), returns.sum(), (returns - values).sum(), values.sum()])
    )
    mean_return, mean_error, mean_value = sums[1:] / sums[0].clamp(min=1.0)
    spreads = torch.stack([(returns - mean_return).square().sum(), (returns - values - mean_error).square().sum()])
    return_spread, error_spread = sum_over_ranks(spreads)
    return {
        "explained_variance": (1.0 - error_spread / return_spread.clamp(min=1e-12)).item(),
        "value": mean_value.item(),
        "return": mean_return.item(),
    }
