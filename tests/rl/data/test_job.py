from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl.data.files import write_records
from rl.data.job import Done, Item, Job, run_job
from rl.errors import BadInput
from rollout.recorded import read_rows


def items(num: int, *, stop_at: int | None = None, failure: type[BaseException] = KeyboardInterrupt):
    """Work of `num` items: two records of each even one, none of each odd one."""

    def work(done: Done) -> Iterator[Item]:
        for index in range(done.num_items, num):
            if index == stop_at:
                raise failure("stopped")
            if index % 2:
                yield Item(counts={"dropped/odd": 1})
            else:
                records = tuple({"index": index, "part": part} for part in range(2))
                yield Item(records=records, origin={"index": index}, counts={"kept": 2})

    return work


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def summary(job: Job) -> dict[str, Any]:
    return json.loads(job.summary.read_text())


def make(job: Job, num: int = 9, **options) -> int:
    return run_job(job, items(num, **options), total=num)


def test_records_come_in_the_order_of_their_items_with_their_source(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl", seed=7)
    assert make(job) == 0
    records = read(job.out)
    assert [record["index"] for record in records] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    source = records[-1]["source"]
    assert (source["command"], source["index"], source["seed"]) == ("tether data test", 8, 7)
    assert source["tether"]
    found = summary(job)
    assert found["counts"] == {"kept": 10, "dropped": {"odd": 4}}
    assert (found["num_items"], found["num_records"]) == (9, 10)
    assert not job.partial.exists()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_a_stopped_call_that_is_repeated_gives_the_same_bytes(tmp_path, name):
    whole, stopped = Job(command="test", out=tmp_path / name), Job(command="test", out=tmp_path / f"again-{name}")
    make(whole)
    for stop in (0, 3, 4, 8):
        with pytest.raises(KeyboardInterrupt):
            make(stopped, stop_at=stop)
        assert not stopped.out.exists()
    make(stopped)
    assert stopped.out.read_bytes() == whole.out.read_bytes()
    assert summary(stopped)["counts"] == summary(whole)["counts"]


def test_half_a_line_of_a_killed_process_is_done_again(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        make(job, stop_at=5)
    data = job.partial.read_bytes()
    job.partial.write_bytes(data[:-3])
    make(job)
    assert [record["index"] for record in read(job.out)] == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


PROGRAM = """
import sys, time
from pathlib import Path
from rl.data.job import Item, Job, run_job

def work(done):
    for index in range(done.num_items, 400):
        time.sleep(0.01)
        yield Item(records=({"index": index},))

sys.exit(run_job(Job(command="test", out=Path(sys.argv[1])), work, total=400))
"""


def test_a_killed_process_loses_and_repeats_nothing(tmp_path):
    out = tmp_path / "out.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", PROGRAM, str(out)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    partial = Job(command="test", out=out).partial
    while not partial.exists() or partial.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "going on behind the first" in found.stdout
    assert [record["index"] for record in read(out)] == list(range(400))


def test_a_call_with_other_settings_does_not_go_on_with_what_another_did(tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make(Job(command="test", out=out, settings={"rule": "a", "num": 3}), stop_at=5)
    with pytest.raises(BadInput, match="with other rule; expected the same, or --overwrite"):
        make(Job(command="test", out=out, settings={"rule": "b", "num": 3}))
    with pytest.raises(BadInput, match="with other seed"):
        make(Job(command="test", out=out, settings={"rule": "a", "num": 3}, seed=1))
    make(Job(command="test", out=out, settings={"rule": "b", "num": 3}, overwrite=True))
    assert len(read(out)) == 10


def test_a_changed_input_is_not_gone_on_with(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("{}\n")
    job = Job(command="test", out=tmp_path / "out.jsonl", inputs=(path,))
    with pytest.raises(KeyboardInterrupt):
        make(job, stop_at=5)
    path.write_text("[]\n")
    with pytest.raises(BadInput, match="with other inputs"):
        make(job)


def test_a_finished_call_that_is_repeated_does_nothing_and_another_one_is_refused(tmp_path, capsys):
    job = Job(command="test", out=tmp_path / "out.jsonl")
    make(job)
    before = job.out.stat().st_mtime_ns
    capsys.readouterr()
    assert make(job, stop_at=0) == 0
    assert "is done: 10 records" in capsys.readouterr().out
    assert job.out.stat().st_mtime_ns == before
    with pytest.raises(BadInput, match="exists and is of another call"):
        make(Job(command="test", out=job.out, seed=1))


def test_the_output_that_is_there_stays_until_the_new_one_is_whole(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")
    make(job, 3)
    again = Job(command="test", out=job.out, seed=1, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        make(again, stop_at=5)
    assert len(read(job.out)) == 4
    make(Job(command="test", out=job.out, seed=1))
    assert len(read(job.out)) == 10


def test_an_earlier_source_is_kept_behind_the_new_one(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")

    def work(done: Done) -> Iterator[Item]:
        yield Item(records=({"source": {"command": "earlier"}},), origin={"row": 1})

    run_job(job, work, total=1)
    (record,) = read(job.out)
    assert record["source"]["row"] == 1
    assert record["source"]["from"] == {"command": "earlier"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("out.json", "expected a file ending in .jsonl"), ("none/out.jsonl", "no such folder")],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path, name, expected):
    with pytest.raises(BadInput, match=expected):
        make(Job(command="test", out=tmp_path / name), stop_at=0, failure=AssertionError)


def test_two_calls_do_not_write_one_file(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")

    def work(done: Done) -> Iterator[Item]:
        yield Item(records=({"index": 0},))
        with pytest.raises(BadInput, match="another call is writing it"):
            make(job)

    run_job(job, work, total=1)
    assert len(read(job.out)) == 1


def test_a_call_that_begins_anew_leaves_the_file_of_a_running_one_alone(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")

    def work(done: Done) -> Iterator[Item]:
        yield Item(records=({"index": 0},))
        with pytest.raises(BadInput, match="another call is writing it"):
            make(Job(command="test", out=job.out, seed=1, overwrite=True))
        yield Item(records=({"index": 1},))

    run_job(job, work, total=2)
    assert [(record["index"], record["source"]["seed"]) for record in read(job.out)] == [(0, 0), (1, 0)]


def test_a_call_that_begins_anew_keeps_nothing_of_one_that_was_stopped(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl", overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        make(job, 99, stop_at=50)
    make(job, 3)
    assert [record["index"] for record in read(job.out)] == [0, 0, 2, 2]
    make(job, 5)
    assert [record["index"] for record in read(job.out)] == [0, 0, 2, 2, 4, 4]


def test_an_output_that_cannot_be_opened_is_bad_input(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")
    job.partial.mkdir()
    with pytest.raises(BadInput, match=r"out\.jsonl: cannot be written: Is a directory"):
        make(job)


def test_a_file_that_is_no_partial_one_is_refused(tmp_path):
    job = Job(command="test", out=tmp_path / "out.jsonl")
    job.partial.write_text("my own notes\n")
    with pytest.raises(BadInput, match="is no file of a call that was stopped"):
        make(job)
    assert job.partial.read_text() == "my own notes\n"


def test_parquet_holds_json_where_values_are_lists_objects_or_of_several_kinds(tmp_path):
    import pyarrow.parquet as pq

    records = [
        {"name": "a", "num": 1, "share": 1, "tools": [], "mixed": 1, "flag": True, "huge": 2**70},
        {"name": None, "num": 2, "share": 0.5, "tools": [{"name": "t"}], "mixed": "x", "late": "z"},
    ]
    assert write_records(tmp_path / "x.parquet", lambda: iter(records)) == 2
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert rows[0] == {
        "name": "a",
        "num": 1,
        "share": 1.0,
        "tools": "[]",
        "mixed": "1",
        "flag": True,
        "huge": str(2**70),
        "late": None,
    }
    assert (rows[1]["name"], rows[1]["mixed"], rows[1]["share"], rows[1]["late"]) == (None, '"x"', 0.5, "z")
    assert json.loads(rows[1]["tools"]) == [{"name": "t"}]


def test_parquet_gives_back_the_values_that_are_json_in_it(tmp_path):
    records = [
        {
            "id": 1,
            "meta": {"a": None, "b": [1]},
            "score": 1,
            "count": 2**53 + 1,
            "tools": [{"name": "t"}],
            "text": "[]",
        },
        {"id": "a", "meta": {}, "score": 2.5, "count": 1, "tools": [], "text": "1"},
        {"id": "1", "meta": {}, "score": 2**53 + 1, "count": 2, "tools": [], "text": "null"},
    ]
    write_records(tmp_path / "x.parquet", lambda: iter(records))
    assert [row.value for row in read_rows(tmp_path / "x.parquet")] == records


def test_a_text_that_should_be_json_and_is_not_is_named_with_its_row_and_column(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field("meta", pa.string(), metadata={"json": "1"})])
    pq.write_table(pa.Table.from_pylist([{"meta": "{}"}, {"meta": "{"}], schema=schema), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet, row 2: meta: invalid JSON"):
        list(read_rows(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2.5, 2**53], "double"),
        ([1, 2.5, 2**53 + 1], "string"),
        ([2.5, -(2**53) - 1], "string"),
        ([1, 2**53 + 1, None], "int64"),
        ([2**53 + 1], "int64"),
    ],
)
def test_whole_numbers_that_are_no_floats_are_json_beside_floats(tmp_path, values, kind):
    import pyarrow.parquet as pq

    write_records(tmp_path / "x.parquet", lambda: iter([{"score": value} for value in values]))
    assert str(pq.read_schema(tmp_path / "x.parquet").field("score").type) == kind
    assert [row.value.get("score") for row in read_rows(tmp_path / "x.parquet")] == values


def test_text_that_has_no_utf_8_is_still_written(tmp_path):
    write_records(tmp_path / "x.jsonl", lambda: iter([{"text": "\ud800"}, {"text": "\u96ea"}]))
    assert [record["text"] for record in read(tmp_path / "x.jsonl")] == ["\ud800", "\u96ea"]
    assert "\u96ea".encode() in (tmp_path / "x.jsonl").read_bytes()
