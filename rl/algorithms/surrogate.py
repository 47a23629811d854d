"""What policy gradients share: samples of rollouts, the clipped loss of the policy, and what an update starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rewards.types import Score
from rl.errors import BadInput
from rl.losses import clipped_policy_loss, importance_weights, kl_to_reference, masked_sum
from rl.models import Outputs
from rl.sample import Batch, Sample, ScoredGroup
from rl.train_engine import max_over_ranks, sum_over_ranks
from rollout.trajectory import UNKNOWN_VERSION, Trajectory


def sampled(group: ScoredGroup) -> list[tuple[Trajectory, Score]]:
    """The scored trajectories of a group that our engines sampled.

    Raises:
        BadInput: they sampled none of them.
    """
    scored = group.scored()
    found = [pair for pair in scored if pair[0].oldest_version != UNKNOWN_VERSION]
    if scored and not found:
        raise BadInput("algorithm: this one learns from rollouts, and the source gives recorded trajectories")
    return found


def earned_the_same(scores: Sequence[Score]) -> bool:
    """Whether all have the same rewards, turn by turn."""
    return all(np.array_equal(score.per_turn, scores[0].per_turn) for score in scores)


def rollout_sample(trajectory: Trajectory, **streams: np.ndarray) -> Sample:
    """A sampled trajectory with the log-probs that its engine reported, and `streams`."""
    sampler_logprobs = np.where(trajectory.action_mask, trajectory.logprobs, 0.0).astype(np.float32)
    return Sample(
        token_ids=trajectory.token_ids,
        loss_mask=trajectory.action_mask,
        streams={"sampler_logprobs": sampler_logprobs, **streams},
        group=trajectory.group_id,
        oldest_version=trajectory.oldest_version,
    )


def num_action_tokens(samples: Sequence[Sample]) -> float:
    """The denominator of losses that are means over tokens."""
    return float(sum(sample.num_trained for sample in samples))


def policy_loss(
    batch: Batch,
    outputs: Outputs,
    *,
    clip_low: float,
    clip_high: float,
    importance_cap: float,
    entropy_coefficient: float,
    kl_coefficient: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The clipped surrogate, corrected for the engine's arithmetic, with entropy and KL where they count.

    Args:
        batch: with the streams learner_logprobs, sampler_logprobs, advantages and, for a KL, reference_logprobs.
        outputs: of the policy, with gradient.
        clip_low: see `rl.losses.clipped_policy_loss`.
        clip_high: likewise.
        importance_cap: see `rl.losses.importance_weights`.
        entropy_coefficient: what a nat of entropy is worth.
        kl_coefficient: what a nat of KL to the reference costs.

    Returns:
        The loss and its metrics, all sums.
    """
    streams, mask = batch.streams, batch.loss_mask
    weights, _ = importance_weights(streams["learner_logprobs"], streams["sampler_logprobs"], mask, cap=importance_cap)
    loss, num_clipped = clipped_policy_loss(
        outputs["logprobs"],
        streams["learner_logprobs"],
        streams["advantages"],
        mask,
        clip_low=clip_low,
        clip_high=clip_high,
        weights=weights,
    )
    entropy = masked_sum(outputs["entropy"], mask)
    total = loss - entropy_coefficient * entropy
    metrics = {"policy_loss": loss, "clip_fraction": num_clipped, "entropy": entropy}
    metrics["update_kl"] = kl_to_reference(outputs["logprobs"].detach(), streams["learner_logprobs"], mask)
    if kl_coefficient:
        metrics["kl"] = kl_to_reference(outputs["logprobs"], streams["reference_logprobs"], mask)
        total = total + kl_coefficient * metrics["kl"]
    return total, metrics


def over_batches(batches: Sequence[Batch], name: str) -> torch.Tensor:
    """A stream's values at the trained tokens of this rank's batches: float64 [N]."""
    return torch.cat([batch.streams[name][batch.loss_mask] for batch in batches]).double()


def sampling_metrics(batches: Sequence[Batch], importance_cap: float) -> dict[str, float]:
    """How far the learner's probabilities are from the engine's, and the mean advantage, over all ranks."""
    learner, sampler = over_batches(batches, "learner_logprobs"), over_batches(batches, "sampler_logprobs")
    ratio = torch.exp(learner - sampler)
    sums = sum_over_ranks(
        torch.stack(
            [
                ratio.new_tensor(len(ratio)),
                ratio.sum(),
                (ratio > importance_cap).double().sum(),
                (learner - sampler).abs().sum(),
                over_batches(batches, "advantages").sum(),
            ]
        )
    )
    mean_ratio, share_capped, difference, mean_advantage = sums[1:] / sums[0].clamp(min=1.0)
    largest = max_over_ranks(ratio.max() if len(ratio) else ratio.new_tensor(0.0))
    return {
        "importance_mean": mean_ratio.item(),
        "importance_max": largest.item(),
        "importance_capped": share_capped.item(),
        "sampler_learner_difference": difference.item(),
        "advantage": mean_advantage.item(),
    }
