from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rewards.schemes import SCHEMES
from rl import score_files
from rl.__main__ import main

BOOK = {
    "name": "book",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def record(number: int, city: str = "Oslo") -> dict[str, Any]:
    right = {"name": "book", "arguments": {"city": "Oslo"}}
    return {
        "id": number,
        "tools": [BOOK],
        "query": "Book Oslo",
        "calls": [{"name": "book", "arguments": {"city": city}}],
        "reference": [right],
    }


def lines(num: int) -> list[str]:
    return [json.dumps(record(number, "Oslo" if number % 3 else "Rome")) for number in range(num)]


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(score_files, "CHUNK_ROWS", 4)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_every_line_is_scored_in_its_place(tmp_path, small_chunks, name, capsys):
    path = write(tmp_path / name, "\n".join(lines(50)) + "\n")
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl")]) == 0
    found = read(tmp_path / "out.jsonl")
    assert [line["id"] for line in found] == list(range(50))
    assert [line["score"] for line in found] == [1.0 if number % 3 else -0.25 for number in range(50)]
    assert "50 lines, mean tl_monotone 0.5750" in capsys.readouterr().out


def test_parquet_gives_the_same_as_lines(tmp_path, small_chunks):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in lines(10)]
    columns = [
        {name: json.dumps(value) if name in ("tools", "calls", "reference") else value for name, value in row.items()}
        | {"text": None, "history": None}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(columns), tmp_path / "in.parquet")
    write(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows)))
    for name in ("in.parquet", "in.jsonl"):
        assert main(["score", str(tmp_path / name), "--out", str(tmp_path / f"{name}.jsonl")]) == 0
    assert (tmp_path / "in.parquet.jsonl").read_bytes() == (tmp_path / "in.jsonl.jsonl").read_bytes()


def test_columns_of_structs_are_refused(tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([record(0)]), tmp_path / "in.parquet")
    assert main(["score", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "in.parquet:1: column tools: expected JSON as a string, got list" in capsys.readouterr().err


def test_the_output_may_be_compressed(tmp_path):
    path = write(tmp_path / "in.jsonl", lines(1)[0])
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl.gz"), "--scheme", "esm"]) == 0
    assert read(tmp_path / "out.jsonl.gz")[0]["score"] == pytest.approx(9 / 11)


def test_several_processes_give_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "CHUNK_BYTES", 2000)
    path = write(tmp_path / "in.jsonl", "\n".join([*lines(30), "no JSON", *lines(5)]))
    for jobs in ("1", "2"):
        words = ["score", str(path), "--out", str(tmp_path / f"{jobs}.jsonl"), "--skip-bad", "--jobs", jobs]
        assert main(words) == 0
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    assert len(read(tmp_path / "1.jsonl")) == 35


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_bad_line_ends_with_its_number_and_what_was_scored_stays(tmp_path, small_chunks, capsys, jobs):
    path = write(tmp_path / "in.jsonl", "\n".join([*lines(10), "", '{"id": 1, "tools"', *lines(10)]))
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl"), "--jobs", jobs]) == 2
    error = capsys.readouterr().err
    assert f"{path}:12: not JSON: Expecting ':' delimiter at character 1" in error
    assert f"the 10 lines scored before are in {tmp_path / 'out.jsonl'}" in error
    assert [line["id"] for line in read(tmp_path / "out.jsonl")] == list(range(10))


def test_bad_lines_are_told_of_and_skipped_where_that_was_asked_for(tmp_path, capsys):
    bad = ["[]", "\ufeff{}", '{"id": NaN}', '{"id": 1e999}', '{"id": ' + "9" * 5000 + "}", "[" * 100_000]
    path = write(tmp_path / "in.jsonl", "\n".join([lines(1)[0], *bad, lines(2)[1]]))
    with path.open("ab") as file:
        file.write(b"\n\xff\xfe\n")
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl"), "--skip-bad"]) == 0
    said = capsys.readouterr()
    told = [line for line in said.err.splitlines() if line.startswith("skipped ")]
    numbers = [int(line.split(":")[1]) for line in told]
    assert numbers == [2, 3, 4, 5, 6, 7, 9]
    assert "not UTF-8" in told[-1] and "NaN" in told[2] and "out of range" in told[3] and "nested" in told[5]
    assert "2 lines, 7 bad lines skipped" in said.out
    assert [line["id"] for line in read(tmp_path / "out.jsonl")] == [0, 1]


def test_a_mark_of_byte_order_and_windows_line_ends_are_no_fault(tmp_path):
    path = write(tmp_path / "in.jsonl", "\ufeff" + "\r\n".join(lines(3)) + "\r\n\r\n")
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert len(read(tmp_path / "out.jsonl")) == 3


def test_a_line_that_is_too_long_is_skipped_as_a_whole(tmp_path, small_chunks, monkeypatch, capsys):
    monkeypatch.setattr(score_files, "MAX_LINE_BYTES", 5000)
    path = write(tmp_path / "in.jsonl", "\n".join([lines(1)[0], "x" * 20_000, lines(2)[1]]))
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl"), "--skip-bad"]) == 0
    assert [line["id"] for line in read(tmp_path / "out.jsonl")] == [0, 1]
    assert f"{path}:2: longer than" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_file_that_breaks_off_ends_with_what_was_scored(tmp_path, small_chunks, capsys, jobs):
    import random

    cities = random.Random(0)
    text = "\n".join(json.dumps(record(n, str(cities.random()))) for n in range(200))
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode())[:-2000])
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl"), "--skip-bad", "--jobs", jobs]) == 2
    found = read(tmp_path / "out.jsonl")
    with gzip.open(path) as file, pytest.raises(EOFError):
        num_readable = 0
        for _ in file:
            num_readable += 1
    assert 0 < len(found) == num_readable < 200
    assert f"the {len(found)} lines scored before" in capsys.readouterr().err
    (tmp_path / "no.jsonl.gz").write_text("no gzip")
    assert main(["score", str(tmp_path / "no.jsonl.gz"), "--out", str(tmp_path / "out.jsonl")]) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no.jsonl", "--out", "out.jsonl"], "no.jsonl: no such file"),
        (["in.csv", "--out", "out.jsonl"], "in.csv: expected a file ending in .jsonl, .jsonl.gz or .parquet"),
        (["in.jsonl", "--out", "out.csv"], "--out out.csv: expected a file ending in"),
        (["in.jsonl", "--out", "nowhere/out.jsonl"], "no such folder"),
        (["in.jsonl", "--out", "in.jsonl"], "is the file to be scored"),
        (["in.jsonl", "--out", "out.jsonl", "--jobs", "0"], "--jobs 0: expected at least 1"),
        (["in.parquet", "--out", "out.jsonl"], "cannot be read as Parquet"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, monkeypatch, capsys, words, expected):
    for name in ("in.jsonl", "in.csv", "in.parquet"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert main(["score", *words]) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.strip().splitlines()) == 1
    assert "scored before" not in error
    assert (tmp_path / "in.jsonl").read_text() == "{}"


