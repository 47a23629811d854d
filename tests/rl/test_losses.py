import math

import torch

from rl.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    importance_weights,
    kl_to_reference,
    masked_sum,
    weighted_nll,
)

MASK = torch.tensor([[False, True, True, True]])


def row(*values: float) -> torch.Tensor:
    return torch.tensor([[0.0, *values]])


def test_weighted_nll_is_a_plain_weighted_sum() -> None:
    assert weighted_nll(row(-1.0, -2.0, -4.0), row(1.0, 0.5, 0.0)).item() == 2.0


def test_masked_sum_ignores_even_infinities_outside_the_mask() -> None:
    assert masked_sum(torch.tensor([[math.inf, 1.0, 2.0, 3.0]]), MASK).item() == 6.0


def test_the_policy_loss_clips_only_gains() -> None:
    logprobs = row(math.log(1.5), math.log(0.5), math.log(1.5)).requires_grad_()
    advantages = row(1.0, -1.0, -1.0)
    loss, clipped = clipped_policy_loss(logprobs, row(0, 0, 0), advantages, MASK, clip_low=0.2, clip_high=0.3)
    # 1.5 held at 1.3; 0.5 held at 0.8; 1.5 with a negative advantage is not held
    assert math.isclose(loss.item(), -(1.3 - 0.8 - 1.5), rel_tol=1e-6)
    assert clipped.item() == 2.0
    loss.backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, row(0.0, 0.0, 1.5))


def test_importance_weights_scale_the_policy_loss_and_are_capped() -> None:
    weights, ratio = importance_weights(row(0.0, 0.0, 0.0), row(math.log(0.25), 0.0, math.log(2.0)), MASK, cap=2.0)
    torch.testing.assert_close(ratio, torch.tensor([[1.0, 4.0, 1.0, 0.5]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 2.0, 1.0, 0.5]]))
    loss, _ = clipped_policy_loss(
        row(0, 0, 0), row(0, 0, 0), row(1, 1, 1), MASK, clip_low=0.2, clip_high=0.2, weights=weights
    )
    assert math.isclose(loss.item(), -3.5, rel_tol=1e-6)


def test_the_value_loss_takes_the_worse_of_free_and_clipped() -> None:
    values, old, returns = row(1.0, 1.0, 0.0), row(0.0, 0.0, 0.0), row(1.0, 0.1, 0.0)
    assert math.isclose(
        clipped_value_loss(values, old, returns, MASK, value_clip=None).item(), 0.5 * 0.81, rel_tol=1e-6
    )
    # held at 0.2: the first error is 0.8 instead of 0, the second stays 0.9
    assert math.isclose(
        clipped_value_loss(values, old, returns, MASK, value_clip=0.2).item(), 0.5 * (0.64 + 0.81), rel_tol=1e-6
    )


def test_kl_is_zero_for_equal_and_positive_for_other_policies() -> None:
    assert kl_to_reference(row(-1, -2, -3), row(-1, -2, -3), MASK).item() == 0.0
    assert kl_to_reference(row(-1, -2, -3), row(-2, -1, -3), MASK).item() > 0.0


def test_kl_estimates_the_true_divergence() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(6).log_softmax(0), torch.randn(6).log_softmax(0)
    # the expectation of k3 under the policy is the divergence itself
    mask = torch.ones(1, 1, dtype=torch.bool)
    terms = [kl_to_reference(policy[a].view(1, 1), reference[a].view(1, 1), mask) * policy[a].exp() for a in range(6)]
    torch.testing.assert_close(sum(terms), (policy.exp() * (policy - reference)).sum())
