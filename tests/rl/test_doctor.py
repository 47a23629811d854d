from pathlib import Path

import pytest

from rl.config import Config, Lora, for_model, load
from rl.doctor import Finding, count_added, count_parameters, examine, learner_gib, stop_token
from rl.tiny import build
from rollout.renderer import load_renderer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(
        tmp_path_factory.mktemp("model"),
        hidden_size=64,
        num_layers=1,
        num_heads=2,
        intermediate_size=96,
        vocab_size=600,
        num_texts=30,
        priming_steps=1,
    )


def config(model: Path, *overrides: str) -> Config:
    return for_model(str(model), "laptop", [f"run.directory={model.parent}", *overrides])


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_sound_run_has_no_bad_finding_and_an_example(model):
    findings, example, _ = examine(config(model, "sampling.max_tokens=400"), model)
    assert [finding for finding in findings if not finding.ok] == []
    assert {"versions", "devices", "memory", "chat template", "stop token", "parser", "lengths"} <= set(
        by_name(findings)
    )
    assert example is not None
    assert len(example.turns) > 1


def test_turns_longer_than_the_token_limit_are_found(model):
    findings, _, _ = examine(config(model, "sampling.max_tokens=5"), model)
    assert not by_name(findings)["lengths"].ok


def test_a_context_that_holds_no_episode_is_found(model):
    findings, example, _ = examine(config(model, "rollout_pool.max_context=130"), model)
    assert not by_name(findings)["lengths"].ok
    assert example is not None


def test_a_model_that_ends_its_turns_otherwise_is_found(model, tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": 599}')
    (finding,) = stop_token(load_renderer(model), tmp_path)
    assert not finding.ok


def test_parameters_are_counted_from_the_files(model):
    from safetensors.torch import load_file

    weights = load_file(model / "model.safetensors")
    assert count_parameters(model) == sum(weight.numel() for weight in weights.values())


def test_every_part_of_a_run_is_weighed_and_so_is_the_reference(model):
    words = [f"model.path={model}", f"run.directory={model.parent}", "sampling.max_tokens=400"]
    two = load("ppo_tiny", "laptop", words)
    findings = by_name(examine(two, model)[0])
    assert findings["memory"].ok
    assert findings["memory, first masked_sft_tiny"].ok
    with_reference = load("ppo_tiny", "laptop", [*words, "algorithm.options.kl_coefficient=0.1"])
    more = learner_gib(with_reference, 1_000_000_000) - learner_gib(two, 1_000_000_000)
    assert more == pytest.approx(4 * 1_000_000_000 / (1 << 30))


def test_an_adapter_costs_its_own_gradients_and_states_and_no_reference(model):
    words = [f"model.path={model}", f"run.directory={model.parent}", "first.recipe=", "sampling.max_tokens=400"]
    words += ["model.lora.rank=8", "learner_group.dtype=fp32"]
    run = load("ppo_tiny", "laptop", words)
    # hidden 64, intermediate 96, two heads of 32 and one of keys and values
    added = 8 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 96))
    assert count_added(run.model.lora, model) == added
    assert count_added(Lora(rank=8, target_modules=["q_proj"]), model) == 8 * (64 + 64)
    per_gib = 1_000_000_000 / (1 << 30)
    few = learner_gib(run, 1_000_000_000, 1_000_000)
    assert few == pytest.approx(4 * per_gib + 16 * per_gib / 1000 + 0.7)
    with_reference = load("ppo_tiny", "laptop", [*words, "algorithm.options.kl_coefficient=0.1"])
    assert learner_gib(with_reference, 1_000_000_000, 1_000_000) == few
    assert "M of an adapter" in by_name(examine(run, model)[0])["memory"].detail


def test_zero_stages_shard_what_they_say(model):
    def gib(stage: int) -> float:
        return learner_gib(
            config(model, "learner_group.dtype=fp32", "learner_group.num_ranks=4", f"learner_group.zero_stage={stage}"),
            1_000_000_000,
        )

    base = gib(0)
    per_gib = 1_000_000_000 / (1 << 30)
    assert base - gib(1) == pytest.approx(8 * 0.75 * per_gib)
    assert gib(1) - gib(2) == pytest.approx(4 * 0.75 * per_gib)
    assert gib(2) - gib(3) == pytest.approx(4 * 0.75 * per_gib)
