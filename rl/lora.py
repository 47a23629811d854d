"""LoRA adapters (arXiv 2106.09685) through peft: put into a model, kept in peft's own format, merged into the base.

The layers are injected, so a model with an adapter is still the Hugging Face model that everything else knows.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from rl.checkpoint import base_and_adapter, copy_tokenizer
from rl.config import Lora

# peft itself takes most of a second to import, which only runs with an adapter should pay: hence the imports inside.

_NAME = "default"
"""What peft calls an adapter that nobody named."""
_PEFT_PREFIX = "base_model.model."
"""What `PeftModel.save_pretrained` writes before the name of a module."""


def add_adapter(model: PreTrainedModel, lora: Lora) -> None:
    """Put an adapter that changes nothing yet into `model`, and freeze everything else in it.

    Raises:
        ValueError: a target module is not in the model.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules or linear_layers(model),
    )
    inject_adapter_in_model(config, model, _NAME)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers in the trunk, by the last part; neither embeddings nor heads."""
    modules = model.base_model.named_modules()
    return sorted({name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)})


def dropouts(model: PreTrainedModel) -> list[nn.Module]:
    """The adapter's dropout layers."""
    return [layer.lora_dropout[_NAME] for layer in _adapter_layers(model) if _NAME in layer.lora_dropout]


@contextmanager
def without_adapter(model: PreTrainedModel) -> Iterator[None]:
    """Let `model` compute what its base does. Not for gradients: peft freezes the adapter meanwhile."""
    layers = _adapter_layers(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _adapter_layers(model: PreTrainedModel) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def peft_names(named_weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """An adapter's weights by the names they have in peft's files."""
    for name, weight in named_weights:
        yield _PEFT_PREFIX + name.replace(f".{_NAME}.", "."), weight


def write_adapter_config(model: PreTrainedModel, folder: Path, base: Path) -> None:
    """Write the adapter_config.json of the adapter in `model`, which lies on the model in the folder `base`."""
    config = copy.copy(cast(Any, model).peft_config[_NAME])
    config.base_model_name_or_path = str(base.absolute())
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(folder)


def read_adapter(model: PreTrainedModel, path: Path) -> None:
    """Load the file that was written of an adapter of the same shape into the one in `model`.

    Raises:
        ValueError: the file is of another adapter.
    """
    own = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    names = {peft_name: name for (peft_name, _), name in zip(peft_names(own.items()), own, strict=True)}
    read = load_file(path)
    differing = sorted(names.keys() ^ read.keys())
    differing += [name for name in names if name in read and read[name].shape != own[names[name]].shape]
    if differing:
        raise ValueError(f"{path}: the adapter is another one than the run's: {', '.join(differing[:3])}")
    model.load_state_dict({names[name]: weight for name, weight in read.items()}, strict=False)


def merge(folder: Path, out: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write the model with the adapter in `folder` as a whole Hugging Face model into `out`, and return that.

    The sum is formed in float32. `out` appears only when it is complete.

    Raises:
        ValueError: `folder` holds no adapter, or its base is not there.
        OSError: `out` exists and is not empty.
    """
    from peft import PeftModel

    base, adapter = base_and_adapter(folder)
    if adapter is None:
        raise ValueError(f"{folder}: expected a folder with an adapter in peft's format")
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = cast(Any, PeftModel.from_pretrained(loaded, str(adapter))).merge_and_unload(safe_merge=True).to(dtype)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    copy_tokenizer(base, partial)
    model.save_pretrained(partial)
    os.replace(partial, out)
    return out
