from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch

from rl import attention
from rl.config import Lora
from rl.models import Role, load_model
from rl.sample import Sample, pad


def test_torchs_kernel_runs_causal_without_a_mask(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    model.model.set_attn_implementation("sdpa")
    batch = pad(make_samples(3))
    real = torch.nn.functional.scaled_dot_product_attention
    with mock.patch("torch.nn.functional.scaled_dot_product_attention", side_effect=real) as spy:
        model(batch.token_ids, batch.loss_mask)
    assert spy.call_count == 2
    for call in spy.call_args_list:
        assert call.kwargs["is_causal"] is True and call.kwargs["attn_mask"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="the blocked kernel is for CPUs")
def test_on_a_cpu_the_blocked_kernel_gives_the_same_outputs(tiny_model_path: Path, make_samples: Callable) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    batch = pad(make_samples(3))
    assert model.model.config._attn_implementation == attention.NAME
    blocked = model(batch.token_ids, batch.loss_mask)["logprobs"]
    model.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(blocked, model(batch.token_ids, batch.loss_mask)["logprobs"], atol=1e-5, rtol=1e-5)


def test_a_value_head_starts_at_zero_and_learns(tiny_model_path: Path, make_samples: Callable) -> None:
    model = load_model(tiny_model_path, Role(name="policy", values=True), dtype=torch.float32)
    batch = pad(make_samples(2))
    values = model(batch.token_ids, batch.loss_mask)["values"]
    assert not values.any()
    values.sum().backward()
    assert model.value_head.weight.grad is not None and model.value_head.weight.grad.any()


def trunk_gradient(path: Path, role: Role, samples: list[Sample], output: str, *, value_only: bool = False) -> float:
    model = load_model(path, role, dtype=torch.float32)
    torch.nn.init.ones_(model.value_head.weight)
    batch = pad(samples)
    model(batch.token_ids, batch.loss_mask, value_only)[output].sum().backward()
    gradient = model.get_parameter("model.model.layers.0.mlp.up_proj.weight").grad
    assert gradient is not None
    return gradient.norm().item()


def test_the_value_gradient_into_the_trunk_is_scaled(tiny_model_path: Path, make_samples: Callable) -> None:
    samples = make_samples(2)
    whole, tenth, none = (
        trunk_gradient(tiny_model_path, Role(name="p", values=True, value_trunk_gradient=share), samples, "values")
        for share in (1.0, 0.1, 0.0)
    )
    assert tenth == pytest.approx(0.1 * whole, rel=1e-4)
    assert none == 0.0 < whole


def test_value_only_leaves_zero_gradients_everywhere_else(tiny_model_path: Path, make_samples: Callable) -> None:
    role, samples = Role(name="p", values=True), make_samples(2)
    assert trunk_gradient(tiny_model_path, role, samples, "values", value_only=True) == 0.0
    assert trunk_gradient(tiny_model_path, role, samples, "logprobs", value_only=True) == 0.0
    assert trunk_gradient(tiny_model_path, role, samples, "logprobs") > 0.0


def test_a_missing_model_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a model folder"):
        load_model(tmp_path / "nothing", Role(name="policy"), dtype=torch.float32)


def test_a_frozen_role_has_no_trained_parameters(tiny_model_path: Path) -> None:
    model = load_model(tiny_model_path, Role(name="reference", trained=False), dtype=torch.float32)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("adapter", [Lora(), Lora(rank=4)])
def test_recomputed_activations_give_the_same_gradient(
    tiny_model_path: Path, make_samples: Callable, adapter: Lora
) -> None:
    batch = pad(make_samples(3))
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = load_model(
            tiny_model_path,
            Role(name="policy", values=True),
            dtype=torch.float32,
            adapter=adapter,
            recompute_activations=recompute,
        )
        runs = 0

        def count(*_: object) -> None:
            nonlocal runs
            runs += 1

        model.model.base_model.layers[0].mlp.register_forward_hook(count)  # type: ignore[union-attr]
        outputs = model(batch.token_ids, batch.loss_mask)
        (outputs["logprobs"].sum() + outputs["values"].sum()).backward()
        assert runs == (2 if recompute else 1)
        gradients.append({name: weight.grad for name, weight in model.trained_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
