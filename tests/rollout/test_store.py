import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Outcome, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.parsers import CallPlace
from rollout.store import (
    Fate,
    Ledger,
    read_scores,
    read_trajectories,
    trajectory_schema,
    write_scores,
    write_trajectories,
)
from rollout.trajectory import Ending, Trajectory, Turn

TOOL = ToolSpec(
    name="f",
    description="d",
    parameters={"type": "object", "properties": {"\u00fc": {"type": "string"}}, "required": []},
)


def make(number, ending=Ending.COMPLETED, error=""):
    rng = np.random.default_rng(number)
    mask = np.array([False, False, True, True, False, True])
    calls = (
        ToolCall(call_id="call_0", name="f", arguments={"\u00fc": "\u6771", "x": [1, 2.5, None]}),
        MalformedCall(call_id="call_1", text="<tool_call>{\x00", reason="invalid JSON"),
    )
    turns = (
        Turn(
            message=Message(role="assistant", content="I look.", calls=calls),
            results=tuple(ToolResult(call_id=c.call_id, status=ToolStatus.FAILED, content="no") for c in calls),
            start=2,
            end=4,
            new_tools=ACTIONS,
            train=False,
            heard=(Message(role="user", content="Zwei \u00fc"),),
            places=(
                CallPlace(
                    span=(2, 3), name=(2, 3), keys={"/\u00fc": (2, 3)}, values={"/\u00fc": (2, 3), "/x/0": (2, 3)}
                ),
                CallPlace(span=(3, 4)),
            ),
        ),
        Turn(message=Message(role="assistant", content="done"), results=(), start=5, end=6),
    )
    return Trajectory(
        trajectory_id=f"t{number}",
        group_id="g",
        task=Task(
            task_id="task",
            prompt=(Message(role="user", content="?"),),
            tools=(TOOL,),
            reference=(ToolCall(name="f", arguments={"\u00fc": {"any_of": ["a", ""]}}),),
            answer="a",
            kind="chain",
            seed=number,
            facts={"user": {"x": 1}},
        ),
        tools=(TOOL, *ACTIONS),
        turns=turns,
        token_ids=np.arange(6, dtype=np.int32),
        action_mask=mask,
        logprobs=np.where(mask, -rng.random(6), np.nan).astype(np.float32),
        oldest_version=3,
        newest_version=4,
        ending=ending,
        outcome=Outcome(finished=True, answer="a", facts={"k": [1]}),
        error=error,
        seconds=1.5,
    )


def assert_same(one, other):
    for name in [one.name for one in fields(Trajectory)]:
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, name


def test_trajectories_read_back_as_they_were_in_the_order_of_steps(tmp_path):
    kept = [make(0), make(1, Ending.ENV_FAILED, "Traceback \udcff".replace("\udcff", "?")), make(2), make(3)]
    write_trajectories(tmp_path, 10, kept[2:])
    write_trajectories(tmp_path, 9, kept[:2])
    for one, other in zip(kept, read_trajectories(tmp_path), strict=True):
        assert_same(one, other)
    assert len(list(read_trajectories(tmp_path / "trajectories" / "step=9"))) == 2


