from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.tasks import write_tasks
from envs.types import Message, Task, ToolCall, ToolSpec
from rl.__main__ import main
from rl.data.overlap import TextIndex, plain_name, plain_signature


def tool(name: str = "get_weather", **properties: str) -> ToolSpec:
    schemas = {name: {"type": kind} for name, kind in (properties or {"city": "string"}).items()}
    return ToolSpec(name=name, parameters={"type": "object", "properties": schemas, "required": list(schemas)})


def task(task_id: str, request: str, *tools: ToolSpec) -> Task:
    tools = tools or (tool(),)
    call = ToolCall(name=tools[0].name, arguments={})
    return Task(task_id=task_id, prompt=(Message(role="user", content=request),), tools=tools, reference=(call,))


LONG = "Tell me what the weather is going to be in Oslo on the third of March"
PART = f"Good morning to you all. {LONG}, and then book a hotel there."


def test_a_text_is_found_whatever_its_case_and_punctuation():
    index = TextIndex()
    index.add("a", "Weather, in OSLO?")
    found = index.nearest("weather in Oslo")
    assert found is not None
    assert (found.name, found.exact, found.containment, found.similarity) == ("a", True, 1.0, 1.0)


def test_containment_is_the_share_of_the_text_and_similarity_counts_both():
    index = TextIndex(ngram=3)
    index.add("short", "one two three four")
    index.add("long", "zero one two three four five six seven")
    found = index.nearest("one two three four five")
    assert found is not None
    assert (found.name, found.containment) == ("long", 1.0)
    assert found.similarity == pytest.approx(3 / 6)
    half = index.nearest("two three four nine ten")
    assert half is not None
    assert half.containment == pytest.approx(1 / 3)


def test_the_most_similar_text_need_not_be_the_one_that_holds_most():
    text = "one two three four five six"
    index = TextIndex(ngram=3)
    index.add("long", f"{text} seven eight nine ten eleven twelve thirteen fourteen")
    index.add("like", "one two three four five")
    index.add("same size", "zero two three four five six")
    nearest, similar = index.nearest(text), index.most_similar(text)
    assert nearest is not None
    assert similar is not None
    assert (nearest.name, nearest.containment) == ("long", 1.0)
    assert (similar.name, similar.similarity) == ("like", 3 / 4)


def test_of_equally_near_texts_the_first_is_given():
    index = TextIndex(ngram=2)
    index.add("a", "x y z")
    index.add("b", "x y w")
    found = index.nearest("x y")
    assert found is not None
    assert found.name == "a"


def test_short_texts_are_near_to_their_like_alone():
    index = TextIndex()
    index.add("a", "Oslo please")
    assert index.nearest("Oslo") is None
    assert index.nearest("") is None
    assert index.nearest("oslo, please") is not None


def test_scripts_without_spaces_are_compared_by_letters():
    index = TextIndex(ngram=3)
    index.add("a", "\u5965\u65af\u9646\u7684\u5929\u6c14\u600e\u4e48\u6837")
    found = index.nearest("\u5965\u65af\u9646\u7684\u5929\u6c14")
    assert found is not None
    assert found.containment == 1.0


def test_tools_are_alike_in_any_spelling_and_order():
    assert plain_name("getWeather") == plain_name("get_weather") == plain_name("get.weather")
    assert plain_signature(tool(a="string", b="integer")) == plain_signature(
        tool("getWeather", b="integer", a="string")
    )
    assert plain_signature(tool(a="string")) != plain_signature(tool(a="integer"))


def run(
    tmp_path: Path, mine: list[Task], theirs: list[Task], *words: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    write_tasks(tmp_path / "mine.jsonl", mine)
    write_tasks(tmp_path / "theirs.jsonl", theirs)
    out = tmp_path / "out.jsonl"
    command = ["data", "contamination", str(tmp_path / "mine.jsonl"), "--against", str(tmp_path / "theirs.jsonl")]
    assert main([*command, "--out", str(out), *words]) == 0
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_text())
    return [json.loads(line) for line in out.read_text().splitlines()], summary["counts"]


