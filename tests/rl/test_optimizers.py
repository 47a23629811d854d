import copy
from pathlib import Path

import torch

from rl.models import Role, RoleModel, load_model
from rl.optimizers import MuonAdamW, build_optimizer, hidden_matrices, set_learning_rate
from rl.train_engine import LearnerConfig


def value_model(path: Path) -> RoleModel:
    return load_model(path, Role(name="policy", values=True), dtype=torch.float32)


def fill_gradients(model: RoleModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_every_parameter_is_trained_once(tiny_model_path: Path) -> None:
    for name in ("adamw", "muon"):
        model = value_model(tiny_model_path)
        optimizer = build_optimizer(model, LearnerConfig(optimizer=name))
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert len(trained) == len(set(trained)) == len(list(model.parameters()))


def test_muon_gets_the_linear_weights_of_the_trunk_only(untied_model_path: Path) -> None:
    model = value_model(untied_model_path)
    chosen = hidden_matrices(model)
    names = {name for name, parameter in model.named_parameters() if parameter in chosen}
    assert len(names) == 2 * 7
    assert all(".layers." in name and name.endswith("_proj.weight") for name in names)


def test_the_two_rates_follow_one_schedule(tiny_model_path: Path) -> None:
    config = LearnerConfig(optimizer="muon", learning_rate=0.02, adamw_learning_rate=0.003, schedule="linear")
    optimizer = build_optimizer(value_model(tiny_model_path), config)
    assert set_learning_rate(optimizer, config, 0.5) == 0.01
    assert {(group["kind"], group["lr"]) for group in optimizer.param_groups} == {("muon", 0.01), ("adamw", 0.0015)}


def test_muon_and_adamw_resume_exactly(tiny_model_path: Path) -> None:
    config = LearnerConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    first, second = value_model(tiny_model_path), value_model(tiny_model_path)
    optimizer = build_optimizer(first, config)
    assert isinstance(optimizer, MuonAdamW)
    for seed in range(2):
        fill_gradients(first, seed)
        optimizer.step()
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, config)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, stepper in ((first, optimizer), (second, resumed)):
        fill_gradients(model, 9)
        stepper.step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_matches_torchs_own_and_decays_no_norms(tiny_model_path: Path) -> None:
    config = LearnerConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    ours, theirs = value_model(tiny_model_path), value_model(tiny_model_path)
    optimizer = build_optimizer(ours, config)
    hidden = [parameter for parameter in theirs.parameters() if parameter in hidden_matrices(theirs)]
    reference = torch.optim.Muon(hidden, lr=0.01, weight_decay=0.1)
    fill_gradients(ours, 0)
    fill_gradients(theirs, 0)
    optimizer.step()
    reference.step()
    ours_hidden = [parameter for parameter in ours.parameters() if parameter in hidden_matrices(ours)]
    for one, other in zip(ours_hidden, hidden, strict=True):
        torch.testing.assert_close(one, other)
    plain = next(group for group in optimizer.param_groups if group["kind"] == "adamw" and group["params"][0].ndim == 1)
    assert plain["weight_decay"] == 0.0
