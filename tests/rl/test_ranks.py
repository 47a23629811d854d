"""The same gradients and metrics from every engine and any number of ranks."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rl.sample import Sample

PROGRAM = Path(__file__).with_name("gradient_program.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_ranks(num_ranks: int, model: Path, parts: list[list[Sample]], folder: Path, engines: list[str]) -> list[dict]:
    """Results of every engine for every list of samples, as the first of `num_ranks` processes saw them."""
    (folder / "samples").write_bytes(pickle.dumps(parts))
    out, port = folder / f"ranks{num_ranks}", str(free_port())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    start = [sys.executable, "-W", "ignore", str(PROGRAM)]
    rest = [str(num_ranks), port, str(model), str(folder / "samples"), str(out), *engines]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [
        subprocess.Popen([*start, str(rank), *rest], env=environment, text=True, **pipes) for rank in range(num_ranks)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()
    return torch.load(out, weights_only=True)


def assert_same(found: dict, expected: dict) -> None:
    for ours, theirs in zip(found["updates"], expected["updates"], strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-4, abs=1e-6)
        assert ours["gradients"].keys() == theirs["gradients"].keys()
        for name, gradient in theirs["gradients"].items():
            torch.testing.assert_close(ours["gradients"][name], gradient, atol=1e-5, rtol=1e-5)


def test_two_torch_ranks_equal_one(tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path) -> None:
    # Seven samples in small micro-batches: the ranks have different numbers of them. One sample: a rank has none.
    parts = [make_samples(7), make_samples(1)]
    one = run_ranks(1, tiny_model_path, parts, tmp_path, ["torch:0"])
    two = run_ranks(2, tiny_model_path, parts, tmp_path, ["torch:0"])
    for found, expected in zip(two, one, strict=True):
        assert found["torch:0"]["updates"][0]["gradients"]["model.norm.weight"].any()
        assert_same(found["torch:0"], expected["torch:0"])


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_deepspeed_equals_torch_at_every_stage(
    tiny_model_path: Path, make_samples: Callable[..., list], tmp_path: Path, num_ranks: int
) -> None:
    pytest.importorskip("deepspeed")
    stages = [f"deepspeed:{stage}" for stage in range(4)]
    (results,) = run_ranks(num_ranks, tiny_model_path, [make_samples(7)], tmp_path, ["torch:0", *stages])
    for stage in stages:
        assert_same(results[stage], results["torch:0"])
