import io
import json

import numpy as np
import pytest
from rich.console import Console

from envs.actions import FINISH, offered_actions
from envs.component import Component
from envs.tasks import write_tasks
from envs.types import Message, Outcome, Task
from rl.config import Evaluation as EvaluationConfig
from rl.evaluate import RATES
from rl.evaluator import Evaluator, place, read_results, task_sets
from rl.tables import paired, print_paired, print_stages, sections
from rl.task_sets import task_set
from rollout.store import read_trajectories
from rollout.trajectory import Ending, Trajectory, Turn


class Pool:
    """Its policy says nothing and never finishes."""

    def __init__(self) -> None:
        self.temperatures: list[float] = []

    async def run(self, task: Task, *, group_id: str, settings) -> tuple[Trajectory, ...]:
        self.temperatures.append(settings.sampling.temperature)
        one = Trajectory(
            trajectory_id=f"{group_id}-0",
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


def evaluator(pool: Pool) -> Evaluator:
    return Evaluator(
        pool,  # type: ignore[arg-type]
        Component(factory="envs.toolworld:ToolWorldEnv"),
        max_tokens=8,
        max_turns=2,
        console=Console(file=io.StringIO()),
    )


SETTINGS = EvaluationConfig(tasks=["heldout", "real"], num=4, num_others=3, temperatures=[1.0, 0.0])


async def test_rates_stand_where_the_summary_wants_them(tmp_path):
    pool = Pool()
    stage = await evaluator(pool).run(task_sets(SETTINGS), SETTINGS.temperatures, 7, tmp_path)
    assert stage["n"] == 4
    assert stage["success"] == 0
    assert stage["greedy"]["n"] == 4
    assert stage["real_apis"]["n"] == 3
    assert stage["real_apis"]["greedy"]["n"] == 3
    assert sorted(set(pool.temperatures)) == [0.0, 1.0]


async def test_episodes_and_results_are_kept(tmp_path):
    await evaluator(Pool()).run(task_sets(SETTINGS), [0.0], 7, tmp_path)
    folder = tmp_path / place("heldout", 0.0)
    assert len(list(read_trajectories(folder))) == 4
    results = read_results(folder)
    assert len(results.results) == 4
    assert results.results[0].flags["success"] is False
    metrics = results.results[0].metrics
    assert metrics is not None and metrics.passed == 0.0


async def test_two_evaluations_of_the_same_tasks_can_be_paired(tmp_path):
    for name in ("a", "b"):
        await evaluator(Pool()).run(task_sets(SETTINGS), SETTINGS.temperatures, 7, tmp_path / name)
    found = paired(tmp_path / "a", tmp_path / "b")
    assert set(found) == {"heldout-greedy", "heldout-t1", "real_apis-greedy", "real_apis-t1"}
    assert found["heldout-t1"]["success"].p == 1.0
    out = io.StringIO()
    print_paired(Console(file=out, width=150), found, "before", "after")
    assert "heldout-t1: success" in out.getvalue()
    assert "heldout-t1: only the format better" in out.getvalue()


async def test_the_closing_tables_show_every_set_and_temperature(tmp_path):
    stage = await evaluator(Pool()).run(task_sets(SETTINGS), SETTINGS.temperatures, 7, tmp_path)
    titles = [title for title, _ in sections({"before": stage})]
    assert len(titles) == 4
    assert titles[0] == "Held-out tasks, tools never seen, temperature 1"
    out = io.StringIO()
    print_stages(Console(file=out, width=150), {"before": stage, "after": stage})
    assert "Unseen real API documents, greedy" in out.getvalue()


def test_evaluations_without_a_common_set_cannot_be_paired(tmp_path):
    with pytest.raises(ValueError, match="no evaluation of the same tasks"):
        paired(tmp_path, tmp_path)


def test_a_task_file_is_a_set_under_its_own_name(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_tasks(path, [Task(task_id=str(n), prompt=(Message(role="user", content="x"),), tools=()) for n in range(5)])
    found = task_set(str(path), 3, seed=0)
    assert found.name == "mine"
    assert len(found.tasks) == 3


def test_the_tasks_of_an_evaluation_do_not_depend_on_the_run():
    assert task_sets(SETTINGS)[0].tasks == task_sets(SETTINGS)[0].tasks


async def test_episodes_come_with_their_evaluation_and_offer_what_was_asked(tmp_path):
    class Listening(Pool):
        async def run(self, task, *, group_id, settings):
            offered.append(settings.offer_actions)
            return await super().run(task, group_id=group_id, settings=settings)

    offered: list[bool] = []
    measured = Evaluator(
        Listening(),  # type: ignore[arg-type]
        Component(factory="envs.benchmarks.episode:SingleTurnEnv"),
        max_tokens=8,
        max_turns=1,
        console=Console(file=io.StringIO()),
        offer_actions=False,
    )
    tasks = task_set("heldout", 3, seed=0)
    evaluation, trajectories = await measured.episodes(tasks, 0.0, 0, tmp_path)
    assert [one.task.task_id for one in trajectories] == [result.task_id for result in evaluation.results]
    assert offered == [False] * 3


def test_results_of_older_versions_are_read_without_the_metrics_of_the_set(tmp_path):
    line = {
        "task_id": "a",
        "kind": "single",
        "failed": False,
        "flags": dict.fromkeys(RATES, True),
        "hallucinated_share": 0.0,
        "errors": ["malformed"],
    }
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    (result,) = read_results(tmp_path).results
    assert result.metrics is None
    assert read_results(tmp_path).to_json()["relign"]["pass_rate"] is None


def test_an_evaluation_without_deferrals_offers_the_same_tasks_with_finish_alone():
    whole, without = (
        task_sets(EvaluationConfig(tasks=["heldout"], num=4, deferrals=deferrals))[0] for deferrals in (True, False)
    )
    assert [task.task_id for task in whole.tasks] == [task.task_id for task in without.tasks]
    assert [action.name for task in without.tasks for action in offered_actions(task)] == [FINISH] * 4


async def test_detection_brings_its_environment_and_the_turns_that_it_needs(tmp_path):
    class Listening(Pool):
        async def run(self, task, *, group_id, settings):
            asked.append((settings.env.factory, settings.max_turns))
            return await super().run(task, group_id=group_id, settings=settings)

    asked: list[tuple[str, int]] = []
    sets = task_sets(EvaluationConfig(tasks=["detection", "heldout"], num=3, num_others=2))
    stage = await evaluator(Listening()).run(sets, [0.0], 7, tmp_path)  # type: ignore[arg-type]
    assert asked[:3] == [("envs.detection.env:DetectionEnv", 20)] * 3
    assert asked[3:] == [("envs.toolworld:ToolWorldEnv", 2)] * 2
    assert stage["tasks"] == "detection" and stage["heldout"]["greedy"]["n"] == 2
    title, _ = next(iter(sections({"before": stage})))
    assert title == "Responses never seen, to be checked for hallucinations, greedy"
    assert read_results(tmp_path / "detection-greedy").results[0].language in ("en", "zh")
