from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl.algorithms.sft import SFT
from rl.models import Role, load_model
from rl.sample import Sample, collate
from rl.torch_engine import TorchEngine
from rl.train_engine import LearnerConfig


def make_engine(path: Path, **settings: object) -> TorchEngine:
    module = load_model(path, Role(name="policy"), dtype=torch.float32)
    return TorchEngine(module, LearnerConfig(**settings))  # type: ignore[arg-type]


def gradients(engine: TorchEngine, samples: list[Sample], micro_batch_tokens: int) -> dict[str, torch.Tensor]:
    algorithm = SFT()
    denominator = algorithm.denominator(samples)
    engine.module.zero_grad()
    for batch in collate(samples, micro_batch_tokens):
        engine.backward(algorithm.loss("policy", batch, engine.forward(batch)).total / denominator)
    return {
        name: parameter.grad.clone()
        for name, parameter in engine.module.named_parameters()
        if parameter.grad is not None
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), micro_batch_tokens=st.integers(8, 400))
def test_any_split_into_micro_batches_gives_the_same_gradient(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]], seed: int, micro_batch_tokens: int
) -> None:
    engine = make_engine(tiny_model_path)
    samples = make_samples(8, seed)
    whole = gradients(engine, samples, 10_000)
    split = gradients(engine, samples, micro_batch_tokens)
    assert whole.keys() == split.keys()
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], atol=1e-6, rtol=1e-4)


def test_a_step_reports_the_norm_before_clipping_and_the_rate(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    engine = make_engine(tiny_model_path, learning_rate=0.1, schedule="linear", max_grad_norm=1e-3)
    found = gradients(engine, make_samples(4), 10_000)
    norm = np.sqrt(sum(gradient.square().sum().item() for gradient in found.values()))
    metrics = engine.step(0.5)
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics["learning_rate"] == pytest.approx(0.05)
    assert all(parameter.grad is None for parameter in engine.module.parameters())


def test_a_gradient_that_is_not_finite_changes_no_weight(tiny_model_path: Path) -> None:
    engine = make_engine(tiny_model_path)
    before = {name: weight.clone() for name, weight in engine.named_weights()}
    parameter = next(engine.module.parameters())
    parameter.grad = torch.full_like(parameter, float("nan"))
    with pytest.raises(FloatingPointError, match="gradient norm of role policy"):
        engine.step(0.0)
    assert all(torch.equal(before[name], weight) for name, weight in engine.named_weights())


def test_bf16_keeps_fp32_weights_and_comes_close(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    samples = make_samples(4)
    exact = gradients(make_engine(tiny_model_path), samples, 1000)
    engine = make_engine(tiny_model_path, dtype="bf16")
    rounded = gradients(engine, samples, 1000)
    assert all(weight.dtype == torch.float32 for _, weight in engine.named_weights())
    name = "model.model.layers.0.mlp.up_proj.weight"
    assert 0 < (exact[name] - rounded[name]).norm() < 0.05 * exact[name].norm()
