import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from envs.types import Message, Outcome, Task
from rewards.types import CallError, ErrorKind, Score
from rl.metrics import Recorder, group_metrics, read_metrics, step_line
from rl.sample import ScoredGroup
from rollout.trajectory import Ending, Trajectory, Turn

TASK = Task(task_id="t", prompt=(Message(role="user", content="hi"),), tools=())


def trajectory(*, ending: Ending = Ending.COMPLETED, version: int = 3, finished: bool = True) -> Trajectory:
    return Trajectory(
        trajectory_id="a",
        group_id="g",
        task=TASK,
        tools=(),
        turns=(Turn(message=Message(role="assistant"), results=(), start=2, end=4),),
        token_ids=np.arange(4, dtype=np.int32),
        action_mask=np.array([False, False, True, True]),
        logprobs=np.zeros(4, dtype=np.float32),
        oldest_version=version,
        newest_version=version,
        ending=ending,
        outcome=Outcome(finished=finished),
    )


def score(total: float, *kinds: ErrorKind) -> Score:
    errors = tuple(CallError(turn=0, call=0, kind=kind) for kind in kinds)
    return Score(per_turn=np.array([total], dtype=np.float32), errors=errors)


def test_group_metrics_count_episodes_rewards_and_errors():
    group = ScoredGroup(
        trajectories=(trajectory(), trajectory(finished=False)),
        scores=(score(1.0), score(-1.0, ErrorKind.WRONG_TOOL, ErrorKind.MISSING_CALL)),
    )
    metrics = group_metrics([group], version=5)
    assert metrics["rollout/episodes"] == 2
    assert metrics["rollout/finished"] == 0.5
    assert metrics["rollout/staleness"] == 2
    assert metrics["reward/mean"] == 0
    assert metrics["tools/hallucinated"] == 0.5
    assert metrics["tools/wrong_tool"] == 0.5
    assert metrics["tools/no_error"] == 0.5


def test_failed_and_unscored_episodes_are_counted_and_not_averaged():
    failed = Score(per_turn=np.zeros(1, dtype=np.float32), unscored="env failed")
    group = ScoredGroup(
        trajectories=(trajectory(), trajectory(ending=Ending.ENV_FAILED)),
        scores=(score(1.0), failed),
    )
    metrics = group_metrics([group], version=3)
    assert metrics["rollout/failed"] == 0.5
    assert metrics["reward/mean"] == 1
    assert metrics["reward/unscored"] == 1


def test_demonstrations_have_no_reward_and_no_staleness():
    metrics = group_metrics([ScoredGroup(trajectories=(trajectory(version=-1),))], version=3)
    assert "reward/mean" not in metrics
    assert "rollout/staleness" not in metrics


def test_the_line_shows_what_was_measured_and_nothing_else():
    line = step_line(7, 120, {"train/loss": 0.5, "timing_s/step": 2.0, "timing_s/left": 125.0})
    assert line == "step   7/120  loss 0.500  step 2.0 s  left 2 min 05 s"


def test_the_recorder_writes_jsonl_events_and_a_line(tmp_path):
    out = io.StringIO()
    recorder = Recorder(tmp_path, Console(file=out, width=160), num_steps=2)
    recorder.record(1, {"train/loss": 1.5, "reward/mean": math.nan})
    recorder.record(2, {"train/loss": 0.5})
    recorder.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/loss"] for line in lines] == [1.5, 0.5]
    assert lines[0]["reward/mean"] is None
    assert "step 2/2  loss 0.500" in out.getvalue()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_tensorboard_reads_the_events_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorder = Recorder(tmp_path, Console(file=io.StringIO()), num_steps=1)
    recorder.record(1, {"train/loss": 1.5})
    recorder.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("train/loss")[0].value == pytest.approx(1.5)


def test_a_step_made_twice_is_read_once(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 1}\n{"step": 2, "x": 2}\n{"step": 2, "x": 3}\n')
    assert [line["x"] for line in read_metrics(tmp_path)] == [1, 3]
