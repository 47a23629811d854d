import json

import numpy as np
import pytest

from envs.types import Message, Task
from rewards.types import CallError, ErrorKind, Score
from rl.config import Config
from rl.records import LEDGER, Records, score_row
from rl.sample import ScoredGroup
from rollout.store import read_scores, read_trajectories, write_scores
from rollout.trajectory import Ending, Trajectory
from rollout.worker import EpisodeRequest, failed_trajectory

TASK = Task(task_id="t", prompt=(Message(role="user", content="hi"),), tools=())
GOOD = Score(per_turn=np.zeros(0, dtype=np.float32))
UNSCORED = Score(per_turn=np.zeros(0, dtype=np.float32), unscored="no reference")


def episode(name: str, ending: Ending = Ending.COMPLETED) -> Trajectory:
    return failed_trajectory(EpisodeRequest(task=TASK, trajectory_id=name, group_id="g"), ending, "")


def config(*, every: int = 0, offline: bool = False) -> Config:
    source = {"tasks": {"factory": "envs.toolworld:ToolWorldTasks"}}
    if offline:
        source["demonstrations"] = {"factory": "envs.toolworld:Demonstrator"}
    return Config.model_validate(
        {
            "run": {"keep_trajectories_every": every},
            "model": {"path": "m"},
            "source": source,
            "algorithm": {"factory": "rl.algorithms.ppo:PPO"},
        }
    )


def group(*names: str) -> ScoredGroup:
    return ScoredGroup(trajectories=tuple(map(episode, names)), scores=(GOOD,) * len(names))


def fates(directory) -> dict[str, str]:
    lines = [json.loads(line) for line in (directory / LEDGER).read_text().splitlines()]
    return {line["trajectory_id"]: line["fate"] for line in lines if "fate" in line}


def test_every_episode_gets_its_fate(tmp_path):
    mixed = ScoredGroup(
        trajectories=(episode("a"), episode("b", Ending.ENV_FAILED), episode("c")), scores=(GOOD, UNSCORED, UNSCORED)
    )
    Records(config(), tmp_path, step=0).write(1, [mixed])
    assert fates(tmp_path) == {"a": "trained", "b": "failed", "c": "dropped"}


def test_an_episode_is_never_trained_on_twice(tmp_path):
    records = Records(config(), tmp_path, step=0)
    records.write(1, [group("a")])
    with pytest.raises(ValueError, match="a was trained at step 1"):
        records.write(2, [group("a")])


def test_a_resumed_run_makes_the_steps_after_its_checkpoint_again(tmp_path):
    records = Records(config(), tmp_path, step=0)
    records.write(1, [group("a")])
    records.write(2, [group("b")])
    resumed = Records(config(), tmp_path, step=1)
    resumed.write(2, [group("b")])
    with pytest.raises(ValueError, match="a was trained at step 1"):
        resumed.write(3, [group("a")])


def test_episodes_are_kept_in_the_steps_the_recipe_names(tmp_path):
    records = Records(config(every=2), tmp_path, step=0)
    records.write(1, [group("a")])
    records.write(2, [group("b")])
    assert [trajectory.trajectory_id for trajectory in read_trajectories(tmp_path)] == ["b"]
    assert len(list(read_scores(tmp_path))) == 1


def test_demonstrations_leave_no_ledger(tmp_path):
    Records(config(offline=True), tmp_path, step=0).write(1, [ScoredGroup(trajectories=(episode("a"),))])
    assert not list(tmp_path.iterdir())


def test_scores_are_kept_as_they_were(tmp_path):
    error = CallError(turn=0, call=1, kind=ErrorKind.WRONG_VALUE, argument="/city", detail="Rome")
    score = Score(per_turn=np.array([0.5], dtype=np.float32), errors=(error,))
    write_scores(tmp_path, 1, [score_row(episode("a"), score, "mine")])
    (row,) = read_scores(tmp_path)
    assert row["total"] == 0.5
    assert row["scheme"] == "mine"
    assert row["errors"][0]["kind"] == "wrong_value"


def test_an_unscored_trajectory_has_no_total(tmp_path):
    score = Score(per_turn=np.zeros(0, dtype=np.float32), unscored="env_failed")
    write_scores(tmp_path, 1, [score_row(episode("a"), score, "mine")])
    assert next(iter(read_scores(tmp_path)))["total"] is None