def test_neither_torch_nor_ray_is_imported(tmp_path):
    write(tmp_path / "in.jsonl", "\n".join(lines(3)))
    program = (
        "import sys\n"
        "from rl.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'ray', 'vllm', 'deepspeed', 'transformers'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    for scheme in SCHEMES:
        words = [sys.executable, "-c", program, "score", "in.jsonl", "--out", "out.jsonl", "--scheme", scheme]
        found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120)
        assert found.returncode == 0, found.stderr
        assert found.stdout.count("\n") <= 3 and "3 lines" in found.stdout


def test_a_file_of_any_length_takes_the_memory_of_a_few_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "CHUNK_BYTES", 10_000)
    path = write(tmp_path / "in.jsonl", "\n".join(lines(2000)))
    pieces = score_files.chunks(path)
    taken = []

    def watched():
        for piece in pieces:
            taken.append(piece.start)
            yield piece

    scored = score_files.scored_chunks(watched(), "esm", skip_bad=False, num_jobs=2)
    next(scored)
    assert len(taken) <= 2 * 2 + 1
    scored.close()


TRICKY = {
    "plain": '{"id": 1, "tools": [{"name": "f"}], "x": 1}',
    "the same tools in another line": '{"id": 2, "tools": [{"name": "f"}], "query": "y"}',
    "without spaces": '{"id":1,"tools":[{"name":"f"}]}',
    "tools that begin alike": '{"tools": [{"name": "f"}, {"name": "g"}]}',
    "an inner field of the name": '{"x": {"tools": [{"name": "f"}]}, "tools": [{"name": "g"}]}',
    "an inner field alone": '{"x": {"tools": [{"name": "f"}]}}',
    "a text that quotes it": '{"query": "\\"tools\\": [{\\"name\\": \\"f\\"}]", "tools": []}',
    "twice": '{"tools": [{"name": "f"}], "tools": [{"name": "h"}]}',
    "no list": '{"tools": {"name": "f"}}',
    "no object": '[{"tools": [{"name": "f"}]}]',
    "empty": '{"tools": []}',
}


def test_tools_that_are_known_by_their_text_are_what_the_line_says():
    reader = score_files.RecordReader()
    for _ in range(2):
        for name, line in TRICKY.items():
            assert reader.read(line.encode()) == json.loads(line), name


@pytest.mark.parametrize("line", ['{"tools": [{"name": "f"}], }', '{"tools": [{"name": "f"', '{"tools": [1] x'])
def test_what_is_wrong_with_a_line_is_told_of_the_whole_line(line):
    reader = score_files.RecordReader()
    reader.read(b'{"tools": [{"name": "f"}]}')
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(line)
    with pytest.raises(ValueError, match=f"at character {caught.value.pos + 1}$"):
        reader.read(line.encode())


def test_tools_are_forgotten_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(score_files, "_MAX_CHARACTERS", 1000)
    reader = score_files.RecordReader()
    for number in range(300):
        line = json.dumps({"id": number, "tools": [{"name": f"tool {number}"}]})
        assert reader.read(line.encode())["tools"] == [{"name": f"tool {number}"}]
        assert sum(len(text) for known in reader._lists.values() for text, _ in known) <= 1100
    for number in range(20):
        reader.read(json.dumps({"tools": [{"name": "x" * 200, "number": number}]}).encode())
        assert all(len(known) <= score_files._NUM_ALIKE for known in reader._lists.values())


def test_a_schema_is_proven_for_each_tool_that_is_called_though_the_tools_are_known(tmp_path, capsys):
    broken = {"name": "broken", "parameters": {"type": "object", "properties": {"a": {"type": "text"}}}}
    rows = [record(0) | {"tools": [BOOK, broken]}, record(1) | {"tools": [BOOK, broken]}]
    rows[1]["calls"] = [{"name": "broken", "arguments": {}}]
    path = write(tmp_path / "in.jsonl", "\n".join(map(json.dumps, [*rows, rows[1]])))
    assert main(["score", str(path), "--out", str(tmp_path / "out.jsonl"), "--skip-bad"]) == 0
    assert [line["id"] for line in read(tmp_path / "out.jsonl")] == [0]
    assert capsys.readouterr().err.count("tools: broken: not a JSON schema") == 2
