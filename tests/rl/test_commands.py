import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from envs.component import Component
from envs.types import Message, Outcome, Task
from rl import config as configs
from rl.__main__ import main
from rl.commands.compare import draw_curves
from rl.commands.rollout import summary
from rl.commands.train import cluster_and_overrides
from rl.errors import BadInput
from rl.evaluator import Evaluator
from rl.report.summary import SUMMARY_NAME, write_summary
from rl.task_sets import task_set
from rollout.trajectory import Ending, Trajectory, Turn


class Pool:
    """Its policy says nothing and never finishes."""

    async def run(self, task: Task, *, group_id: str, settings) -> tuple[Trajectory, ...]:
        one = Trajectory(
            trajectory_id=group_id,
            group_id=group_id,
            task=task,
            tools=task.tools,
            turns=(Turn(message=Message(role="assistant", content="no"), results=(), start=1, end=2),),
            token_ids=np.array([1, 2], dtype=np.int32),
            action_mask=np.array([False, True]),
            logprobs=np.zeros(2, dtype=np.float32),
            oldest_version=0,
            newest_version=0,
            ending=Ending.MAX_TURNS,
            outcome=Outcome(),
        )
        return (one,)


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two runs that were evaluated after training."""
    found = []
    for name in ("first", "second"):
        run = tmp_path / name
        evaluator = Evaluator(
            Pool(),  # type: ignore[arg-type]
            Component(factory="envs.toolworld:ToolWorldEnv"),
            max_tokens=8,
            max_turns=2,
            console=Console(file=io.StringIO()),
        )
        sets = [task_set("heldout", 4, seed=0)]
        after = asyncio.run(evaluator.run(sets, [1.0, 0.0], 0, run / "evaluation" / "after"))
        write_summary(run / SUMMARY_NAME, measurements={"after": after}, seconds=1.0, peak_memory_gb=0.1, seed=0)
        found.append(run)
    return found


def test_compare_writes_the_control_into_the_first_summary(runs, capsys):
    assert main(["compare", *map(str, runs), "--control"]) == 0
    summary = json.loads((runs[0] / SUMMARY_NAME).read_text())
    assert summary["control"]["n"] == 4
    assert summary["comparisons"]["after_vs_control"]["heldout-greedy"]["success"]["p"] == 1.0
    out = capsys.readouterr().out
    assert "second against first" in out


def test_the_closing_tables_of_a_run_come_as_markdown(runs, capsys):
    (runs[0] / "run.json").write_text("{}")
    assert main(["show", str(runs[0]), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**Held-out tasks, tools never seen, temperature 1**"
    assert any(line.startswith("| success |") for line in lines)


def test_curves_of_a_run_that_measured_nothing_are_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(configs.load("ppo_tiny").model_dump(mode="json")))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "timing_s/elapsed": 2.0}\n')
    with pytest.raises(BadInput, match="no evaluation during training"):
        draw_curves([tmp_path], tmp_path / "curves.png")


def test_compare_leaves_the_summaries_alone_unless_told(runs):
    before = (runs[0] / SUMMARY_NAME).read_text()
    assert main(["compare", *map(str, runs)]) == 0
    assert (runs[0] / SUMMARY_NAME).read_text() == before


def test_show_marks_the_errors_of_kept_episodes(runs, capsys):
    assert main(["show", str(runs[0] / "evaluation" / "after" / "heldout-greedy"), "--num", "2", "--wrong"]) == 0
    assert "missing_call" in capsys.readouterr().out


def test_show_of_an_episode_that_is_not_there_is_bad_input(runs, capsys):
    assert main(["show", str(runs[0] / "evaluation" / "after" / "heldout-greedy"), "--id", "nobody"]) == 2
    assert "no such episode" in capsys.readouterr().err


def test_show_of_a_folder_that_is_no_run_says_so(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 2
    assert "neither a run (it has no run.json) nor episodes" in capsys.readouterr().err


async def test_failed_episodes_are_counted_apart(tmp_path):
    (task,) = task_set("heldout", 1, seed=0).tasks
    (good,) = await Pool().run(task, group_id="g", settings=None)
    failed = replace(good, ending=Ending.ENV_FAILED, error="Traceback\nKeyError: [oslo]")
    assert summary([good, failed], [(), ()]) == (
        "1 episodes, 0 finished, 1 without an error; 1 more failed by the infrastructure (env_failed: KeyError: [oslo])"
    )
    assert summary([good], [()]) == "1 episodes, 0 finished, 1 without an error"


def test_the_first_word_without_an_equals_sign_is_the_cluster():
    assert cluster_and_overrides(["one_gpu", "a=1"]) == ("one_gpu", ["a=1"])
    assert cluster_and_overrides(["a=1", "b=2"]) == ("laptop", ["a=1", "b=2"])
    assert cluster_and_overrides([]) == ("laptop", [])


@pytest.mark.parametrize("words", [["package:tiny", "laptop"], ["a=1", "laptop"]])
def test_a_cluster_in_another_place_is_told_where_it_belongs(words):
    with pytest.raises(BadInput, match=r"'laptop': expected key=value, .* a cluster comes second"):
        cluster_and_overrides(words)


def test_a_run_directory_means_its_newest_checkpoint(tmp_path):
    (tmp_path / configs.RESOLVED_NAME).write_text("{}")
    for step in (5, 40):
        folder = tmp_path / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        (folder / "model.safetensors").write_text("")
    assert configs.find_model(str(tmp_path)).name == "step-000040"
