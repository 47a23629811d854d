"""Weights on their way out: one safetensors file with Hugging Face names, written atomically."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rl.models import RoleModel

MODEL_PREFIX = "model."
"""What `RoleModel` puts before the Hugging Face name."""


def policy_weights(named_weights: Iterable[tuple[str, torch.Tensor]]) -> Iterable[tuple[str, torch.Tensor]]:
    """The language model's weights, or its adapter's, by their Hugging Face names; our own heads are left out."""
    for name, weight in named_weights:
        if name.startswith(MODEL_PREFIX):
            yield name.removeprefix(MODEL_PREFIX), weight


def head_weights(named_weights: Iterable[tuple[str, torch.Tensor]]) -> Iterable[tuple[str, torch.Tensor]]:
    """The weights that are no part of the Hugging Face model."""
    for name, weight in named_weights:
        if not name.startswith(MODEL_PREFIX):
            yield name, weight


def write_weights(
    named_weights: Iterable[tuple[str, torch.Tensor]],
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    write: bool = True,
) -> None:
    """Write weights to `path`, which appears only when it is complete.

    Args:
        named_weights: whole tensors; a tied weight comes once, under the name of its first use.
        path: the file.
        dtype: what floating weights are stored as; None keeps theirs.
        write: false only exhausts `named_weights`, as every rank but the first must.
    """
    tensors = {}
    for name, weight in named_weights:
        if write:
            stored = weight.detach().to("cpu", dtype if dtype is not None and weight.is_floating_point() else None)
            tensors[name] = stored.contiguous()
    if not write:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # Hugging Face refuses files without this metadata.
    save_file(tensors, partial, metadata={"format": "pt"})
    follow_umask(partial)
    os.replace(partial, path)


def follow_umask(path: Path) -> None:
    """Give a file the rights that any new file gets: safetensors makes its own readable by nobody else."""
    # The mask itself can only be read by changing it, for all threads.
    new = path.with_name(f".{path.name}.new")
    new.touch()
    shutil.copymode(new, path)
    new.unlink()


def read_weights(module: RoleModel, path: Path) -> None:
    """Load a file of `write_weights` into the parameters of the same names.

    Raises:
        ValueError: the file holds a name the module does not have.
    """
    result = module.load_state_dict(load_file(path), strict=False)
    if result.unexpected_keys:
        raise ValueError(f"{path}: weights {result.unexpected_keys[:3]} are not in role {module.role.name}")
