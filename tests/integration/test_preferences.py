"""A file of preferences from the command line: SFT on the chosen sides, then DPO, with real Ray and real learners."""

import json

import numpy as np
import pytest
from harness import only_run, tether

from rl.metrics import read_metrics

TOOL = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def called(city: str) -> dict:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": city}}}]}


def preference(city: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": f"Weather in {city}?"}],
        "chosen": [called(city)],
        "rejected": [called("Nowhere")],
        "tools": [{"type": "function", "function": TOOL}],
    }


RECIPE = """
run.steps = 4
model.path = "{model}"
source.preferences = "{pairs}"
source.groups_per_step = 3
algorithm = {{ factory = "rl.algorithms.dpo:DPO", options = {{ beta = 0.5, sft_coefficient = 0.1 }} }}
learner.learning_rate = 1e-3
"""
FIRST = """
run.steps = 2
model.path = "{model}"
source.preferences = "{pairs}"
source.groups_per_step = 3
algorithm = {{ factory = "rl.algorithms.sft:SFT", options = {{ key_tokens = {{}} }} }}
"""


@pytest.mark.slow
def test_sft_then_dpo_learn_the_preferences_and_the_run_goes_on(tmp_path, run_ok, start):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(preference(city)) + "\n" for city in ("Oslo", "Rome", "Lima", "Bern")))
    (tmp_path / "first.toml").write_text(FIRST.format(model=start, pairs=pairs))
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(RECIPE.format(model=start, pairs=pairs) + f'first.recipe = "{tmp_path / "first.toml"}"\n')
    words = ["learner_group.engine=torch", "evaluation.before=false"]
    run_ok("train", str(recipe), *words)
    run = only_run(tmp_path)
    assert len(read_metrics(run / "first")) == 2
    steps = read_metrics(run)
    # Against what SFT left, and not against the start.
    assert steps[0]["train/preference_loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert steps[-1]["train/margin"] > steps[0]["train/margin"]
    assert "reward/mean" not in steps[0]
    (kept,) = (run / "kept").glob("reference-*.sqlite")
    written = kept.stat().st_mtime_ns
    run_ok("train", str(recipe), f"resume={run}", "run.steps=6", *words)
    assert [step["step"] for step in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert read_metrics(run)[-1]["train/margin"] > steps[-1]["train/margin"]
    assert kept.stat().st_mtime_ns == written, "a resumed run computes no reference log-prob again"


@pytest.mark.slow
def test_a_bad_pair_ends_the_command_before_anything_starts(tmp_path, start):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(preference("Oslo") | {"chosen": []}) + "\n")
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(RECIPE.format(model=start, pairs=pairs))
    found = tether("train", str(recipe), cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.strip().endswith("pairs.jsonl, line 1: chosen: expected messages, the first of role assistant")
    assert not (tmp_path / "runs").exists()
