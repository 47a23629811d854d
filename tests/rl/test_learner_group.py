import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from envs.component import Component
from rl.algorithms.sft import SFT
from rl.checkpoint import ADAPTER_WEIGHTS, latest, read_state
from rl.config import Lora
from rl.learner import Learner
from rl.learner_group import LearnerGroup, RankConfig
from rl.models import NO_ADAPTER
from rl.train_engine import LearnerConfig

ray = pytest.importorskip("ray")

SFT_COMPONENT = Component(factory="rl.algorithms.sft:SFT")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield
    ray.shutdown()


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / ADAPTER_WEIGHTS if path.is_dir() else path)


def make_group(
    path: Path,
    *,
    adapter: Lora = NO_ADAPTER,
    resume: Path | None = None,
    num_ranks: int = 1,
    ranks: RankConfig | None = None,
    **settings: object,
) -> LearnerGroup:
    return LearnerGroup(
        algorithm=SFT_COMPONENT,
        model_path=path,
        config=LearnerConfig(**{"learning_rate": 1e-3, **settings}),  # type: ignore[arg-type]
        ranks=ranks or RankConfig(num_ranks=num_ranks, num_cpus_per_rank=0.5),
        adapter=adapter,
        resume=resume,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("engine", "zero_stage", "rank"),
    [("torch", 0, 0), ("deepspeed", 2, 0), ("deepspeed", 0, 4), ("deepspeed", 2, 4), ("deepspeed", 3, 4)],
)
async def test_two_ranks_learn_export_save_and_resume_like_one_learner(
    tiny_model_path: Path, make_samples: Callable, tmp_path: Path, engine: str, zero_stage: int, rank: int
) -> None:
    samples, adapter = make_samples(6), Lora(rank=rank)
    config = LearnerConfig(learning_rate=1e-3)
    alone = Learner(algorithm=SFT(), model_path=tiny_model_path, config=config, adapter=adapter)
    expected = [alone.update(samples, 0.0) for _ in range(2)]
    longer = Learner(algorithm=SFT(), model_path=tiny_model_path, config=config, adapter=adapter)
    third = [longer.update(samples, 0.0) for _ in range(3)][-1]
    group = make_group(tiny_model_path, num_ranks=2, engine=engine, zero_stage=zero_stage, adapter=adapter)
    await group.start()
    try:
        assert await group.update(samples, 0.0) == pytest.approx(expected[0], rel=1e-4)
        folder = await group.save(tmp_path / "checkpoints", 1, {"seed": 3}, keep=1)
        assert await group.update(samples, 0.0) == pytest.approx(expected[1], rel=1e-3)
        assert group.version == 2
        ours = load_weights(await group.export(tmp_path / "weights"))
        theirs = load_weights(alone.export(tmp_path / "alone"))
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
        sequences = [sample.token_ids.tolist() for sample in samples]
        for found, wanted in zip(await group.logprobs(sequences), alone.logprobs(sequences), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-3)
    finally:
        await group.close()
    assert folder == latest(tmp_path / "checkpoints")
    assert read_state(folder) == {"seed": 3, "step": 1, "version": 1}
    resumed = make_group(
        tiny_model_path, num_ranks=2, engine=engine, zero_stage=zero_stage, adapter=adapter, resume=folder
    )
    await resumed.start()
    try:
        assert resumed.version == 1
        assert await resumed.update(samples, 0.0) == pytest.approx(expected[1], rel=1e-3)
        # What the state of the optimiser does to the weights shows in the update after the next.
        assert await resumed.update(samples, 0.0) == pytest.approx(third, rel=1e-3)
    finally:
        await resumed.close()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
async def test_a_rank_that_fails_ends_the_group_and_says_why(tiny_model_path: Path, make_samples: Callable) -> None:
    group = make_group(tiny_model_path, num_ranks=2, learning_rate=1e30, max_grad_norm=1e30)
    await group.start()
    with pytest.raises(FloatingPointError, match="is"):
        for _ in range(5):
            await asyncio.wait_for(group.update(make_samples(4), 0.0), 60)
    with pytest.raises(RuntimeError, match="not running"):
        await group.update(make_samples(4), 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
async def test_a_missing_model_is_the_callers_error(tmp_path: Path) -> None:
    group = make_group(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected a model folder"):
        await group.start()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize(("engine", "zero_stage"), [("torch", 0), ("deepspeed", 0), ("deepspeed", 2), ("deepspeed", 3)])
async def test_a_rank_on_an_accelerator_learns_saves_and_resumes(
    tiny_model_path: Path, make_samples: Callable, tmp_path: Path, engine: str, zero_stage: int, rank: int
) -> None:
    pytest.importorskip(engine)
    samples = make_samples(8)
    settings = {"engine": engine, "zero_stage": zero_stage, "dtype": "bf16", "adapter": Lora(rank=rank)}
    ranks = RankConfig(backend="nccl", num_gpus_per_rank=1, num_cpus_per_rank=0.5)
    group = make_group(tiny_model_path, ranks=ranks, **settings)  # type: ignore[arg-type]
    await group.start()
    try:
        losses = [(await group.update(samples, 0.0))["train/loss"] for _ in range(4)]
        folder = await group.save(tmp_path / "checkpoints", 4, {}, keep=1)
        losses.append((await group.update(samples, 0.0))["train/loss"])
        weights = load_weights(await group.export(tmp_path / "weights"))
    finally:
        await group.close()
    assert losses[-1] < losses[0]
    assert all(weight.isfinite().all() for weight in weights.values())
    resumed = make_group(tiny_model_path, ranks=ranks, resume=folder, **settings)  # type: ignore[arg-type]
    await resumed.start()
    try:
        assert (await resumed.update(samples, 0.0))["train/loss"] == pytest.approx(losses[-1], rel=1e-2)
    finally:
        await resumed.close()


def test_nccl_without_gpus_is_refused() -> None:
    with pytest.raises(ValueError, match="nccl needs"):
        RankConfig(backend="nccl")


def test_a_rank_without_gpus_sees_none() -> None:
    environment = RankConfig(num_threads=3).environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "" and environment["OMP_NUM_THREADS"] == "3"