def test_every_task_is_reported_with_what_is_nearest_to_it(tmp_path, capsys):
    mine = [task("a", LONG.upper()), task("b", PART), task("c", "Sell my shares of the company now", tool("sell"))]
    records, counts = run(tmp_path, mine, [task("x", LONG)])
    found = [record["overlaps"]["theirs.jsonl"] for record in records]
    assert [(one["exact"], one["nearest"]) for one in found] == [(True, "x"), (False, "x"), (False, None)]
    assert 0.4 < found[1]["containment"] < 0.7
    assert [one["tools"] for one in found] == [["get_weather"], ["get_weather"], []]
    assert counts == {
        "tasks": 3,
        "theirs.jsonl": {
            "requests alike": 1,
            "requests overlapping": 2,
            "tasks that offer one of its tools": 2,
            "tasks whose right calls use one of its tools": 2,
            "tools of the same name": 1,
            "tools of the same signature": 1,
        },
        "tools": 2,
        "signatures": 2,
    }
    table = capsys.readouterr().out
    assert "requests alike" in table
    assert "1 (33.3%)" in table


def test_the_threshold_says_what_overlaps(tmp_path):
    _, counts = run(tmp_path, [task("b", PART)], [task("x", LONG)], "--threshold", "0.9")
    assert counts["theirs.jsonl"]["requests overlapping"] == 0


def test_tools_of_one_name_and_other_parameters_differ_in_signature(tmp_path):
    records, counts = run(tmp_path, [task("a", LONG)], [replace(task("x", PART), tools=(tool(place="string"),))])
    assert records[0]["overlaps"]["theirs.jsonl"]["signatures"] == []
    assert counts["theirs.jsonl"]["tools of the same name"] == 1
    assert counts["theirs.jsonl"]["tools of the same signature"] == 0


def test_conversations_and_sets_of_the_tool_world_can_be_compared(tmp_path):
    record = {"messages": [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Rain."}], "tools": []}
    (tmp_path / "talks.jsonl").write_text(json.dumps(record) + "\n")
    out = tmp_path / "out.jsonl"
    command = ["data", "contamination", "heldout", "--num", "30", "--against", str(tmp_path / "talks.jsonl")]
    assert main([*command, "--against", "train", "--out", str(out)]) == 0
    first = json.loads(out.read_text().splitlines()[0])
    assert set(first["overlaps"]) == {"talks.jsonl", "train"}
    counts = json.loads((tmp_path / "out.jsonl.summary.json").read_text())["counts"]
    assert counts["train"]["tools of the same name"] == 0


@pytest.mark.parametrize(
    "parameters",
    [{"properties": ["city"]}, {"properties": {"city": "string"}}, {"properties": {"city": {}}, "required": 1}],
)
def test_a_tool_of_a_conversation_whose_parameters_cannot_be_read_is_named_with_its_line(tmp_path, capsys, parameters):
    messages = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Rain."}]
    records = [{"messages": messages, "tools": [{"name": "f", "parameters": one}]} for one in ({}, parameters)]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    out = tmp_path / "out.jsonl"
    assert main(["data", "contamination", str(path), "--against", "heldout", "--num", "5", "--out", str(out)]) == 2
    assert "talks.jsonl, line 2: tools: f: expected a JSON schema as parameters, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--against", "nowhere"], "nowhere: no such data set"),
        (["--against", "heldout", "--ngram", "0"], "expected at least 1"),
        (["--against", "heldout", "--threshold", "2"], "above 0 up to 1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, expected):
    assert main(["data", "contamination", "train", "--num", "5", *words, "--out", str(tmp_path / "out.jsonl")]) == 2
    assert expected in capsys.readouterr().err
