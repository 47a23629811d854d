"""The engine seam on vLLM's AsyncLLM: token ids in, sampled tokens and their log-probs out."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rollout.engine import EngineFailed, Sampling
from rollout.trajectory import Alternatives, Completion, Finish

Dtype = Literal["fp32", "bf16", "fp16"]

_GIB = 1 << 30

_CPU_BLOCK_SIZE = 32
"""The smallest block the CPU attention kernel takes."""

_CPU_ENVIRONMENT = {
    # The model runs inside the engine core: one process and one queue less per token.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The sampler compiles one small function even in eager mode: 8 seconds at the first token.
    "TORCHDYNAMO_DISABLE": "1",
}


class VllmEngine:
    """One copy of the policy behind an AsyncLLM. Blocks for some 20 seconds while it starts."""

    def __init__(
        self,
        model_path: str,
        *,
        version: int = 0,
        dtype: Dtype = "fp32",
        max_context: int = 1024,
        max_num_seqs: int = 64,
        kv_cache_gib: float | None = None,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        seed: int = 0,
        enforce_eager: bool | None = None,
        block_size: int | None = None,
        lora_rank: int = 0,
        lora_modules: Sequence[str] = (),
        adapter: str = "",
        log_file: str | None = None,
    ) -> None:
        """Start the engine.

        Args:
            model_path: folder of a Hugging Face checkpoint.
            version: policy version of that checkpoint.
            dtype: of weights, activations and KV cache.
            max_context: longest prompt plus completion.
            max_num_seqs: completions sampled at the same time; more wait inside the engine.
            kv_cache_gib: memory of the KV cache; None leaves it to `gpu_memory_utilization`.
            gpu_memory_utilization: share of the accelerator's memory this engine may take.
            tensor_parallel_size: accelerators one copy is spread over.
            seed: of the engine's own sampler, used where a request brings no seed.
            enforce_eager: no compilation and no graphs; None means on CPU only.
            block_size: tokens of a KV block, the grain of the prefix cache; None leaves it to vLLM.
            lora_rank: largest rank of the adapters that are loaded in place of weights; 0: weights are loaded.
            lora_modules: names of the modules that adapters lie on; none: all that vLLM knows, with the head, which
                costs time whether or not there is something on it.
            adapter: folder of the adapter, in peft's format, that is served as `version` from the start.
            log_file: where vLLM's log lines go; None: warnings only, to stderr.
        """
        _prepare_environment(log_file)
        # vLLM reads its environment on import, so it is imported only now.
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = _arguments(
            model_path,
            dtype=dtype,
            max_context=max_context,
            max_num_seqs=max_num_seqs,
            kv_cache_gib=kv_cache_gib,
            gpu_memory_utilization=gpu_memory_utilization,
            seed=seed,
            enforce_eager=enforce_eager,
            block_size=block_size,
        )
        arguments["tensor_parallel_size"] = tensor_parallel_size
        arguments["enable_log_requests"] = False
        if lora_rank:
            arguments |= _lora_arguments(lora_rank, lora_modules)
        else:
            arguments["weight_transfer_config"] = {"backend": "safetensors"}
        with _environment(_CPU_ENVIRONMENT if _on_cpu() and tensor_parallel_size == 1 else {}):
            self._llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self._max_context = max_context
        self._first_version = version
        self._version = version
        self._params: dict[Sampling, Any] = {}
        self._in_flight: set[str] = set()
        self._idle = asyncio.Event()
        self._takes_adapters = lora_rank > 0
        self._num_adapters = 0
        self._adapter: Any = self._lora_request(version, adapter) if adapter else None
        self._loading = asyncio.Lock()
        self._failed = ""

    @property
    def version(self) -> int:
        """Version of the weights that are live."""
        return self._version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        """Sample one completion after `prompt_ids`. Waits while weights are being loaded.

        Raises:
            EngineFailed: the engine is dead, closed or has no valid weights.
            ValueError: the prompt leaves no room in the context.
        """
        if len(prompt_ids) >= self._max_context:
            raise ValueError(f"a prompt of {len(prompt_ids)} tokens leaves no room in {self._max_context}")
        if self._loading.locked():
            async with self._loading:
                pass
        if self._failed:
            raise EngineFailed(self._failed)
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt: Any = {"type": "token", "prompt_token_ids": list(prompt_ids)}
        result = None
        params = self._sampling_params(sampling)
        self._in_flight.add(request_id)
        try:
            async for part in self._llm.generate(prompt, params, request_id, lora_request=self._adapter):
                result = part
        except EngineDeadError as error:
            self._failed = f"vLLM's engine core is dead: {error}"
            raise EngineFailed(self._failed) from error
        except EngineGenerateError as error:
            raise EngineFailed(f"request {request_id}: {error.__cause__!r}") from error
        finally:
            self._in_flight.discard(request_id)
            self._idle.set()
        assert result is not None
        output = result.outputs[0]
        if output.finish_reason not in ("stop", "length"):
            raise EngineFailed(f"request {request_id}: {output.finish_reason}")
        logprobs, alternatives = _logprobs(output.logprobs, sampling.num_alternatives)
        return Completion(
            token_ids=np.asarray(output.token_ids, dtype=np.int32),
            logprobs=logprobs,
            finish=Finish(output.finish_reason),
            # An adapter is not exchanged before the last request that began with it has ended.
            policy_version=self._version if self._takes_adapters else self._sampled_version(output.weight_versions),
            alternatives=alternatives,
        )

    async def load(self, version: int, weights: str) -> None:
        """Make `weights` live as `version`, once requests in flight are done.

        Args:
            version: of the policy.
            weights: a safetensors file or a folder of them; of an engine with `lora_rank` the folder of an adapter.

        Raises:
            EngineFailed: the weights could not be loaded; nothing is served until a load succeeds.
        """
        async with self._loading:
            if self._llm is None:
                raise EngineFailed(self._failed)
            try:
                await (self._exchange_adapter if self._takes_adapters else self._replace_weights)(version, weights)
            except Exception as error:  # vLLM hands over what its processes raised as plain Exception
                self._failed = f"loading {weights} as version {version} failed: {error}"
                if not self._llm.errored:
                    await self._llm.abort(list(self._in_flight))
                raise EngineFailed(self._failed) from error
            self._version = version
            self._failed = ""

    async def _replace_weights(self, version: int, weights: str) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        # Clears the prefix cache too: its keys do not know the weights they were computed with.
        await self._llm.pause_generation(mode="wait", clear_cache=True)
        await self._llm.start_weight_update()
        await self._llm.update_weights(WeightTransferUpdateRequest(update_info={"path": weights}))
        await self._llm.finish_weight_update(weight_version=str(version))
        await self._llm.resume_generation()

    async def _exchange_adapter(self, version: int, folder: str) -> None:
        """Load the adapter in `folder` and drop the one before, whose cached prefixes no request can meet again."""
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()
        if not Path(folder).is_dir():  # vLLM would look for a model of that name in the network.
            raise FileNotFoundError(f"{folder}: no such folder")
        if self._adapter is not None:
            await self._llm.remove_lora(self._adapter.lora_int_id)
            self._adapter = None
        adapter = self._lora_request(version, folder)
        await self._llm.add_lora(adapter)
        self._adapter = adapter

    def _lora_request(self, version: int, folder: str) -> Any:
        """How requests name an adapter; never the same twice, for the name is part of the prefix cache's keys."""
        from vllm.lora.request import LoRARequest

        self._num_adapters += 1
        return LoRARequest(f"version-{version}-{self._num_adapters}", self._num_adapters, folder)

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._failed = "the engine is closed"
        self._llm.shutdown()
        # Else its finaliser would shut down once more, in an interpreter that is ending.
        self._llm = None

    def _sampled_version(self, spans: Any) -> int:
        """The version that vLLM itself recorded with the tokens; the oldest, should there be several."""
        label = spans[0].version if spans else "default"
        return self._first_version if label == "default" else int(label)

    def _sampling_params(self, sampling: Sampling) -> Any:
        """vLLM's parameters; kept, because checking them costs more than a short completion's tokens."""
        params = self._params.get(sampling)
        if params is None:
            from vllm import SamplingParams
            from vllm.sampling_params import RequestOutputKind

            params = SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                # A generator per request costs a kernel launch per token and request.
                seed=sampling.seed,
                stop_token_ids=list(sampling.stop_token_ids),
                ignore_eos=True,
                logprobs=sampling.num_alternatives,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            if sampling.seed is None:
                self._params[sampling] = params
        return params


