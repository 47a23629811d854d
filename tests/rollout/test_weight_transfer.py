from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.engine import EngineFailed, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

PROMPT = [5 + (11 * i) % 290 for i in range(70)]
"""Longer than two KV blocks, so that a prefix of it is kept in the cache."""


def forward_logprobs(model_path: Path, token_ids: list[int]) -> np.ndarray:
    """[L]: log-prob of token t; the first is NaN."""
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(model_path).float().eval()
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        logprobs = model(ids).logits.log_softmax(-1)[0, :-1]
    sampled = logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy()
    return np.concatenate([[np.nan], sampled])


async def error_against(engine: Any, model_path: Path, prompt: list[int] = PROMPT) -> float:
    completion = await engine.generate(prompt, Sampling(max_tokens=16), "parity")
    reference = forward_logprobs(model_path, [*prompt, *completion.token_ids.tolist()])[len(prompt) :]
    return float(np.abs(completion.logprobs - reference).max())


@pytest.fixture
def restored(vllm_engine, engine_loop, random_models) -> Iterator[Any]:
    """The session's engine; back on its first weights afterwards."""
    yield vllm_engine
    engine_loop.run_until_complete(vllm_engine.load(0, str(random_models["tied_a"])))


def test_new_weights_are_live_after_an_update_with_tied_embeddings(restored, engine_loop, random_models):
    async def scenario() -> None:
        assert await error_against(restored, random_models["tied_a"]) < 1e-4
        for version, name in ((1, "tied_b"), (2, "tied_a"), (3, "tied_b")):
            await restored.load(version, str(random_models[name] / "model.safetensors"))
            assert restored.version == version
            assert await error_against(restored, random_models[name]) < 1e-4
        assert await error_against(restored, random_models["tied_a"]) > 0.1

    engine_loop.run_until_complete(scenario())


@pytest.mark.slow
def test_new_weights_are_live_after_an_update_with_untied_embeddings(random_models, engine_loop):
    from rollout.vllm_engine import VllmEngine

    engine = VllmEngine(str(random_models["untied_a"]), max_context=256, max_num_seqs=16, kv_cache_gib=0.0625)

    async def scenario() -> None:
        assert await error_against(engine, random_models["untied_a"]) < 1e-4
        for version, name in ((1, "untied_b"), (2, "untied_a"), (3, "untied_b")):
            await engine.load(version, str(random_models[name]))
            assert await error_against(engine, random_models[name]) < 1e-4
        await engine.close()
        with pytest.raises(EngineFailed):
            await engine.generate(PROMPT, Sampling(), "closed")

    engine_loop.run_until_complete(scenario())


def test_a_prefix_cached_before_an_update_is_not_used_after_it(restored, engine_loop, random_models):
    async def scenario() -> None:
        await error_against(restored, random_models["tied_a"])
        await restored.load(1, str(random_models["tied_b"]))
        assert await error_against(restored, random_models["tied_b"]) < 1e-4

    engine_loop.run_until_complete(scenario())


def test_a_stale_prefix_cache_shows_in_the_parity_of_sampled_tokens(restored, engine_loop, random_models):
    async def scenario() -> None:
        await error_against(restored, random_models["tied_a"])
        llm, keep = restored._llm, restored._llm.pause_generation
        # An update that forgets to clear the cache, as start and finish of an update alone would.
        llm.pause_generation = lambda **options: keep(**{**options, "clear_cache": False})
        try:
            await restored.load(1, str(random_models["tied_b"]))
        finally:
            llm.pause_generation = keep
        assert await error_against(restored, random_models["tied_b"]) > 1e-2

    engine_loop.run_until_complete(scenario())


def test_completions_carry_the_version_that_sampled_them(restored, engine_loop, random_models):
    async def scenario() -> None:
        sampling = Sampling(max_tokens=100)
        early = asyncio.create_task(restored.generate(PROMPT, sampling, "early"))
        await asyncio.sleep(0.05)
        loading = asyncio.create_task(restored.load(7, str(random_models["tied_b"])))
        await asyncio.sleep(0)
        late = asyncio.create_task(restored.generate(PROMPT, sampling, "late"))
        await loading
        assert (await early).policy_version == 0
        assert (await late).policy_version == 7

    engine_loop.run_until_complete(restored.load(0, str(random_models["tied_a"])))
    engine_loop.run_until_complete(scenario())


def test_an_engine_that_failed_to_load_serves_nothing_until_a_load_succeeds(
    restored, engine_loop, random_models, tmp_path
):
    from safetensors.torch import load_file, save_file

    incomplete = load_file(random_models["tied_b"] / "model.safetensors")
    del incomplete["model.layers.1.mlp.down_proj.weight"]
    save_file(incomplete, tmp_path / "incomplete.safetensors")

    async def scenario() -> None:
        for broken in (tmp_path / "missing.safetensors", tmp_path / "incomplete.safetensors"):
            with pytest.raises(EngineFailed, match="failed"):
                await restored.load(1, str(broken))
            with pytest.raises(EngineFailed):
                await restored.generate(PROMPT, Sampling(), "refused")
            await restored.load(2, str(random_models["tied_b"]))
            assert await error_against(restored, random_models["tied_b"]) < 1e-4

    engine_loop.run_until_complete(scenario())
