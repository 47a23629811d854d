"""`tether ablate` with real runs: a tiny model from nothing, the plain torch engine, a small engine for evaluation."""

import json
import os
import signal
import subprocess
import time

import pytest
from harness import ENVIRONMENT, command, tether

RECIPE = """
[run]
steps = 1

[model.init]
factory = "small_parts:small_model"

[source]
tasks = { factory = "envs.toolworld:ToolWorldTasks" }
demonstrations = { factory = "envs.toolworld:Demonstrator" }
groups_per_step = 4
num_workers = 0

[algorithm]
factory = "rl.algorithms.sft:SFT"

[sampling]
max_tokens = 4
max_turns = 1

[evaluation]
after = true
num = 3
temperatures = [0.0]

[ablate]
seeds = [1, 2]
prepare = [["score", "replies.jsonl", "--out", "{work}/scores.jsonl"]]

[ablate.beside.control]

[ablate.grid.masking]
mae = { source = { mask_errors = true } }
broken = { source = { tasks = { options = { split = "nowhere" } } } }
"""
CLUSTER = """
[learner_group]
engine = "torch"
num_cpus_per_rank = 0.5

[rollout_pool]
num_cpus_per_worker = 0.5
engine = { factory = "small_parts:SmallEngine" }

[ray]
num_cpus = 1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    reply = {"id": 1, "tools": [], "calls": [{"name": "f", "arguments": {}}]}
    (tmp_path / "replies.jsonl").write_text(json.dumps(reply) + "\n")
    return tmp_path


def without_the_broken_cell(folder):
    path = folder / "recipe.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("broken")))


WORDS = ("ablate", "recipe.toml", "./cluster.toml", "--out", "out", "--jobs", "1")


def test_a_cell_that_cannot_run_is_named_before_anything_is_run(folder):
    done = tether(*WORDS, cwd=folder)
    assert done.returncode == 2
    assert "cell broken: source.tasks:" in done.stderr + done.stdout
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_an_ablation_that_was_interrupted_goes_on_where_it_was(folder):
    without_the_broken_cell(folder)
    first = subprocess.Popen(
        command(*WORDS),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        # A shell may have started the tests with the signal ignored, which processes inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    out = folder / "out"
    while not list(out.glob("*/seed-1.json")):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.2)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    os.kill(first.pid, signal.SIGINT)
    assert first.wait(timeout=120) == 130

    second = tether(*WORDS, cwd=folder)
    assert second.returncode == 0, second.stdout + second.stderr
    assert sorted(str(path.relative_to(out)) for path in out.glob("*/*.json")) == [
        "control/seed-1.json",
        "control/seed-2.json",
        "mae/seed-1.json",
        "mae/seed-2.json",
    ]
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert (folder / "runs" / "ablate-recipe" / "scores.jsonl").is_file()
    table = (out / "table.md").read_text()
    assert "| control | 2 |" in table
    assert "less control" in table
    shown = tether(*WORDS[:-2], "--table", cwd=folder)
    assert "4 runs of 4" in shown.stdout
