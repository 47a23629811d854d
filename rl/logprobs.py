"""The one next-token shift: hidden states of position t - 1 speak about token t.

Only positions whose next token is trained go through the language-model head.
Shapes: B rows, T tokens, D hidden size, V vocabulary, N trained tokens in row-major order.
"""

from __future__ import annotations

from typing import Any

import torch


def trained_positions(loss_mask: torch.Tensor) -> torch.Tensor:
    """Flat indices [N] of the trained tokens in a [B, T] mask whose first column is false."""
    return loss_mask.flatten().nonzero().squeeze(1)


def predictors(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The hidden states that predict the tokens at `positions`: [B, T, D], [N] -> [N, D]."""
    return hidden.flatten(0, 1).index_select(0, positions - 1)


def scatter(values: torch.Tensor, positions: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Put one value per trained token back at its token: [N], [N] -> [B, T], 0 elsewhere."""
    flat = torch.zeros(shape.numel(), dtype=values.dtype, device=values.device)
    return flat.index_put((positions,), values).view(shape)


def token_logprobs(logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token and entropy of its distribution, computed in fp32.

    Args:
        logits: [N, V], any floating type.
        token_ids: int64 [N].

    Returns:
        Log-probs [N] and entropies [N], both float32 and differentiable.
    """
    return _TokenLogprobs.apply(logits, token_ids)  # type: ignore[return-value]


class _TokenLogprobs(torch.autograd.Function):
    """Keeps only the logits for the backward pass, not the three [N, V] tensors autograd would."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        all_logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
        logprobs = all_logprobs.gather(1, token_ids.unsqueeze(1)).squeeze(1)
        entropy = -(all_logprobs.exp().mul_(all_logprobs)).sum(dim=-1)
        ctx.save_for_backward(logits, token_ids, entropy)
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, logprobs_gradient: torch.Tensor | None, entropy_gradient: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        logits, token_ids, entropy = ctx.saved_tensors
        all_logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
        probabilities = all_logprobs.exp()
        gradient = torch.zeros_like(probabilities)
        if entropy_gradient is not None:
            # dH/dz_j = -p_j (log p_j + H)
            surprise = all_logprobs.add_(entropy.unsqueeze(1))
            gradient.addcmul_(probabilities * surprise, entropy_gradient.unsqueeze(1), value=-1.0)
        if logprobs_gradient is not None:
            # d log p_y / dz_j = 1[j = y] - p_j
            gradient.addcmul_(probabilities, logprobs_gradient.unsqueeze(1), value=-1.0)
            gradient.scatter_add_(1, token_ids.unsqueeze(1), logprobs_gradient.unsqueeze(1))
        return gradient.to(logits.dtype), None
