"""The vLLM plug-in: weights from a safetensors file, usually in memory (/dev/shm), into a live engine; and two repairs.

vLLM imports this module through the entry point in every process it starts; nothing else should import it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

BACKEND = "safetensors"
"""Name of this backend in vLLM's `WeightTransferConfig`."""


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Nothing to agree on: every update names its file."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One update."""

    path: str
    """A safetensors file, or a folder of them, with Hugging Face parameter names."""


class FileWeightTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Replaces all weights of a live model, on CPU and on accelerators."""

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Nothing to set up."""

    def start_weight_update(self) -> None:
        """Nothing yet: the model is taken apart only after the file has been opened and read."""

    def finish_weight_update(self) -> None:
        """Nothing left: `receive_weights` ends with a model that can run."""

    def update_weights(self, update_info: dict[str, str]) -> None:
        """Load the file; the base class would synchronise an accelerator that a CPU machine does not have."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    @torch.no_grad()
    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        """Read all tensors, then reload layer by layer.

        Raises:
            ValueError: a parameter of the model is missing from the file.
        """
        from vllm.model_executor.model_loader.reload import (
            finalize_layerwise_reload,
            initialize_layerwise_reload,
        )

        weights = read_tensors(Path(update_info.path))
        # Under tied embeddings the lm head has a parameter of its own only while the layers are apart.
        expected = {name for name, _ in self.model.named_parameters()}
        # Linear layers pack their weights and drop the originals, so a plain load_weights would find
        # empty parameters: the layerwise reload restores the layers, loads them and packs them again.
        initialize_layerwise_reload(self.model)
        try:
            load_weights: Any = self.model.load_weights
            loaded = load_weights(iter(weights.items()))
        finally:
            finalize_layerwise_reload(self.model, self.model_config)
        if loaded is not None and expected - loaded:
            raise ValueError(f"{update_info.path}: no weights for {', '.join(sorted(expected - loaded)[:5])}")
        if self.device.type == "cpu":
            repack_kept_weights(self.model)

    def shutdown(self) -> None:
        """Nothing is held open."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, or of all such files in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path}: no .safetensors file")
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt", device="cpu") as reader:
            for name in reader.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
                tensors[name] = reader.get_tensor(name)
    return tensors


def repack_kept_weights(model: torch.nn.Module) -> None:
    """Pack again where the reload keeps the plain weight beside its packed copy.

    That is the embedding table that a tied lm head shares: the reload copies new values into the old
    storage after packing, so the packed copy would keep the old ones and the logits would be wrong.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for module in model.modules():
        weight = module._parameters.get("weight")
        if "cpu_linear" in vars(module) and weight is not None and weight.numel() > 0:
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def register() -> None:
    """Entry point `vllm.general_plugins`: make the backend known; vLLM may call it more than once."""
    _spare_cpu_generators()
    _multiply_with_one_adapter()
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, FileWeightTransferEngine)
        end_with_parent()


def end_with_parent() -> None:
    """In a process that vLLM started: end when its parent does.

    vLLM stops its engine core only in an orderly shutdown; a rollout worker that is killed would leave
    the core behind, with its memory.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()


def _spare_cpu_generators() -> None:
    """Rewind the generators of seeded requests on a CPU, where vLLM cannot.

    The token sampled after a prompt's first part is discarded, and vLLM then rewinds the generator of a seeded request
    by an offset. A CPU generator has none: it raises, and the engine core dies. So the state before the draw is put
    back instead: a seed gives the same tokens whichever way the prompt was split.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    sample, bookkeeping = CPUModelRunner._sample, CPUModelRunner._bookkeeping_sync
    if bookkeeping.__name__ == "without_rewinding":
        return

    def discarded(self: Any) -> dict[int, Any]:
        indices = self.discard_request_mask.np[: self.input_batch.num_reqs].nonzero()[0].tolist()
        generators = self.input_batch.generators
        return {index: generators[index] for index in indices if index in generators}

    def with_states_put_back(self: Any, *args: Any, **kwargs: Any) -> Any:
        states = [(generator, generator.get_state()) for generator in discarded(self).values()]
        try:
            return sample(self, *args, **kwargs)
        finally:
            for generator, state in states:
                generator.set_state(state)

    def without_rewinding(self: Any, *args: Any, **kwargs: Any) -> Any:
        spared = discarded(self)
        for index in spared:
            del self.input_batch.generators[index]
        try:
            return bookkeeping(self, *args, **kwargs)
        finally:
            self.input_batch.generators.update(spared)

    CPUModelRunner._sample = with_states_put_back
    CPUModelRunner._bookkeeping_sync = without_rewinding


def _multiply_with_one_adapter() -> None:
    """On CPU, multiply all tokens with the weights of an engine's only adapter.

    vLLM gathers a copy of the weights for every token, because another token might have another adapter. Ours serve one
    at a time, and with a copy for each token they sample half as fast and less.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    gather_shrink, gather_expand = lora_ops.bgmv_shrink, lora_ops.bgmv_expand_slice
    if gather_shrink.__name__ == "shrink":
        return

    def shrink(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
        if len(weights) > 1:
            return gather_shrink(inputs, weights, output, indices, scaling)
        matrix = weights.reshape(weights.shape[-2:]).to(output.dtype)  # [rank, in]
        output[:, : len(matrix)] = scaling * (inputs.to(output.dtype) @ matrix.T)

    def expand(
        inputs: Any, weights: Any, output: Any, indices: Any, offset: int, size: int, add_inputs: bool = True
    ) -> None:
        if len(weights) > 1 or not add_inputs:
            return gather_expand(inputs, weights, output, indices, offset, size, add_inputs)
        matrix = weights.reshape(weights.shape[-2:]).to(output.dtype)  # [out, rank]
        output[:, offset : offset + size] += inputs.to(output.dtype) @ matrix.T

    for module in (lora_ops, punica_cpu):
        vars(module).update(bgmv_shrink=shrink, bgmv_expand_slice=expand)
