"""Policy gradients without a critic: what a trajectory earned is compared with the other trajectories of its task.

What is compared (`returns`):

- turn: a token's return is what is earned from it on, so a turn answers for its own reward and for those after it, and
  not for what came before it. It is compared with the returns of the same turn in the other trajectories.
- trajectory: every token's return is the reward of the whole episode, as GRPO and RLOO were published.

The loss is PPO's clipped surrogate with its correction for the engine's arithmetic, a mean over all action tokens of a
minibatch (as DAPO, arXiv 2503.14476, and Dr. GRPO, arXiv 2503.20783, against the mean over sequences of means over
tokens of the first GRPO, which favours short right and long wrong answers). KL and entropy are terms of the loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rewards.types import Score
from rl.advantages import Credit, check_credit
from rl.algorithms import LearnsFrom, Loss, Models, Prepared
from rl.algorithms.surrogate import num_action_tokens, policy_loss, rollout_sample, sampled, sampling_metrics
from rl.models import Outputs, Role
from rl.sample import Batch, Sample, ScoredGroup
from rollout.trajectory import Trajectory

_ROUNDING = 1e-6
"""Advantages below it say nothing but that numbers are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRelative:
    """What GRPO and RLOO share; they differ in the advantages."""

    returns: Literal["turn", "trajectory"] = "turn"
    """What a token answers for: its turn's reward and those after it, or the whole episode's."""
    credit: Credit = "turn"
    """Where the costs of errors stand, as for PPO; `error` needs `returns` by turn."""
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coefficient: float = 0.0
    """Weight of the KL to the reference; 0 needs no reference model."""
    entropy_coefficient: float = 0.0
    importance_cap: float = 2.0
    """Largest weight for a token that the learner finds likelier than the engine did."""

    def __post_init__(self) -> None:
        check_credit(self.credit)
        if self.returns not in ("turn", "trajectory"):
            raise ValueError(f"returns {self.returns!r}: expected 'turn' or 'trajectory'")
        if self.credit == "error" and self.returns == "trajectory":
            raise ValueError("credit 'error' with returns 'trajectory': every token then answers for every reward")

    @property
    def learns_from(self) -> LearnsFrom:
        """Its own rollouts."""
        return "rollouts"

    @property
    def roles(self) -> tuple[Role, ...]:
        """Policy, and the reference where the KL counts."""
        reference = (Role(name="reference", trained=False),) if self.kl_coefficient else ()
        return (Role(name="policy"), *reference)

    @abstractmethod
    def advantages(self, trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> list[np.ndarray]:
        """Advantages of the tokens of each trajectory of one task, float32 [L], 0 outside its turns.

        Args:
            trajectories: at least two.
            scores: theirs.
        """

    def samples(self, groups: Sequence[ScoredGroup]) -> list[Sample]:
        """One sample for each scored trajectory that our engines sampled, but for groups in which none was better."""
        return [sample for group in groups for sample in self._samples_of(group)]

    def _samples_of(self, group: ScoredGroup) -> list[Sample]:
        pairs = sampled(group)
        if len(pairs) < 2:
            return []
        trajectories = [trajectory for trajectory, _ in pairs]
        advantages = self.advantages(trajectories, [score for _, score in pairs])
        if max(float(np.abs(one).max(initial=0.0)) for one in advantages) < _ROUNDING:
            return []
        return [
            rollout_sample(trajectory, advantages=one) for trajectory, one in zip(trajectories, advantages, strict=True)
        ]

    def denominator(self, samples: Sequence[Sample]) -> float:
        """The number of action tokens."""
        return num_action_tokens(samples)

    def prepare(self, batches: list[Batch], models: Models) -> Prepared:
        """Log-probs before the update, and those of the reference."""
        prepared = []
        for batch in batches:
            streams = {"learner_logprobs": models["policy"](batch)["logprobs"]}
            if self.kl_coefficient:
                streams["reference_logprobs"] = models["reference"](batch)["logprobs"]
            prepared.append(batch.with_streams(**streams))
        return Prepared(batches=prepared, metrics=sampling_metrics(prepared, self.importance_cap))

    def loss(self, role: str, batch: Batch, outputs: Outputs) -> Loss:
        """The clipped policy loss."""
        total, metrics = policy_loss(
            batch,
            outputs,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            importance_cap=self.importance_cap,
            entropy_coefficient=self.entropy_coefficient,
            kl_coefficient=self.kl_coefficient,
        )
        return Loss(total=total, metrics={"loss": total, **metrics})


def over_actions(trajectory: Trajectory, value: float) -> np.ndarray:
    """One value at every action token: float32 [L], 0 elsewhere."""
    return (trajectory.action_mask * np.float32(value)).astype(np.float32)
