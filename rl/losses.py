"""Losses as pure sums over trained tokens; whoever calls divides by the global denominator.

Every argument is float32 [B, T] and aligned with the tokens, and every result a scalar sum, unless it says otherwise.
Tokens outside the mask add nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of `values` [B, T] where the bool `mask` [B, T] is true. What stands elsewhere may be anything."""
    return torch.where(mask, values, 0.0).sum()


def weighted_nll(logprobs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood: -sum of weight x log-prob, over [B, T]; weights are 0 outside the loss mask."""
    return -(logprobs * weights).sum()


def preference_loss(margins: torch.Tensor, *, label_smoothing: float = 0.0, robust: bool = False) -> torch.Tensor:
    """The logistic loss of preferences, -log sigmoid(margin), for each of them.

    Args:
        margins: [N], by how much the chosen side is ahead, times beta.
        label_smoothing: share of preferences taken to be the wrong way round.
        robust: whether the loss is corrected for them, so that its mean is that of the right ones.

    Returns:
        [N], not summed.
    """
    right, wrong = -F.logsigmoid(margins), -F.logsigmoid(-margins)
    if robust:
        return ((1.0 - label_smoothing) * right - label_smoothing * wrong) / (1.0 - 2.0 * label_smoothing)
    return (1.0 - label_smoothing) * right + label_smoothing * wrong


def clipped_policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's pessimistic surrogate, negated.

    Args:
        logprobs: [B, T] of the policy now, with gradient.
        old_logprobs: [B, T] of the policy that the ratio starts from.
        advantages: [B, T].
        mask: bool [B, T].
        clip_low: the ratio is held above 1 - clip_low.
        clip_high: the ratio is held below 1 + clip_high.
        weights: [B, T] importance weights of the tokens, without gradient; None: all 1.

    Returns:
        The loss, and the number of tokens whose gradient was clipped away.
    """
    ratio = torch.exp(torch.where(mask, logprobs - old_logprobs, 0.0))
    free = ratio * advantages
    held = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    surrogate = torch.minimum(free, held)
    if weights is not None:
        surrogate = surrogate * weights
    clipped = (held < free).float()
    return -masked_sum(surrogate, mask), masked_sum(clipped, mask)


def clipped_value_loss(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    *,
    value_clip: float | None,
) -> torch.Tensor:
    """Half the squared error of the values; with `value_clip`, the larger one of it and that of clipped values.

    Args:
        values: [B, T] with gradient.
        old_values: [B, T] before the update.
        returns: [B, T].
        mask: bool [B, T].
        value_clip: how far a value may move from its old one and still gain; None: no limit.
    """
    error = (values - returns).square()
    if value_clip is not None:
        held = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (held - returns).square())
    return 0.5 * masked_sum(error, mask)


def kl_to_reference(logprobs: torch.Tensor, reference_logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Estimate k3 of KL(policy || reference) from sampled tokens: never negative, and unbiased.

    Args:
        logprobs: [B, T] with gradient.
        reference_logprobs: [B, T].
        mask: bool [B, T].
    """
    difference = torch.where(mask, reference_logprobs - logprobs, 0.0)
    return masked_sum(torch.expm1(difference) - difference, mask)


def importance_weights(
    learner_logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, mask: torch.Tensor, *, cap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Truncated correction for tokens that the engine sampled with slightly other probabilities than the learner's.

    Args:
        learner_logprobs: [B, T] of the learner's weights before the update.
        sampler_logprobs: [B, T] as the engine reported them.
        mask: bool [B, T].
        cap: the largest weight.

    Returns:
        The weights min(ratio, cap) and the ratios themselves, both [B, T] and 1 outside the mask.
    """
    ratio = torch.exp(torch.where(mask, learner_logprobs - sampler_logprobs, 0.0))
    return ratio.clamp(max=cap), ratio
