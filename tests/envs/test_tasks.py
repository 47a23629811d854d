import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from envs.component import Component
from envs.tasks import SUFFIXES, read_tasks, split_tasks, write_tasks
from envs.toolworld import ToolWorldTasks

TASKS = list(ToolWorldTasks(num=20))
GOOD = json.dumps(TASKS[0].to_json())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tasks_survive_a_file(tmp_path, suffix):
    path = tmp_path / f"tasks{suffix}"
    write_tasks(path, TASKS)
    assert read_tasks(path) == TASKS


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_the_same_tasks_give_the_same_bytes(tmp_path, suffix):
    for name in ("a", "b"):
        write_tasks(tmp_path / f"{name}{suffix}", TASKS)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_prompt_may_be_a_string_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('\n{"task_id": "a", "prompt": "hello", "tools": []}\n\n')
    (task,) = read_tasks(path)
    assert task.prompt[0].content == "hello" and task.reference is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "got list"),
        ("{}", "lacks task_id, prompt, tools"),
        ('{"task_id": "a", "prompt": "x"}', "lacks tools"),
        ('{"task_id": 3, "prompt": "x", "tools": []}', "task_id must be a string"),
        ('{"task_id": "a", "prompt": [], "tools": []}', "prompt not empty"),
        ('{"task_id": "a", "prompt": 3, "tools": []}', "expected a task"),
        ('{"task_id": "a", "prompt": "x", "tools": [{}]}', "lacks 'name'"),
        ('{"task_id": "a", "prompt": "x", "tools": [3]}', "expected a task"),
        ('{"task_id": "a", "prompt": "x", "tools": [{"name": "f", "parameters": {"type": 3}}]}', "JSON schema"),
        ('{"task_id": "a", "prompt": "x", "tools": [], "reference": [{"arguments": {}}]}', "lacks 'name'"),
        (GOOD, "already on line 1"),
    ],
)
def test_a_corrupt_line_is_named_with_file_and_number(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(ValueError, match=message) as error:
        read_tasks(path)
    assert f"{path}:2:" in str(error.value)


def test_a_truncated_gzip_file_is_named(tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress((GOOD + "\n").encode() * 2)[:-30])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz"):
        read_tasks(path)


def test_a_corrupt_parquet_row_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"task_id": ["a"], "prompt": ["{"], "tools": ["[]"]}), path)
    with pytest.raises(ValueError, match=r"t.parquet:1: column prompt is not JSON"):
        read_tasks(path)
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_tasks(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "tasks.csv"])
def test_a_missing_or_unknown_file_is_refused(tmp_path, name):
    if name.endswith("csv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=name):
        read_tasks(tmp_path / name)


def test_a_task_file_is_a_component(tmp_path):
    write_tasks(tmp_path / "t.jsonl", TASKS)
    source = Component(factory="envs.tasks:TaskFile", options={"path": str(tmp_path / "t.jsonl")}).build()
    assert len(source) == 20 and source.task(3) == TASKS[3] and list(source) == TASKS
    with pytest.raises(IndexError):
        source.task(20)


def test_splits_are_disjoint_seeded_and_independent_of_other_tasks():
    many = list(ToolWorldTasks(num=200))
    train, heldout = split_tasks(many, heldout_share=0.3, seed=1)
    assert {task.task_id for task in train}.isdisjoint(task.task_id for task in heldout)
    assert len(train) + len(heldout) == 200 and 30 < len(heldout) < 90
    assert split_tasks(many[:50], heldout_share=0.3, seed=1)[1] == [task for task in many[:50] if task in heldout]
    assert split_tasks(many, heldout_share=0.3, seed=2)[1] != heldout
