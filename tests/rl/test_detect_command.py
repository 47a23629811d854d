from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl.__main__ import main

RECORDS: list[dict[str, Any]] = [
    {"id": 1, "response": "First, 3 + 4 = 8. It is warm."},
    {"id": "two", "question": "Write exactly 5 words.", "response": "one two three four five"},
    {"id": 3, "question": None, "response": "2024年3月1日是星期五。"},
    {"id": 4, "response": "It is warm.", "other": "left alone"},
]


def write(path: Path, records: list[Any]) -> Path:
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def detect(path: Path, out: Path, *options: str) -> int:
    return main(["detect", str(path), "--out", str(out), *options])


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_every_response_gets_a_verdict_and_its_sentences_labels_with_evidence(tmp_path, name, capsys):
    out = tmp_path / "out.jsonl"
    assert detect(write(tmp_path / name, RECORDS), out) == 0
    found = read(out)
    assert [line["id"] for line in found] == [1, "two", 3, 4]
    assert [line["hallucinated"] for line in found] == [True, False, False, None]
    assert all("failed" not in line for line in found)
    first, second = found[0]["sentences"]
    assert first == {
        "span": [0, 17],
        "text": "First, 3 + 4 = 8.",
        "label": 1,
        "evidence": "3 + 4 = 7",
        "tool": "calculator",
    }
    assert second["label"] is None and RECORDS[0]["response"][slice(*second["span"])] == second["text"]
    assert "4 responses: 1 with a hallucination, 2 without, 1 undecided, 0 failed" in capsys.readouterr().out


def test_plain_text_and_parquet_work_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = tmp_path / "answer.txt"
    text.write_text("3 + 4 = 8.")
    assert detect(text, tmp_path / "text.jsonl") == 0
    assert [(line["id"], line["hallucinated"]) for line in read(tmp_path / "text.jsonl")] == [("answer", True)]
    pq.write_table(pa.Table.from_pylist([{"id": "a", "response": "3 + 4 = 7."}]), tmp_path / "in.parquet")
    assert detect(tmp_path / "in.parquet", tmp_path / "rows.jsonl") == 0
    assert read(tmp_path / "rows.jsonl")[0]["hallucinated"] is False


def test_several_processes_give_the_same_lines_in_the_same_order(tmp_path):
    path = write(tmp_path / "in.jsonl", [{**RECORDS[number % 4], "id": number} for number in range(24)])
    assert detect(path, tmp_path / "one.jsonl") == 0
    assert detect(path, tmp_path / "two.jsonl", "--jobs", "2") == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, capsys):
    path, out = write(tmp_path / "in.jsonl", RECORDS), tmp_path / "out.jsonl"
    assert detect(path, out) == 0
    whole = out.read_bytes()
    # Killed in the middle of the third line.
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert detect(path, out) == 0
    assert out.read_bytes() == whole
    assert "2 responses were checked before" in capsys.readouterr().out
    assert detect(path, out, "--restart") == 0 and out.read_bytes() == whole


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ([1], "expected {"),
        ({"response": "x"}, "id: got null"),
        ({"id": 1}, "response: got null"),
        ({"id": True, "response": "x"}, "id: got true"),
        ({"id": 1, "response": "x", "question": 3}, "question: got 3"),
    ],
)
def test_a_bad_line_ends_the_command_and_what_was_done_stays(tmp_path, capsys, record, fault):
    path, out = write(tmp_path / "in.jsonl", [RECORDS[0], record, RECORDS[1]]), tmp_path / "out.jsonl"
    assert detect(path, out) == 2
    error = capsys.readouterr().err
    assert f"{path}:2: " in error and fault in error and "the 1 responses checked before are in" in error
    assert [line["id"] for line in read(out)] == [1]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--jobs", "0"], "expected at least 1"),
        (["--model", "somewhere"], "somewhere: no such folder"),
        (["--model", "http://localhost:1/v1"], "--endpoint-model NAME belongs to --model URL"),
        (["--endpoint-model", "x"], "--endpoint-model NAME belongs to --model URL"),
        (["--corpus", "no.jsonl"], "no.jsonl: cannot be read"),
        (["--tool", "json:nothing"], "json has no callable 'nothing'"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path, capsys, options, fault):
    path = write(tmp_path / "in.jsonl", RECORDS)
    assert detect(path, tmp_path / "out.jsonl", *options) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "out"), [("none.jsonl", "out.jsonl"), ("in.csv", "out.jsonl"), ("in.jsonl", "out.csv")]
)
def test_files_of_another_kind_are_refused(tmp_path, capsys, name, out):
    write(tmp_path / "in.jsonl", RECORDS)
    (tmp_path / "in.csv").write_text("a")
    assert detect(tmp_path / name, tmp_path / out) == 2
    assert "expected" in (error := capsys.readouterr().err) or "no such file" in error


