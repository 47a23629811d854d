"""Fixtures of the rollout tests: tiny random models, one vLLM engine and one local Ray for the whole session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VOCABULARY = 300


def save_random_model(folder: Path, *, seed: int, tied: bool) -> Path:
    """A Qwen2 model of two layers with random weights, large enough to make every token matter."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of the same shape with tied, and two with untied embeddings."""
    root = tmp_path_factory.mktemp("models")
    return {
        f"{kind}_{letter}": save_random_model(root / f"{kind}_{letter}", seed=seed, tied=kind == "tied")
        for kind in ("tied", "untied")
        for letter, seed in (("a", 1), ("b", 2))
    }


@pytest.fixture(scope="session")
def engine_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop the session's vLLM engine lives in."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def vllm_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "vllm.log"


@pytest.fixture(scope="session")
def vllm_engine(
    random_models: dict[str, Path], engine_loop: asyncio.AbstractEventLoop, vllm_log: Path
) -> Iterator[Any]:
    """One vLLM engine on the model tied_a; a test that loads other weights loads these again."""
    pytest.importorskip("vllm")
    from rollout.vllm_engine import VllmEngine

    engine = VllmEngine(
        str(random_models["tied_a"]), max_context=256, max_num_seqs=16, kv_cache_gib=0.0625, log_file=str(vllm_log)
    )
    yield engine
    engine_loop.run_until_complete(engine.close())


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of our own with two processors; its workers can import the parts beside this file."""
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        namespace="tether-rollout-tests",
        log_to_driver=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )
    yield
    ray.shutdown()