def test_writing_a_step_again_replaces_it_and_leaves_nothing_else(tmp_path):
    write_trajectories(tmp_path, 0, [make(0), make(1)])
    path = write_trajectories(tmp_path, 0, [make(2)])
    write_trajectories(tmp_path, 0, [make(3)], part="part-1")
    assert [trajectory.trajectory_id for trajectory in read_trajectories(tmp_path)] == ["t2", "t3"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["part-0.parquet", "part-1.parquet"]


def test_a_file_of_before_there_were_places_can_be_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_trajectories(tmp_path, 0, [make(0)])
    table = pq.ParquetFile(path).read()
    turn = trajectory_schema().field("turns").type.value_type
    fields = [field for field in turn if field.name not in ("places", "heard")]
    rows = [[{field.name: row[field.name] for field in fields} for row in turns.as_py()] for turns in table["turns"]]
    index = table.schema.get_field_index("turns")
    old = table.set_column(index, "turns", pa.array(rows, pa.list_(pa.struct(fields))))
    pq.write_table(old, path)
    (read,) = read_trajectories(tmp_path)
    assert [(turn.places, turn.heard) for turn in read.turns] == [((), ()), ((), ())]
    assert read.turns[0].message == make(0).turns[0].message


def test_an_empty_step_is_a_file_without_rows(tmp_path):
    write_trajectories(tmp_path, 0, [])
    assert list(read_trajectories(tmp_path)) == []


def test_text_that_utf8_cannot_hold_does_not_stop_the_store(tmp_path):
    write_trajectories(tmp_path, 0, [make(0, Ending.ENV_FAILED, "bad \udcff")])
    assert next(read_trajectories(tmp_path)).error == "bad ?"


ERROR = {"turn": 0, "call": None, "kind": "missing_call", "argument": "/city", "detail": "d", "start": 2, "end": 4}


def test_scores_read_back_and_a_missing_score_is_null(tmp_path):
    rows = [
        {
            "trajectory_id": "t0",
            "scheme": "s",
            "total": 0.5,
            "per_turn": np.array([0.5, 0.0], np.float32),
            "errors": [ERROR],
        },
        {"trajectory_id": "t1", "scheme": "s", "total": float("nan"), "per_turn": [], "errors": []},
    ]
    write_scores(tmp_path, 3, rows)
    first, second = read_scores(tmp_path)
    assert first == {**rows[0], "per_turn": [0.5, 0.0]}
    assert second["total"] is None


READER = """
import sys
from dataclasses import fields
import duckdb, pyarrow.dataset, pyarrow.parquet
run = sys.argv[1]
table = pyarrow.dataset.dataset(run + "/trajectories", partitioning="hive").to_table()
assert table.column("step").to_pylist() == [1, 1, 2], table.column("step")
assert table.column("turns")[0].as_py()[0]["start"] == 2
meta = pyarrow.parquet.read_schema(run + "/trajectories/step=1/part-0.parquet").metadata
assert meta[b"tether.schema"] == b"1", meta
rows = duckdb.sql(f'''
    select t.step, count(*), sum(len(t.token_ids)), avg(s.total), max(t.turns[1].message::json->>'$.calls[0].name')
    from read_parquet('{run}/trajectories/*/*.parquet', hive_partitioning = true) t
    join read_parquet('{run}/scores/*/*.parquet', hive_partitioning = true) s using (trajectory_id)
    group by t.step order by t.step
''').fetchall()
assert rows == [(1, 2, 12, 1.0, "f"), (2, 1, 6, 1.0, "f")], rows
assert not {"rollout", "envs"} & set(sys.modules)
"""


def test_the_datasets_are_read_by_pyarrow_and_duckdb_without_tether(tmp_path):
    pytest.importorskip("duckdb")
    write_trajectories(tmp_path, 1, [make(0), make(1)])
    write_trajectories(tmp_path, 2, [make(2)])
    for step, ids in ((1, ["t0", "t1"]), (2, ["t2"])):
        rows = [{"trajectory_id": i, "scheme": "s", "total": 1.0, "per_turn": [1.0], "errors": [ERROR]} for i in ids]
        write_scores(tmp_path, step, rows)
    subprocess.run([sys.executable, "-I", "-c", READER, str(tmp_path)], check=True, cwd=tmp_path)


def test_files_that_are_none_of_ours_are_one_clear_error(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(ValueError, match="found none"):
        list(read_trajectories(tmp_path))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"tether\.schema"):
        list(read_trajectories(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a Parquet file"):
        list(read_trajectories(tmp_path))


def test_every_trajectory_has_one_fate_also_after_reopening(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record(["a", "b"], Fate.TRAINED, 0)
    ledger.record(["c"], Fate.STALE, 1)
    with pytest.raises(ValueError, match="a was trained at step 0"):
        ledger.record(["d", "a"], Fate.DROPPED, 1)
    with pytest.raises(ValueError, match="twice"):
        ledger.record(["d", "d"], Fate.DROPPED, 1)
    for again in (ledger, Ledger(tmp_path / "ledger.jsonl")):
        assert again.counts() == {Fate.TRAINED: 2, Fate.FAILED: 0, Fate.STALE: 1, Fate.DROPPED: 0}
        assert again.fate("d") is None
        assert again.fate("c") is Fate.STALE


def test_a_torn_last_line_of_the_ledger_never_counted(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger(path).record(["a", "b"], Fate.TRAINED, 0)
    path.write_bytes(path.read_bytes()[:-5])
    ledger = Ledger(path)
    assert len(ledger) == 1
    ledger.record(["b"], Fate.FAILED, 1)
    assert Ledger(path).fate("b") is Fate.FAILED


def test_a_resumed_run_gives_the_steps_it_repeats_new_fates(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record(["a"], Fate.TRAINED, 0)
    ledger.record(["b"], Fate.TRAINED, 1)
    ledger.resume(1)
    ledger.record(["b"], Fate.DROPPED, 1)
    assert [Ledger(ledger.path).fate(name) for name in "ab"] == [Fate.TRAINED, Fate.DROPPED]


def test_a_corrupt_ledger_is_one_error_with_its_line(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"trajectory_id": "a", "fate": "eaten", "step": 0}\n')
    with pytest.raises(ValueError, match="line 1"):
        Ledger(path)