def test_results_of_other_responses_are_not_continued(tmp_path, capsys):
    path, out = write(tmp_path / "in.jsonl", RECORDS), tmp_path / "out.jsonl"
    assert detect(path, out) == 0
    assert detect(write(tmp_path / "other.jsonl", RECORDS[1:]), out) == 2
    assert "holds the result of 1, which is not response number 1" in capsys.readouterr().err
    out.write_text('{"a": 1}\n')
    assert detect(path, out) == 2
    assert "no result of tether detect" in capsys.readouterr().err


def test_a_response_that_cannot_be_checked_says_why(tmp_path):
    path = write(tmp_path / "in.jsonl", [{"id": 1, "response": "x" * 200_001}, RECORDS[0]])
    assert detect(path, tmp_path / "out.jsonl") == 0
    failed, checked = read(tmp_path / "out.jsonl")
    assert failed["hallucinated"] is None and failed["failed"].startswith("a response of 200001 characters")
    assert checked["hallucinated"] is True


def test_rules_need_neither_torch_nor_ray(tmp_path):
    path = write(tmp_path / "in.jsonl", RECORDS)
    program = (
        "import sys; from rl.__main__ import main; "
        f"assert main(['detect', {str(path)!r}, '--out', {str(tmp_path / 'out.jsonl')!r}]) == 0; "
        "assert not {'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def endpoint(json_server: Callable[..., Any]) -> Callable[..., Any]:
    """Starts an endpoint that gives prepared messages, or statuses, one after the other."""

    def start(*messages: dict[str, Any] | int) -> Any:
        left = list(messages)

        def reply(_: object) -> tuple[int, Any]:
            message = left.pop(0) if left else 400
            return (message, {"error": "no"}) if isinstance(message, int) else (200, server.completion(message))

        server = json_server(reply)
        return server

    return start


def call(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": name, "type": "function", "function": function}]}


def text(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def ask(tmp_path: Path, server: Any, records: list[dict[str, Any]], *options: str) -> int:
    path = write(tmp_path / "in.jsonl", records)
    common = ["--model", server.url, "--endpoint-model", "m", "--retries", "0", "--concurrency", "1"]
    return detect(path, tmp_path / "out.jsonl", *common, *options)


def test_a_model_behind_an_endpoint_uses_the_same_tools(tmp_path, endpoint):
    pytest.importorskip("openai")
    server = endpoint(
        call("split_text"),
        call("calculator", sentence=1, formula="3 + 4 = 8"),
        call("set_label", sentence=2, label=0, evidence="harmless"),
        call("get_answer"),
    )
    assert ask(tmp_path, server, RECORDS[:1]) == 0
    (line,) = read(tmp_path / "out.jsonl")
    assert line["hallucinated"] is True and [row["label"] for row in line["sentences"]] == [1, 0]
    assert {tool["function"]["name"] for tool in server.requests[0]["tools"]} >= {"split_text", "calculator"}


def test_a_model_without_tool_calls_writes_thoughts_and_actions(tmp_path, endpoint):
    pytest.importorskip("openai")
    server = endpoint(
        text("THOUGHT: split\nACTION: split_text()"),
        text("THOUGHT: a sum\nACTION: calculator(sentence=1, formula='3 + 4 = 8')"),
        text("THOUGHT: done\nACTION: get_answer()"),
    )
    assert ask(tmp_path, server, RECORDS[:1], "--protocol", "react") == 0
    assert read(tmp_path / "out.jsonl")[0]["hallucinated"] is True
    assert "tools" not in server.requests[0]


def test_a_model_that_gives_no_verdict_has_failed(tmp_path, endpoint):
    pytest.importorskip("openai")
    assert ask(tmp_path, endpoint(text("I think it is fine."), 400, call("finish", answer="no")), RECORDS[:3]) == 0
    first, second, third = read(tmp_path / "out.jsonl")
    assert first["hallucinated"] is None and first["failed"] == "the policy ended without a verdict"
    assert second["hallucinated"] is None and second["failed"].startswith("the endpoint failed: ")
    assert third["hallucinated"] is False


def test_a_run_stops_for_an_endpoint_that_is_down_and_goes_on_later(tmp_path, endpoint, capsys):
    pytest.importorskip("openai")
    records = [{**RECORDS[0], "id": number} for number in range(7)]
    assert ask(tmp_path, endpoint(call("finish", answer="yes")), records) == 1
    assert "5 responses one after the other" in capsys.readouterr().err
    assert [line["id"] for line in read(tmp_path / "out.jsonl")] == [0]
    assert ask(tmp_path, endpoint(*[call("finish", answer="no")] * 6), records) == 0
    assert [line["hallucinated"] for line in read(tmp_path / "out.jsonl")] == [True] + [False] * 6