class BareEngine:
    """vLLM's offline `LLM` in this process, without Ray, episodes or updates: what the rollout bench compares with."""

    def __init__(
        self,
        model_path: str,
        *,
        num_threads: int,
        dtype: Dtype = "fp32",
        max_context: int = 1024,
        max_num_seqs: int = 64,
        kv_cache_gib: float | None = None,
        gpu_memory_utilization: float = 0.9,
        seed: int = 0,
        log_file: str | None = None,
    ) -> None:
        """Start the engine with the settings of a `VllmEngine`, on CPU with `num_threads` OpenMP threads."""
        _prepare_environment(log_file)
        import torch
        from vllm import LLM

        torch.set_num_threads(num_threads)
        arguments = _arguments(
            model_path,
            dtype=dtype,
            max_context=max_context,
            max_num_seqs=max_num_seqs,
            kv_cache_gib=kv_cache_gib,
            gpu_memory_utilization=gpu_memory_utilization,
            seed=seed,
            enforce_eager=None,
            block_size=None,
        )
        with _environment({"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}):
            self._llm = LLM(**arguments)

    def generate(self, requests: Sequence[tuple[Sequence[int], int]]) -> int:
        """Sample after each prompt exactly as many tokens as asked for; returns the tokens sampled."""
        from vllm import SamplingParams

        prompts: Any = [{"prompt_token_ids": list(prompt_ids)} for prompt_ids, _ in requests]
        params = [
            SamplingParams(max_tokens=num, min_tokens=num, ignore_eos=True, logprobs=0, detokenize=False)
            for _, num in requests
        ]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)


def _logprobs(flat: Any, num_alternatives: int) -> tuple[np.ndarray, Alternatives | None]:
    """vLLM's flat log-probs -> those of the sampled tokens [n], and the likeliest k at each position [n, k].

    At each position vLLM puts the sampled token first and the k likeliest behind it.
    """
    table = np.asarray(flat.logprobs, dtype=np.float32).reshape(len(flat), 1 + num_alternatives)
    if not num_alternatives:
        return table[:, 0], None
    token_ids = np.asarray(flat.token_ids, dtype=np.int32).reshape(table.shape)
    return table[:, 0].copy(), Alternatives(token_ids=token_ids[:, 1:], logprobs=table[:, 1:])


def _arguments(
    model_path: str,
    *,
    dtype: Dtype,
    max_context: int,
    max_num_seqs: int,
    kv_cache_gib: float | None,
    gpu_memory_utilization: float,
    seed: int,
    enforce_eager: bool | None,
    block_size: int | None,
) -> dict[str, Any]:
    """What every way of running vLLM is given; call after `_prepare_environment`."""
    arguments: dict[str, Any] = {
        "model": model_path,
        "skip_tokenizer_init": True,
        "dtype": {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype],
        "max_model_len": max_context,
        "max_num_seqs": max_num_seqs,
        "gpu_memory_utilization": gpu_memory_utilization,
        "seed": seed,
        "enforce_eager": _on_cpu() if enforce_eager is None else enforce_eager,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_cache_gib * _GIB)
    if block_size is not None or _on_cpu():
        # vLLM takes 128 on CPU; turns and the prompts of a group share much, but in small pieces.
        arguments["block_size"] = block_size or _CPU_BLOCK_SIZE
    return arguments


def _lora_arguments(rank: int, modules: Sequence[str]) -> dict[str, Any]:
    """One adapter at a time, of at most `rank`."""
    from vllm.config.lora import MaxLoRARanks

    return {
        "enable_lora": True,
        "max_loras": 1,
        "lora_target_modules": list(modules) or None,
        "max_lora_rank": min(size for size in get_args(MaxLoRARanks) if size >= rank),
    }


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def _prepare_environment(log_file: str | None) -> None:
    """Set what vLLM and its child processes read from the environment when they are imported."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if log_file is None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        return
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": log_file, "formatter": "plain"}},
        "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="tether_vllm_log_", delete=False) as file:
        json.dump(config, file)
    os.environ["VLLM_LOGGING_CONFIG_PATH"] = file.name


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started within, and only for them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
