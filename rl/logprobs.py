"""The one next-token shift: hidden states of position t - 1 speak about token t.

Only positions whose next token is trained go through the language-model head.
Shapes: B rows, T tokens, D hidden size, V vocabulary, N trained tokens in row-major order.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Keeps only the logits for the backward pass, not the three [N, V] tensors that autograd would.

    Works on a few rows at a time: on a CPU they stay in the cache, on an accelerator large vocabularies fit.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        entropy = torch.empty_like(logprobs)
        for rows in _row_chunks(logits):
            everything = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
            logprobs[rows] = everything.gather(1, token_ids[rows].unsqueeze(1)).squeeze(1)
            entropy[rows] = everything.exp().mul_(everything).sum(dim=1).neg_()
        ctx.save_for_backward(logits, token_ids, entropy)
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, logprobs_gradient: torch.Tensor | None, entropy_gradient: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        logits, token_ids, entropy = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for rows in _row_chunks(logits):
            everything = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
            probabilities = everything.exp()
            part = torch.zeros_like(probabilities)
            if entropy_gradient is not None:
                # dH/dz_j = -p_j (log p_j + H)
                everything.add_(entropy[rows].unsqueeze(1)).mul_(probabilities)
                part.addcmul_(everything, entropy_gradient[rows].unsqueeze(1), value=-1.0)
            if logprobs_gradient is not None:
                # d log p_y / dz_j = 1[j = y] - p_j
                own = logprobs_gradient[rows].unsqueeze(1)
                part.addcmul_(probabilities, own, value=-1.0).scatter_add_(1, token_ids[rows].unsqueeze(1), own)
            gradient[rows] = part
        return gradient, None


def _row_chunks(logits: torch.Tensor) -> Iterator[slice]:
    """Slices of rows that hold about a megabyte on a CPU and half a gigabyte elsewhere, in fp32."""
    elements = 2**18 if logits.device.type == "cpu" else 2**27
    rows = max(1, elements // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))
