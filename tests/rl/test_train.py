import numpy as np
import pytest

from envs.types import Message, Task
from rewards.types import CallError, ErrorKind, Score
from rl.errors import RunFailed
from rl.sample import ScoredGroup
from rl.train import refuse_failures, score_row
from rollout.store import read_scores, write_scores
from rollout.trajectory import Ending
from rollout.worker import EpisodeRequest, failed_trajectory

TASK = Task(task_id="t", prompt=(Message(role="user", content="hi"),), tools=())


def episodes(*endings: Ending) -> list[ScoredGroup]:
    request = EpisodeRequest(task=TASK, trajectory_id="a", group_id="g")
    trajectories = [failed_trajectory(request, ending, "Traceback\nKeyError: 'city'") for ending in endings]
    return [ScoredGroup(trajectories=tuple(trajectories))]


def test_a_few_failures_of_the_infrastructure_are_counted():
    refuse_failures(episodes(Ending.ENV_FAILED, *[Ending.COMPLETED] * 4), 0.2)


def test_too_many_failures_stop_the_run_with_the_last_reason():
    with pytest.raises(RunFailed, match=r"2 of 3 episodes failed \(env_failed: KeyError: 'city'\)"):
        refuse_failures(episodes(Ending.ENV_FAILED, Ending.ENV_FAILED, Ending.COMPLETED), 0.2)


def test_scores_are_kept_as_they_were(tmp_path):
    (group,) = episodes(Ending.COMPLETED)
    error = CallError(turn=0, call=1, kind=ErrorKind.WRONG_VALUE, argument="/city", detail="Rome")
    score = Score(per_turn=np.array([0.5], dtype=np.float32), errors=(error,))
    write_scores(tmp_path, 1, [score_row(group.trajectories[0], score, "mine")])
    (row,) = read_scores(tmp_path)
    assert row["total"] == 0.5
    assert row["scheme"] == "mine"
    assert row["errors"][0]["kind"] == "wrong_value"


def test_an_unscored_trajectory_has_no_total(tmp_path):
    (group,) = episodes(Ending.ENV_FAILED)
    score = Score(per_turn=np.zeros(0, dtype=np.float32), unscored="env_failed")
    write_scores(tmp_path, 1, [score_row(group.trajectories[0], score, "mine")])
    assert next(iter(read_scores(tmp_path)))["total"] is None
