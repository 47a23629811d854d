import json

import pytest

from envs.benchmarks import tau_bench


def test_every_recorded_episode_is_given(benchmark_data):
    found = list(tau_bench.traces(benchmark_data / "tau_bench"))
    assert len(found) == 120 and len({dialogue.task.task_id for dialogue in found}) == 120
    for dialogue in found:
        assert [message.role for message in dialogue.task.prompt] == ["system", "user"]
        assert {tool.name for tool in dialogue.tools} >= set(dialogue.task.facts["benchmark"]["writing"])


def test_each_task_is_read_once_without_its_reward(benchmark_data):
    tasks = list(tau_bench.read(benchmark_data / "tau_bench", "airline"))
    assert len(tasks) == 30
    assert all("recorded" not in task.facts["benchmark"] and task.reference is None for task in tasks)


def test_a_record_that_does_not_begin_with_policy_and_user_is_named(tmp_path):
    (tmp_path / "tools_airline.json").write_text("[]")
    record = {"task_id": 1, "trial": 0, "info": {"task": {}}, "traj": [{"role": "user"}]}
    (tmp_path / "gpt-4o-airline.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=r"airline.jsonl:1: traj begins with \['user'\], expected system, user"):
        list(tau_bench.traces(tmp_path))
