from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rl.models import Role, load_model
from rl.weights import head_weights, policy_weights, read_weights, write_weights


@pytest.mark.parametrize("fixture", ["tiny_model_path", "untied_model_path"])
def test_exported_names_and_values_are_those_of_hugging_face(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str
) -> None:
    path: Path = request.getfixturevalue(fixture)
    model = load_model(path, Role(name="policy", values=True), dtype=torch.float32)
    target = tmp_path / "folder" / "model.safetensors"
    write_weights(policy_weights(model.named_parameters()), target)
    found, expected = load_file(target), load_file(path / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    (target.parent / "config.json").write_text((path / "config.json").read_text())
    reloaded = AutoModelForCausalLM.from_pretrained(target.parent)
    ids = torch.arange(10).unsqueeze(0)
    torch.testing.assert_close(reloaded(ids).logits, model.model(ids).logits)
    assert [item.name for item in target.parent.iterdir() if item.name.startswith(".")] == []


def test_weights_are_stored_in_the_dtype_asked_for(tiny_model_path: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    write_weights(policy_weights(model.named_parameters()), tmp_path / "w.safetensors", dtype=torch.bfloat16)
    assert {weight.dtype for weight in load_file(tmp_path / "w.safetensors").values()} == {torch.bfloat16}


def test_the_file_has_the_rights_of_any_new_file(tiny_model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    write_weights(policy_weights(model.named_parameters()), tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_other_ranks_read_but_do_not_write(tmp_path: Path) -> None:
    seen = []

    def weights():
        for name in ("a", "b"):
            seen.append(name)
            yield name, torch.zeros(1)

    write_weights(weights(), tmp_path / "w.safetensors", write=False)
    assert seen == ["a", "b"] and not list(tmp_path.iterdir())


def test_heads_are_written_apart_and_read_back(tiny_model_path: Path, tmp_path: Path) -> None:
    role = Role(name="policy", values=True)
    model, other = (load_model(tiny_model_path, role, dtype=torch.float32) for _ in range(2))
    torch.nn.init.ones_(model.value_head.weight)
    write_weights(head_weights(model.named_parameters()), tmp_path / "heads.safetensors")
    read_weights(other, tmp_path / "heads.safetensors")
    assert torch.equal(other.value_head.weight, model.value_head.weight)
    with pytest.raises(ValueError, match="are not in role"):
        read_weights(
            load_model(tiny_model_path, Role(name="plain"), dtype=torch.float32), tmp_path / "heads.safetensors"
        )
