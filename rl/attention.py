"""Causal attention for right-padded rows on a CPU, where it is two to three times as fast as torch's own kernel.

Queries are taken in blocks, so nothing is computed for most of what the causal mask hides. Scores are fp32 whatever
the type of the queries: rounded to bf16, the scores of a sharp head lose the differences that decide what it copies.
No padding mask: on the right, padding cannot be attended to.
Shapes: B rows, H heads, G key heads, T tokens, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "blocked_causal"
BLOCK = 96


def register() -> str:
    """Make the kernel known to transformers; returns the name for `attn_implementation`."""
    AttentionInterface.register(NAME, blocked_causal_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def blocked_causal_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal softmax attention.

    Args:
        module: unused; part of the interface.
        query: [B, H, T, D].
        key: [B, G, T, D].
        value: [B, G, T, D].
        attention_mask: must be None.
        scaling: factor of the products; None: 1 / sqrt(D).
        dropout: must be 0.

    Returns:
        Attended values [B, T, H, D], and None for the weights.

    Raises:
        ValueError: a mask, dropout, or a cache (queries fewer than keys).
    """
    rows, num_heads, length, size = query.shape
    num_groups = key.shape[1]
    if attention_mask is not None or dropout or key.shape[2] != length:
        raise ValueError("blocked causal attention takes whole right-padded rows: no mask, no dropout, no cache")
    # Heads that share a key head stand one under the other, so that each block is one plain matrix product.
    query = query.reshape(rows, num_groups, num_heads // num_groups, length, size)
    exact = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(exact) * (scaling or size**-0.5), key.to(exact)
    hidden = torch.full((BLOCK, BLOCK), float("-inf"), dtype=exact, device=query.device).triu(1)
    blocks = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        block = query[:, :, :, start:end].reshape(rows, num_groups, -1, size)
        with torch.autocast(query.device.type, enabled=False):
            products = block @ key[:, :, :end].transpose(-1, -2)
        products = products.view(rows, num_groups, -1, end - start, end)
        products[..., start:] += hidden[: end - start, : end - start]
        weights = torch.softmax(products, dim=-1).to(value.dtype).view(rows, num_groups, -1, end)
        attended = weights @ value[:, :, :end]
        blocks.append(attended.view(rows, num_heads, end - start, size))
    return torch.cat(blocks, dim=2).transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """The kernel is causal by itself."""
