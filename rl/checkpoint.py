"""Checkpoint folders: a Hugging Face model that any tool loads, and beside it what training needs to go on.

    checkpoints/step-000120/
        config.json, tokenizer files, model.safetensors     the policy; or, where it is an adapter on a base model,
        adapter_config.json, adapter_model.safetensors      the adapter in peft's format, which names its base
        learner/                                            other weights and optimiser state, by role
        state.json                                          step, versions, seed

A folder is written under a hidden name and renamed when it is complete, so every `step-*` folder is usable.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
STATE = "state.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_LAYER_WEIGHT = re.compile(r"\.\d+\.(?:.+\.)?([^.]+)\.weight")
"""The weight of a module inside a numbered layer: neither embeddings nor heads."""
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
    folders = (path for path in root.glob("step-*") if (path / STATE).is_file() and _has_weights(path))
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step-")))


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or (folder / ADAPTER_WEIGHTS).is_file()


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
    copy_tokenizer(source, target)
    config = json.loads((source / "config.json").read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy tokenizer and template files and whatever else lies in a model folder, but neither weights nor config."""
    for path in sorted(source.iterdir()):
        is_weights = path.suffix in _WEIGHT_SUFFIXES or path.name.endswith(".index.json")
        is_own = path.name in (STATE, ADAPTER_CONFIG, "config.json") or path.name.startswith(".")
        if path.is_file() and not is_weights and not is_own:
            shutil.copyfile(path, target / path.name)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in peft's format, which needs the model it was trained on."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_and_adapter(folder: Path) -> tuple[Path, Path | None]:
    """The folder of the whole model, and that of the adapter on it where `folder` holds one.

    Raises:
        ValueError: the adapter is incomplete, or its base is not there.
    """
    if not is_adapter(folder):
        return folder, None
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text())
        base, kind = config["base_model_name_or_path"], config["peft_type"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected peft's JSON with base_model_name_or_path and peft_type: {error}") from error
    if kind != "LORA":
        raise ValueError(f"{path}: peft_type {kind!r}: expected 'LORA'")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"{folder}: the adapter has no {ADAPTER_WEIGHTS}")
    if not isinstance(base, str) or not Path(base).is_dir():
        raise ValueError(f"{path}: base_model_name_or_path {base!r}: no such folder; name the one the base lies in now")
    return Path(base), folder


def adapter_shape(folder: Path) -> tuple[int, list[str]]:
    """The largest rank of an adapter's layers, and the names of the modules they lie on; none if peft has a pattern."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    modules = config["target_modules"]
    return max(config["r"], *(config.get("rank_pattern") or {}).values(), 1), modules if isinstance(
        modules, list
    ) else []


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in a model folder, read from the headers of its safetensors files."""
    # Not in the light installation; needs no torch.
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            # A safetensors handle is no mapping.
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def layer_matrices(folder: Path) -> dict[str, list[tuple[int, ...]]]:
    """The linear layers that an adapter may change, by the last part of their name, with their [out, in] shapes."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in weight_shapes(folder).items():
        match = _LAYER_WEIGHT.search(name)
        if match and len(shape) == 2:
            found.setdefault(match[1], []).append(shape)
    return found
