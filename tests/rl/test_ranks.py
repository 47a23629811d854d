"""The same gradients and metrics from every engine and any number of ranks."""

import importlib.util
import os
import pickle
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, STDOUT

import numpy as np
import pytest
import torch

from rl import torch_engine
from rl.sample import Sample

LAST_OF_ADAPTER = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
PROGRAM = Path(__file__).with_name("gradient_program.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


ON_CPU = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
ON_GPU = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cuda"}


def run_ranks(
    num_ranks: int,
    model: Path,
    parts: list[list[Sample]],
    folder: Path,
    runs: list[str],
    variables: Mapping[str, str] = ON_CPU,
) -> list[dict]:
    """Results of every run for every list of samples, as the first of `num_ranks` processes saw them."""
    (folder / "samples").write_bytes(pickle.dumps(parts))
    out, port = folder / f"ranks{num_ranks}", str(free_port())
    environment = {**os.environ, **variables}
    start = [sys.executable, "-W", "ignore", str(PROGRAM)]
    rest = [str(num_ranks), port, str(model), str(folder / "samples"), str(out), *runs]
    processes = [
        subprocess.Popen([*start, str(rank), *rest], env=environment, text=True, stdout=PIPE, stderr=STDOUT)
        for rank in range(num_ranks)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()
    return torch.load(out, weights_only=True)


def assert_same(found: dict, expected: dict, *, tolerance: float = 1e-5) -> None:
    for ours, theirs in zip(found["updates"], expected["updates"], strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=10 * tolerance, abs=tolerance)
        assert ours["gradients"].keys() == theirs["gradients"].keys()
        for name, gradient in theirs["gradients"].items():
            torch.testing.assert_close(ours["gradients"][name], gradient, atol=tolerance, rtol=tolerance)


def add_reward_streams(samples: list[Sample]) -> list[Sample]:
    return [
        replace(
            sample,
            streams={
                **sample.streams,
                "rewards": sample.streams["weights"],
                "advantages": sample.streams["weights"] - np.float32(0.5) * sample.loss_mask,
                "sampler_logprobs": sample.loss_mask * -5.7,
            },
        )
        for sample in samples
    ]


def as_pairs(samples: list[Sample]) -> list[Sample]:
    """One pair of every two samples, with the streams that `DPO.samples` gives."""
    sides = [
        replace(
            sample,
            unit=str(index // 2),
            streams={
                "weights": sample.loss_mask.astype("float32"),
                "preference": sample.loss_mask * np.float32(1.0 if index % 2 == 0 else -1.0),
                "sft_weights": sample.loss_mask * np.float32(0.1 if index % 2 == 0 else 0.0),
            },
        )
        for index, sample in enumerate(samples)
    ]
    return sides[: len(sides) // 2 * 2]


def test_pairs_give_the_same_gradient_on_two_ranks_as_on_one(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three pairs in micro-batches of one each, and one pair: a rank has none.
    parts = [as_pairs(make_samples(num)) for num in (6, 2)]
    runs = ["torch:0:dpo:sgd:fp32"]
    program = runpy.run_path(str(PROGRAM))
    monkeypatch.setattr(torch_engine, "build_optimizer", program["plain_sgd"])
    for samples, found in zip(parts, run_ranks(2, tiny_model_path, parts, tmp_path, runs), strict=True):
        expected = program["run"](runs[0], tiny_model_path, samples, tmp_path / "one")
        assert expected["updates"][1]["gradients"]["model.norm.weight"].any()
        assert_same(found[runs[0]], expected)
        assert found[runs[0]]["kept"] == [len(samples)], "a rank knows the log-probs that the others computed"


def test_two_torch_ranks_equal_one(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seven samples in small micro-batches: the ranks have different numbers of them. One sample: a rank has none.
    parts = [add_reward_streams(make_samples(num)) for num in (7, 1)]
    runs = [f"torch:0:{algorithm}:sgd:fp32" for algorithm in ("sft", "ppo", "grpo", "ppo+lora")]
    program = runpy.run_path(str(PROGRAM))
    monkeypatch.setattr(torch_engine, "build_optimizer", program["plain_sgd"])
    for samples, found in zip(parts, run_ranks(2, tiny_model_path, parts, tmp_path, runs), strict=True):
        for name in runs:
            expected = program["run"](name, tiny_model_path, samples, tmp_path / "one")
            moved = LAST_OF_ADAPTER if "lora" in name else "model.norm.weight"
            assert expected["updates"][-1]["gradients"][moved].any()
            assert_same(found[name], expected)


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_deepspeed_equals_torch_at_every_stage(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path, num_ranks: int
) -> None:
    pytest.importorskip("deepspeed")
    runs = {
        f"deepspeed:{stage}:{algorithm}:sgd:fp32": f"torch:0:{algorithm}:sgd:fp32"
        for stage in range(4)
        for algorithm in ("sft", "dpo", "ppo", "separate", "sft+lora", "dpo+lora", "ppo+lora")
    }
    runs["deepspeed:0:sft:muon:fp32"] = "torch:0:sft:muon:fp32"
    runs |= {f"deepspeed:{stage}:ppo+again:sgd:fp32": "torch:0:ppo:sgd:fp32" for stage in (0, 3)}
    runs["deepspeed:3:ppo+lora+again:sgd:fp32"] = "torch:0:ppo+lora:sgd:fp32"
    samples = make_samples(8)
    parts = [add_reward_streams(samples[:7]), as_pairs(samples)]
    results: dict = {}
    for part in (False, True):
        chosen = {name: other for name, other in runs.items() if ("dpo" in name) == part}
        wanted = [*sorted(set(chosen.values())), *chosen]
        results |= run_ranks(num_ranks, tiny_model_path, [parts[part]], tmp_path, wanted)[0]
    for ours, theirs in runs.items():
        assert_same(results[ours], results[theirs], tolerance=1e-3 if "muon" in ours else 1e-5)
        if "lora" in ours:
            assert results[ours]["updates"][-1]["gradients"][LAST_OF_ADAPTER].any()


def in_fp32(run: str) -> str:
    return f"torch:0:{run.split(':')[2]}:sgd:fp32"


@pytest.mark.slow
def test_deepspeed_in_bf16_comes_close_at_every_stage(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    runs = [f"deepspeed:{stage}:{algorithm}:sgd:bf16" for stage in range(4) for algorithm in ("sft", "sft+lora")]
    (results,) = run_ranks(1, tiny_model_path, [make_samples(7)], tmp_path, [*sorted(set(map(in_fp32, runs))), *runs])
    for run in runs:
        exact = in_fp32(run)
        for ours, theirs in zip(results[run]["updates"], results[exact]["updates"], strict=True):
            assert ours["metrics"]["train/loss"] == pytest.approx(theirs["metrics"]["train/loss"], rel=0.01)
            assert ours["metrics"]["train/grad_norm"] == pytest.approx(theirs["metrics"]["train/grad_norm"], rel=0.03)


# Without Muon: torch orthogonalises in bf16, which makes another thing of the last digits on every device.
ON_AN_ACCELERATOR = [
    *(f"torch:0:{algorithm}:sgd:fp32" for algorithm in ("sft", "dpo", "grpo", "ppo", "separate", "ppo+lora")),
    "torch:0:ppo+again:sgd:fp32",
    *(f"deepspeed:{stage}:{name}:sgd:fp32" for stage in range(4) for name in ("sft", "dpo", "ppo", "ppo+lora")),
    "deepspeed:3:ppo+again:sgd:fp32",
    *(f"{engine}:sft:sgd:bf16" for engine in ("torch:0", "deepspeed:0", "deepspeed:1", "deepspeed:2", "deepspeed:3")),
]


def on_the_cpu(run: str) -> str:
    _, _, algorithm, optimizer, _ = run.split(":")
    return f"torch:0:{algorithm.removesuffix('+again')}:{optimizer}:fp32"


@pytest.fixture(scope="module")
def on_both(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict]:
    """Results of every run on the accelerator, and of every exact one on the CPU under "cpu" and its name."""
    if importlib.util.find_spec("deepspeed") is None:
        runs = [run for run in ON_AN_ACCELERATOR if run.startswith("torch")]
    else:
        runs = ON_AN_ACCELERATOR
    samples, results = make_samples(8), {}
    for is_pairs, part in enumerate((add_reward_streams(samples), as_pairs(samples))):
        chosen = [run for run in runs if ("dpo" in run) == bool(is_pairs)]
        for place, variables, names in (
            ("", ON_GPU, chosen),
            ("cpu ", ON_CPU, sorted(set(map(on_the_cpu, chosen)))),
        ):
            folder = tmp_path_factory.mktemp("runs")
            (found,) = run_ranks(1, tiny_model_path, [part], folder, names, variables)
            results |= {place + name: result for name, result in found.items()}
    return results


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("run", ON_AN_ACCELERATOR)
def test_an_accelerator_gives_the_gradients_of_the_cpu(on_both: dict[str, dict], run: str) -> None:
    if run not in on_both:
        pytest.skip("needs deepspeed")
    found, expected = on_both[run], on_both[f"cpu {on_the_cpu(run)}"]
    if run.endswith("fp32"):
        assert_same(found, expected, tolerance=1e-4)
        return
    for ours, theirs in zip(found["updates"], expected["updates"], strict=True):
        assert ours["metrics"]["train/loss"] == pytest.approx(theirs["metrics"]["train/loss"], rel=0.01)
        assert ours["metrics"]["train/grad_norm"] == pytest.approx(theirs["metrics"]["train/grad_norm"], rel=0.03)
