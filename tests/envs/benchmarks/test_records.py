import gzip
import json

import pytest

from envs.benchmarks import BENCHMARKS, benchmark
from envs.benchmarks.records import field, find_file, read_records


def test_lines_arrays_and_compressed_files_give_the_same_records(tmp_path):
    records = [{"id": "a"}, {"id": "b \u2028 c"}]
    (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n")
    (tmp_path / "array.json").write_text(json.dumps(records))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(b"\n".join(json.dumps(r).encode() for r in records)))
    for stem in ("lines", "array", "packed"):
        assert [record for _, record in read_records(find_file(tmp_path, stem))] == records


def test_a_broken_line_is_named_with_its_file_and_number(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": 1}\n\n{"id": \n')
    with pytest.raises(ValueError, match=r"x\.jsonl:3: not JSON"):
        list(read_records(path))
    path.write_text('{"id": 1}\n7\n')
    with pytest.raises(ValueError, match=r"x\.jsonl:2: got int, expected a JSON object"):
        list(read_records(path))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_what_python_cannot_read_is_named_with_its_file_and_number(tmp_path, value):
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"id": 1}}\n{{"id": {value}}}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl:2: not JSON"):
        list(read_records(path))


def test_a_missing_file_and_a_missing_field_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=r"nothing: no such file; expected it with one of \.jsonl\.gz"):
        find_file(tmp_path, "nothing")
    with pytest.raises(ValueError, match="f:1: id is NoneType, expected str"):
        field("f:1", {}, "id", str)


def test_readers_are_found_by_their_names():
    assert benchmark("bfcl").name == "bfcl"
    with pytest.raises(ValueError, match="benchmark 'nope': expected one of bfcl"):
        benchmark("nope")
    assert all(path == f"envs.benchmarks.{name}:BENCHMARK" for name, path in BENCHMARKS.items())
