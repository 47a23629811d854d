"""Checkpoint folders: a Hugging Face model that any tool loads, and beside it what training needs to go on.

    checkpoints/step-000120/
        config.json, tokenizer files, model.safetensors     the policy
        learner/                                            other weights and optimiser state, by role
        state.json                                          step, versions, seed

A folder is written under a hidden name and renamed when it is complete, so every `step-*` folder is usable.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
STATE = "state.json"
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}


def begin(root: Path, step: int) -> Path:
    """An empty hidden folder for the checkpoint of `step`; what an interrupted run left there is removed."""
    partial = root / f".step-{step:06d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "learner").mkdir(parents=True)
    return partial


def commit(partial: Path, state: Mapping[str, Any]) -> Path:
    """Write `state` and rename the finished folder to its visible name, replacing one of the same step."""
    (partial / STATE).write_text(json.dumps(dict(state), indent=2) + "\n")
    final = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        os.rename(final, replaced)
    os.rename(partial, final)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def checkpoints(root: Path) -> list[Path]:
    """The usable checkpoints under `root`, oldest first."""
    folders = (path for path in root.glob("step-*") if (path / STATE).is_file() and (path / WEIGHTS).is_file())
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step-")))


def latest(root: Path) -> Path | None:
    """The newest usable checkpoint, if there is one."""
    found = checkpoints(root)
    return found[-1] if found else None


def prune(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for folder in checkpoints(root)[: -keep or None]:
        shutil.rmtree(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The state written with a checkpoint.

    Raises:
        ValueError: `folder` is no usable checkpoint.
    """
    try:
        return json.loads((folder / STATE).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: expected a checkpoint with a readable {STATE}: {error}") from error


def copy_model_files(source: Path, target: Path, *, dtype: str) -> None:
    """Copy config, tokenizer and template files, but no weights; the config states `dtype`."""
    for path in sorted(source.iterdir()):
        is_weights = path.suffix in _WEIGHT_SUFFIXES or path.name.endswith(".index.json")
        if path.is_file() and not is_weights and path.name != STATE and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)
    config = json.loads((source / "config.json").read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
