"""Recipes from the command line, a few steps each, with real Ray and real learners; vLLM where it says so."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest
import torch
from harness import ALONE, ENVIRONMENT, SMALL_ENGINE, command, only_run, tether
from safetensors.torch import load_file

from rl.commands.compare import draw_curves
from rl.metrics import read_metrics

SMALL_SFT = [
    "model.init.factory=small_parts:small_model",
    "source.groups_per_step=2",
    "run.max_seconds=0",
    "evaluation.after=false",
]


@pytest.mark.slow
def test_sft_from_nothing_leaves_a_model_that_hugging_face_loads(tmp_path, run_ok):
    found = run_ok("train", "sft_tiny", "laptop", "run.steps=3", "learner_group.engine=torch", *SMALL_SFT)
    run = only_run(tmp_path)
    steps = read_metrics(run)
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(np.isfinite(step["train/loss"]) for step in steps)
    assert "step 3/3" in found.stdout
    assert json.loads((run / "run.json").read_text())["run"]["steps"] == 3
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = run / "checkpoints" / "step-000003"
    assert AutoModelForCausalLM.from_pretrained(checkpoint).config.model_type == "qwen2"
    assert AutoTokenizer.from_pretrained(checkpoint).chat_template


@pytest.mark.slow
def test_a_run_of_two_parts_evaluates_learns_and_sums_up(tmp_path, run_ok, start):
    found = run_ok(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        "run.steps=2",
        "first.run.steps=1",
        "first.source.groups_per_step=2",
        "run.keep_trajectories_every=1",
        "source.max_staleness=0",
        # In bf16 the learner's own rounding would be most of the difference.
        "learner_group.dtype=fp32",
        *SMALL_ENGINE,
    )
    run = only_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    for stage in ("before", "after"):
        assert summary[stage]["n"] == 3
        assert summary[stage]["greedy"]["n"] == 3
        assert summary[stage]["real_apis"]["n"] == 2
    assert {"seconds", "peak_memory_gb", "seed", "command", "commit", "versions"} <= summary.keys()
    assert summary["peak_memory_gb"] > 0.1
    assert "step 1/1" in found.stdout
    assert (run / "first" / "evaluation" / "before" / "heldout-t1").is_dir()
    elapsed = [read_metrics(part)[-1]["timing_s/elapsed"] for part in (run / "first", run)]
    assert summary["learning_seconds"] >= sum(elapsed)
    learned = load_file(run / "first" / "checkpoints" / "step-000001" / "model.safetensors")
    assert any(
        not torch.equal(weight, learned[name]) for name, weight in load_file(start / "model.safetensors").items()
    )
    steps = read_metrics(run)
    assert max(step["perf/weights_difference"] for step in steps) < 1e-4
    assert all(step["rollout/staleness"] == 0 for step in steps)
    assert "success" in found.stdout
    from rollout.store import read_scores, read_trajectories

    assert len(list(read_trajectories(run))) == 8
    assert len(list(read_scores(run))) == 8
    shown = run_ok("show", str(run))
    assert "Held-out tasks" in shown.stdout
    episodes = run_ok("show", str(run / "evaluation" / "after" / "heldout-greedy"), "--num", "1")
    assert "missing_call" in episodes.stdout


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ppo_quick", "masked_sft_tiny", "sft_control_tiny"])
def test_the_other_recipes_of_the_main_job_run(tmp_path, run_ok, start, recipe):
    first = ["first.run.steps=1", "first.source.groups_per_step=2"] if recipe == "ppo_quick" else []
    run_ok("train", recipe, f"model.path={start}", "run.steps=1", *first, *SMALL_ENGINE)
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["after"]["n"] == 3


@pytest.mark.slow
def test_a_detector_is_trained_from_nothing_and_checks_responses(tmp_path, run_ok):
    pairs = "runs/detect_dpo_tiny/pairs.jsonl"
    (tmp_path / pairs).parent.mkdir(parents=True)
    sifted = ["--num", "6", "--samples", "2", "--slips", "0.8", "--rules", "--pairs", "--at-parting"]
    run_ok("data", "detections", "train", *sifted, "--out", pairs)
    run_ok(
        "train",
        "detect_dpo_tiny",
        "model.init.factory=small_parts:small_model",
        "run.steps=1",
        "run.directory=trained",
        "first.run.steps=1",
        "first.source.groups_per_step=2",
        *SMALL_ENGINE,
    )
    (run,) = (tmp_path / "trained").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["after"]["tasks"] == "detection" and summary["after"]["n"] == 3
    assert set(summary["after"]["by_language"]) <= {"en", "zh"}
    (tmp_path / "in.jsonl").write_text('{"id": 1, "response": "3 + 4 = 8."}\n{"id": 2, "response": "晴天。"}\n')
    engine, served = "rollout_pool.engine.factory=small_parts:SmallEngine", ["--model", str(run), "--max-tokens", "8"]
    run_ok("detect", "in.jsonl", "laptop", engine, *served, "--short", "--out", "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [1, 2]
    run_ok("data", "detections", "train", "laptop", engine, *served, "--num", "2", "--rules", "--out", "kept.jsonl")
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_ppo_learns_from_verdicts(tmp_path, run_ok, start):
    run_ok(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        ALONE,
        "run.steps=1",
        "source.tasks.factory=envs.detection.tasks:DetectionTasks",
        "source.env.factory=envs.detection.env:DetectionEnv",
        "source.env.options.max_failures=3",
        "reward.factory=rewards.detection_reward:DetectionReward",
        # The start of the test fails in every episode alike: groups of the same rewards would all be left out.
        "algorithm.options.group_baseline=false",
        "algorithm.options.warmup_updates=0",
        "evaluation.before=false",
        "evaluation.after=false",
        *SMALL_ENGINE,
    )
    (step,) = read_metrics(only_run(tmp_path))
    assert step["reward/unscored"] == 0 and step["reward/mean"] <= -1.5, "no episode reaches a verdict"
    assert step["train/trained_tokens"] > 0 and step["train/grad_norm"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo:GRPO", "rloo:RLOO"])
def test_the_algorithms_without_a_critic_learn_from_rollouts(tmp_path, run_ok, start, algorithm):
    run_ok(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        ALONE,
        "run.steps=2",
        f"algorithm.factory=rl.algorithms.{algorithm}",
        "algorithm.options.credit=error",
        "evaluation.before=false",
        "evaluation.after=false",
        *SMALL_ENGINE,
    )
    steps = read_metrics(only_run(tmp_path))
    assert [step["step"] for step in steps] == [1, 2]
    assert all(np.isfinite(step["reward/mean"]) for step in steps)


@pytest.mark.slow
def test_staleness_is_bounded_by_the_recipe(tmp_path, run_ok, start):
    run_ok(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        ALONE,
        "run.steps=5",
        "source.max_staleness=1",
        "evaluation.before=false",
        "evaluation.after=false",
        *SMALL_ENGINE,
    )
    staleness = [step["rollout/staleness_max"] for step in read_metrics(only_run(tmp_path))]
    assert max(staleness) == 1


@pytest.mark.slow
def test_held_out_rates_are_measured_during_training_and_drawn(tmp_path, run_ok, start):
    run_ok(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        ALONE,
        "run.steps=4",
        "evaluation.before=false",
        "evaluation.after=false",
        "evaluation.every=2",
        "evaluation.num_during=2",
        *SMALL_ENGINE,
    )
    run = only_run(tmp_path)
    steps = read_metrics(run)
    assert [step["step"] for step in steps if "heldout_greedy/success" in step] == [0, 2, 4]
    assert (run / "evaluation" / "step-000004" / "heldout-t1").is_dir()
    draw_curves([run], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_an_engine_that_keeps_old_weights_serves_nothing_and_the_run_says_so(tmp_path, start):
    found = tether(
        "train",
        "ppo_tiny",
        f"model.path={start}",
        ALONE,
        "run.steps=5",
        "learner.learning_rate=0.01",
        "algorithm.options.warmup_updates=0",
        # Moves the weights whatever the rewards are, and although a model that was never trained earns the same always.
        "algorithm.options.entropy_coefficient=-1.0",
        "algorithm.options.group_baseline=false",
        "evaluation.before=false",
        "evaluation.after=false",
        *SMALL_ENGINE,
        "rollout_pool.engine.options.deaf=true",
        cwd=tmp_path,
    )
    assert found.returncode == 1
    assert "does not serve version 1: its canary is off by" in found.stderr
    assert found.stderr.strip().splitlines()[-1].startswith("failed: no rollout worker can be started")


@pytest.mark.slow
def test_interruption_leaves_a_checkpoint_and_no_process_and_the_run_goes_on(tmp_path):
    words = ["train", "sft_tiny", "learner_group.engine=torch", "run.steps=2000", *SMALL_SFT]
    process = subprocess.Popen(
        command(*words), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step    3/"):
            break
    children = psutil.Process(process.pid).children(recursive=True)
    # A terminal sends it to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=120) == 130
    assert "resume=" in rest
    deadline = time.monotonic() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, [child for child in children if child.is_running()]
        time.sleep(0.2)
    run = only_run(tmp_path)
    done = read_metrics(run)[-1]["step"]
    assert (run / "checkpoints" / f"step-{done:06d}" / "model.safetensors").is_file()
    found = tether(
        "train",
        "sft_tiny",
        f"resume={run}",
        "learner_group.engine=torch",
        f"run.steps={done + 2}",
        *SMALL_SFT,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert [step["step"] for step in read_metrics(run)] == list(range(1, done + 3))
    state = json.loads((run / "checkpoints" / f"step-{done + 2:06d}" / "state.json").read_text())
    assert state["position"] == 2 * (done + 2)
    assert state["version"] == done + 2


@pytest.mark.slow
def test_an_interrupted_first_part_is_finished_before_the_second_begins(tmp_path, start):
    words = ["train", "ppo_tiny", f"model.path={start}", "run.steps=1", "first.source.groups_per_step=2"]
    words += ["evaluation.before=false", "evaluation.after=false", *SMALL_ENGINE]
    process = subprocess.Popen(
        command(*words, "first.run.steps=2000"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step    3/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=120) == 130
    run = only_run(tmp_path)
    assert f"go on with: tether train ppo_tiny resume={run.relative_to(tmp_path)}" in rest
    assert not (run / "checkpoints").exists()
    done = read_metrics(run / "first")[-1]["step"]
    found = tether(*words, f"first.run.steps={done + 1}", f"resume={run}", cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert [step["step"] for step in read_metrics(run / "first")] == list(range(1, done + 2))
    assert [step["step"] for step in read_metrics(run)] == [1]


@pytest.mark.slow
def test_ppo_and_rollouts_on_vllm(tmp_path, run_ok, start):
    words = [word for word in SMALL_ENGINE if not word.startswith("rollout_pool.engine")]
    run_ok("train", "ppo_tiny", f"model.path={start}", ALONE, "run.steps=2", "rollout_pool.kv_cache_gib=0.1", *words)
    run = only_run(tmp_path)
    steps = read_metrics(run)
    assert max(step["perf/weights_difference"] for step in steps) < 1e-3
    assert not [step for step in steps if step["rollout/failed"]]
    found = run_ok("rollout", str(run), "rollout_pool.kv_cache_gib=0.1", "--num", "2", "--print", "--max-tokens", "8")
    assert "2 episodes" in found.stdout
