"""Runs that train an adapter, from the command line; vLLM where it says so."""

import json
from pathlib import Path

import pytest
import torch
from harness import ALONE, SMALL_ENGINE, only_run
from safetensors.torch import load_file

from rl.checkpoint import ADAPTER_WEIGHTS, latest
from rl.metrics import read_metrics

pytestmark = pytest.mark.slow

LORA = ["model.lora.rank=4", "learner.learning_rate=1e-2", "learner_group.dtype=fp32"]
NO_EVALUATION = ["evaluation.before=false", "evaluation.after=false"]
PPO = ["algorithm.options.kl_coefficient=0.01", "algorithm.options.group_baseline=false"]
MOVING = ["algorithm.options.warmup_updates=0", "algorithm.options.entropy_coefficient=-1.0"]
"""Moves the weights although a model that was never trained earns the same always."""


def newest(run: Path) -> Path:
    found = latest(run / "checkpoints")
    assert found is not None
    return found


def test_a_run_learns_an_adapter_goes_on_exactly_and_is_served_and_merged(tmp_path, run_ok, start):
    words = ["train", "ppo_tiny", f"model.path={start}", ALONE, *LORA, *NO_EVALUATION, *PPO, *MOVING, *SMALL_ENGINE]
    run_ok(*words, "run.steps=2", "run.checkpoint_every=1")
    run = only_run(tmp_path)
    steps = read_metrics(run)
    assert max(step["perf/weights_difference"] for step in steps) < 1e-4
    assert steps[1]["perf/weights_moved"] > 1e-3, "the canary tells one version from the next"
    assert steps[1]["train/kl"] > 0
    checkpoint = newest(run)
    assert not (checkpoint / "model.safetensors").exists()
    assert any(weight.any() for name, weight in load_file(checkpoint / ADAPTER_WEIGHTS).items() if "lora_B" in name)

    run_ok("train", "ppo_tiny", f"resume={run}", "run.steps=3")
    assert [step["step"] for step in read_metrics(run)] == [1, 2, 3]
    assert max(step["perf/weights_difference"] for step in read_metrics(run)) < 1e-4

    small = [word for word in SMALL_ENGINE if word.startswith("rollout_pool")]
    shown = run_ok("rollout", str(run), *small, "--num", "2", "--max-tokens", "8", "--out", "episodes")
    assert "2 episodes" in shown.stdout
    run_ok("merge", str(run), "--out", "merged")
    whole = load_file(tmp_path / "merged" / "model.safetensors")
    base = load_file(start / "model.safetensors")
    assert whole.keys() == base.keys()
    assert not torch.equal(whole["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])
    run_ok("eval", "merged", *small, "--tasks", "heldout", "--num", "2", "--max-tokens", "8", "--out", "rates")
    assert json.loads((tmp_path / "rates" / "rates.json").read_text())["n"] == 2


def test_what_comes_first_is_merged_and_learned_on_from(tmp_path, run_ok, start):
    words = ["first.run.steps=2", "first.source.groups_per_step=2", "run.steps=1"]
    run_ok("train", "ppo_tiny", f"model.path={start}", *words, *LORA, *NO_EVALUATION, *PPO, *SMALL_ENGINE)
    run = only_run(tmp_path)
    assert not (newest(run / "first") / "model.safetensors").exists()
    assert load_file(run / "base" / "model.safetensors").keys() == load_file(start / "model.safetensors").keys()
    adapter = json.loads((newest(run) / "adapter_config.json").read_text())
    assert Path(adapter["base_model_name_or_path"]) == (run / "base").resolve()
    (step,) = read_metrics(run)
    assert step["perf/weights_difference"] < 1e-4
    assert step["train/kl"] == pytest.approx(0, abs=1e-6), "the reference is what came first"


def test_ppo_with_an_adapter_on_vllm(tmp_path, run_ok, start):
    engine = [word for word in SMALL_ENGINE if not word.startswith("rollout_pool.engine")]
    engine.append("rollout_pool.kv_cache_gib=0.1")
    words = ["train", "ppo_tiny", f"model.path={start}", ALONE, *LORA, *NO_EVALUATION, *PPO, *MOVING, *engine]
    run_ok(*words, "run.steps=3", "learner_group.zero_stage=3")
    run = only_run(tmp_path)
    steps = read_metrics(run)
    assert max(step["perf/weights_difference"] for step in steps) < 1e-4
    assert max(step["perf/weights_moved"] for step in steps) > 1e-3
    assert not [step for step in steps if step["rollout/failed"]]
    served = ["rollout_pool.kv_cache_gib=0.1", "--max-tokens", "8"]
    found = run_ok("rollout", str(run), *served, "--num", "2", "--print")
    assert "2 episodes" in found.stdout
