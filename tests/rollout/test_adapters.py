"""An engine that is given LoRA adapters in place of weights."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.engine import EngineFailed, Sampling

struct_replace = pytest.importorskip("msgspec").structs.replace
torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
pytestmark = pytest.mark.slow

PROMPT = [5 + (11 * i) % 290 for i in range(70)]
"""Longer than two KV blocks, so that a prefix of it is kept in the cache."""


def save_adapter(base: Path, folder: Path, *, seed: int, rank: int = 6, modules: tuple[str, ...] = ()) -> Path:
    """A random adapter, large enough to change what the model says; made and written by peft alone."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(modules) or "all-linear",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(Qwen2ForCausalLM.from_pretrained(base), config).save_pretrained(str(folder))
    return folder


def forward_logprobs(base: Path, adapter: Path | None, token_ids: list[int]) -> np.ndarray:
    """[L]: log-prob of token t; the first is NaN."""
    from peft import PeftModel
    from transformers import Qwen2ForCausalLM

    model: Any = Qwen2ForCausalLM.from_pretrained(base).float().eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    return np.concatenate([[np.nan], logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy()])


@pytest.fixture(scope="module", params=["tied_a", "untied_a"])
def base(request: pytest.FixtureRequest, random_models: dict[str, Path]) -> Path:
    return random_models[request.param]


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    some = [save_adapter(base, root / str(seed), seed=seed) for seed in range(2)]
    return [*some, save_adapter(base, root / "few", seed=2, rank=2, modules=("q_proj", "v_proj"))]


@pytest.fixture(scope="module")
def engine(base: Path, adapters: list[Path], engine_loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """Serves the first adapter from the start."""
    from rollout.vllm_engine import VllmEngine

    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    engine = VllmEngine(
        str(base),
        max_context=256,
        max_num_seqs=16,
        kv_cache_gib=0.0625,
        lora_rank=6,
        lora_modules=() if base.name == "tied_a" else linear,
        adapter=str(adapters[0]),
    )
    yield engine
    engine_loop.run_until_complete(engine.close())


@pytest.fixture
def error(engine: Any, base: Path) -> Callable[..., Any]:
    """Largest difference between the engine's log-probs of a sample and those of the model with an adapter."""

    async def measure(adapter: Path | None) -> float:
        completion = await engine.generate(PROMPT, Sampling(max_tokens=16), "parity")
        reference = forward_logprobs(base, adapter, [*PROMPT, *completion.token_ids.tolist()])[len(PROMPT) :]
        return float(np.abs(completion.logprobs - reference).max())

    return measure


def test_each_version_is_live_alone_and_the_one_before_is_gone(engine, engine_loop, adapters, error):
    async def scenario() -> None:
        assert engine.version == 0 and await error(adapters[0]) < 1e-4
        assert await error(None) > 0.1
        for version, index in ((1, 1), (2, 0), (3, 2), (3, 1)):
            await engine.load(version, str(adapters[index]))
            assert engine.version == version
            assert await error(adapters[index]) < 1e-4
            assert len(await engine._llm.list_loras()) == 1
        assert await error(adapters[0]) > 0.1

    engine_loop.run_until_complete(scenario())


def test_a_new_adapter_at_the_place_of_the_old_one_shares_no_prefix_with_it(
    engine, engine_loop, adapters, error, tmp_path, monkeypatch
):
    place = tmp_path / "adapter"

    async def exchange(version: int, adapter: Path) -> float:
        shutil.copytree(adapter, place, dirs_exist_ok=True)
        await engine.load(version, str(place))
        return max([await error(adapter) for _ in range(2)])

    async def scenario() -> None:
        # Nothing clears the cache: its keys alone keep the versions apart, also one that is loaded once more.
        for version, adapter in ((4, adapters[0]), (4, adapters[1]), (5, adapters[0])):
            assert await exchange(version, adapter) < 1e-4
        named = engine._lora_request
        monkeypatch.setattr(engine, "_lora_request", lambda *args: struct_replace(named(*args), lora_name="same"))
        assert await exchange(6, adapters[0]) < 1e-4
        assert await exchange(7, adapters[1]) > 1e-2, "with one name for all, stale prefixes are met and show"

    engine_loop.run_until_complete(scenario())


def test_requests_in_flight_end_with_the_adapter_they_began_with(engine, engine_loop, base, adapters, tmp_path):
    async def scenario() -> None:
        old = shutil.copytree(adapters[0], tmp_path / "old")
        await engine.load(6, str(old))
        early = asyncio.create_task(engine.generate(PROMPT, Sampling(max_tokens=100), "early"))
        await asyncio.sleep(0.05)
        loading = asyncio.create_task(engine.load(7, str(adapters[1])))
        await asyncio.sleep(0)
        late = asyncio.create_task(engine.generate(PROMPT, Sampling(max_tokens=100), "late"))
        await loading
        shutil.rmtree(old)
        for version, adapter, completion in ((6, adapters[0], await early), (7, adapters[1], await late)):
            assert completion.policy_version == version
            reference = forward_logprobs(base, adapter, [*PROMPT, *completion.token_ids.tolist()])[len(PROMPT) :]
            assert np.abs(completion.logprobs - reference).max() < 1e-4

    engine_loop.run_until_complete(scenario())


def test_an_engine_that_failed_to_load_serves_nothing_until_a_load_succeeds(
    engine, engine_loop, adapters, error, tmp_path
):
    too_large = shutil.copytree(adapters[0], tmp_path / "too_large")
    (too_large / "adapter_config.json").write_text(
        (too_large / "adapter_config.json").read_text().replace('"r": 6', '"r": 64')
    )

    async def scenario() -> None:
        for broken in (tmp_path / "missing", too_large):
            with pytest.raises(EngineFailed, match="failed"):
                await engine.load(8, str(broken))
            with pytest.raises(EngineFailed):
                await engine.generate(PROMPT, Sampling(), "refused")
            await engine.load(9, str(adapters[1]))
            assert await error(adapters[1]) < 1e-4

    engine_loop.run_until_complete(scenario())


def test_memory_does_not_grow_with_the_versions(engine, engine_loop, adapters):
    import psutil

    def used() -> int:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)

    async def scenario() -> None:
        for version in range(10, 20):
            await engine.load(version, str(adapters[version % 2]))
        before = used()
        for version in range(20, 120):
            await engine.load(version, str(adapters[version % 2]))
            await engine.generate(PROMPT, Sampling(max_tokens=2), f"memory-{version}")
        # An adapter takes some 60 kB; a hundred that were kept would show.
        assert used() - before < 3 << 20

    engine_loop.run_until_complete(scenario())
