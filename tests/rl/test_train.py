import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from envs.types import Message, Task
from rl.errors import RunFailed
from rl.sample import ScoredGroup
from rl.train import lost_process, refuse_failures
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


def test_a_learner_that_was_killed_for_memory_is_one_line():
    error = OutOfMemoryError(
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.1, ID: f) was "
        "22.42GB used / 23.54GB limit (0.95).\nTop 10 memory users: PID MEM(GB) COMMAND\n1 9.0 python"
    )
    assert lost_process(error) == (
        "a process of the learner was killed: the machine ran low on memory (22.42GB used / 23.54GB)"
    )


def test_a_learner_that_died_is_one_line():
    line = lost_process(ActorDiedError())
    assert line.startswith("a process of the learner was lost: ") and "\n" not in line
