from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from envs.actions import ACTIONS
from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from rl.__main__ import main
from rl.algorithms.sft import SFT
from rl.data.conversations import conversation_of, play
from rl.data.mask_errors import DEFAULT_KINDS, NO_FEEDBACK, kind_of_text, known_of, released_faults, structured_faults
from rl.data.released_errors import PATTERNS, released_pattern
from rl.sample import ScoredGroup
from rollout.demonstrations import read_demonstrations
from rollout.recorded import Row, recorded_of, turns_of

WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["city"],
    },
}
RIGHT = {"name": "get_weather", "arguments": {"city": "Oslo"}}


def call(name: str = "get_weather", arguments: Any = None, call_id: str = "a") -> dict[str, Any]:
    arguments = {"city": "Oslo"} if arguments is None else arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def conversation(*steps: Any, **more: Any) -> dict[str, Any]:
    """A record: a question; for each step a message with its call and the result; a last answer in words."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Weather in Oslo?"}]
    for made, answer in steps:
        messages.append({"role": "assistant", "content": "", "tool_calls": [made]})
        answer = answer if isinstance(answer, dict) else {"content": answer}
        messages.append({"role": "tool", "tool_call_id": made["id"], **answer})
    messages.append({"role": "assistant", "content": "Rain."})
    return {"messages": messages, "tools": [WEATHER], **more}


def kinds(record: dict[str, Any]) -> list[tuple[int, str, str]]:
    """(message, kind, evidence) of each fault that masks by default."""
    recorded = recorded_of(Row(number=1, where="here", value=record), unreadable_calls=True)
    _, turns = turns_of(recorded.messages, unreadable_calls=True)
    faults = structured_faults(recorded, turns, known_of(record))
    return [(fault.message, fault.kind, fault.evidence) for fault in faults if fault.kind in DEFAULT_KINDS]


def released(record: dict[str, Any]) -> list[tuple[int, str]]:
    _, turns = turns_of(record["messages"], unreadable_calls=True)
    return [(fault.message, fault.kind) for fault in released_faults(record["messages"], turns)]


@pytest.mark.parametrize(
    ("made", "answer", "expected"),
    [
        (call(), "rain", []),
        (call(), {"content": "rain", "status": "ok"}, []),
        (call(), {"content": "down", "status": "failed"}, [("failed", "status")]),
        (call(), {"content": "down", "status": "error"}, [("failed", "status")]),
        (call(), {"content": "", "status": "timed_out"}, [("timed_out", "status")]),
        (call(), {"content": "no", "status": "invalid_arguments"}, [("invalid_arguments", "status")]),
        (call(), {"content": "an error in words", "status": "ok"}, []),
        (call(), {"content": "Error: down", "status": "seen"}, [("failed", "text")]),
        (call("get_rain"), {"content": "no", "status": "unknown_tool"}, [("unknown_tool", "schema")]),
        (call(arguments={}), "Error: missing", [("missing_argument", "schema")]),
        (call(arguments={"city": 3}), "rain", [("bad_type", "schema")]),
        (call(arguments={"city": "Oslo", "unit": "K"}), "rain", [("bad_enum", "schema")]),
        (call(arguments={"city": "Oslo", "days": 3}), "rain", [("unknown_argument", "schema")]),
        (call(arguments='{"city": '), "Error", [("malformed", "schema")]),
        (call(), '{"error": "no such city"}', [("failed", "text")]),
        (call(), "Traceback (most recent call last): ...", [("failed", "text")]),
        (call(), {"content": "rain", "status": ["failed"]}, []),
    ],
)
def test_status_documents_and_words_say_what_is_erroneous(made, answer, expected):
    assert kinds(conversation((made, answer))) == [(1, *one) for one in expected]


def test_the_right_calls_tell_of_errors_that_no_tool_refused():
    other = call(arguments={"city": "Rome"})
    assert kinds(conversation((other, "sun"))) == []
    record = conversation((other, "sun"), (call(call_id="b"), "rain"), reference=[RIGHT])
    assert kinds(record) == [(1, "wrong_value", "reference")]


def test_an_end_that_rests_on_an_error_is_one():
    finish = call("finish", {"answer": "sun"}, "b")
    record = conversation((call(arguments={"city": "Rome"}), "sun"), (finish, "{}"), reference=[RIGHT])
    record["tools"] = [WEATHER, *(action.to_json() for action in ACTIONS)]
    assert kinds(record) == [(1, "wrong_value", "reference"), (3, "premature_finish", "reference")]
    assert kinds({**record, "reference": None}) == []


def test_a_turn_without_a_call_is_never_masked():
    record = conversation()
    record["messages"][-1]["content"] = "Error: I do not know. Which city?"
    assert kinds(record) == []


def test_tools_that_came_later_are_no_hallucination():
    change = call("change_tools", {"reason": "none"})
    record = conversation((change, {"content": "{}", "status": "ok"}), (call("get_rain", {}, "b"), "rain"))
    record["tools"] = [WEATHER, *(action.to_json() for action in ACTIONS)]
    assert kinds(record) == []
    record["messages"][2]["tools"] = [{"name": "get_rain", "parameters": WEATHER["parameters"]}]
    assert kinds(record) == [(3, "missing_argument", "schema")]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rain", None),
        ("There was no connection problem, and no errors.", None),
        ('{"errors": 0, "text": "connection error"}', None),
        ('{"status": "success", "error": null}', None),
        ("[1, 2]", None),
        ('{"success": false}', "failed"),
        ("{'error': 'ConnectionError'}", "failed"),
        ("name 'get_rain' is not defined", "unknown_tool"),
        ("f() missing 1 required positional argument: 'city'", "missing_argument"),
        ("f() got an unexpected keyword argument 'days'", "unknown_argument"),
        ("f() takes 1 positional argument but 2 were given", "invalid_arguments"),
        ('{"error": "the request timed out"}', "timed_out"),
        ("400 Client Error: Bad Request", "failed"),
        ("ValueError: no such city", "failed"),
        ("json.decoder.JSONDecodeError: line 1", "failed"),
        ("error: city not found", "failed"),
        ("ERROR: city not found", "failed"),
        ("Error", "failed"),
        ("Error fetching the forecast", "failed"),
        ("Error - no such city", "failed"),
        ("Error-free for 10 days", None),
        ("Error: none", None),
        ("ERROR: 0.\nrain", None),
        ("The error bar is 0.5", None),
        ("Error bars: 0.5", None),
        ("mean_error: 0.5", None),
        ("500 Internal Server Error", "failed"),
        ("404 Not Found", "failed"),
        ("HTTP/1.1 503 Service Unavailable", "failed"),
        ("The answer was: 500 Internal Server Error", "failed"),
        ("404 Main Street", None),
        ("500 Market Street, San Francisco", None),
        ("Currency XYZ not supported", "failed"),
        ("The claim was not supported by witnesses", None),
        ('{"error": "bad city', "failed"),
        ('{"error": "the request timed out, try', "timed_out"),
        ('{"error": null, "days": ["rain", "su', None),
        ('{"error": "", "days": ["rain", "su', None),
        ('{"error": "None"}', None),
        ('{"success": false, "error": "None"}', "failed"),
        ('{"code": 500, "message": "Internal error"}', "failed"),
        ('{"code": 500, "place": "Oslo"}', None),
        ('{"code": 200, "message": "OK"}', None),
        ('{"code": "450", "message": "Hello"}', None),
        ("No function is defined at x = 0, so the limit is none", None),
        ("There is no tool museum in Oslo", None),
        ("No tool named get_rain", "unknown_tool"),
        ("Error: no function get_rain", "unknown_tool"),
        ("Sorry, no such tool", "unknown_tool"),
        ("The coach called a timeout in Oslo", None),
        ("Timeout", "timed_out"),
        ("Error: timeout", "timed_out"),
        ("Request timeout after 30 s", "timed_out"),
        ("504 Gateway Timeout", "timed_out"),
    ],
)
def test_words_of_a_result_tell_failures_from_data(text, kind):
    assert kind_of_text(text) == kind


# TL-Training's own rule.


def test_the_released_rule_compares_letters_and_digits_alone():
    assert len(PATTERNS) == 14
    assert released_pattern("no terrors here") == '"error":'
    assert released_pattern("Not  Supported") == "not supported"
    assert released_pattern("name 'x' is not defined") == "is not defined"
    assert released_pattern("{'related_searches': []}") == "'related_searches'"
    assert released_pattern("all is well") is None


def test_the_released_rule_masks_what_no_tool_answers_but_the_last_message():
    record = conversation(
        (call(), "name 'x' is not defined"), (call(call_id="b"), "no error"), (call(call_id="c"), "ok")
    )
    record["messages"][-1:-1] = [{"role": "assistant", "content": "Which unit?"}, {"role": "user", "content": "C"}]
    assert released(record) == [(1, "is not defined"), (3, '"error":'), (7, NO_FEEDBACK)]


# The command.


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def demonstrations(num: int, *, reference: bool = True) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Conversations of the tool world, and the messages of each that its demonstrator knows to be errors."""
    records, erroneous = [], []
    for index, task in enumerate(ToolWorldTasks(split="train", seed=3, num=num)):
        record = conversation_of(asyncio.run(play(task, ToolWorldEnv, Demonstrator(task, seed=index), max_turns=8)))
        erroneous.append([n for n, message in enumerate(record["messages"]) if message.pop("weight", 1) == 0])
        if not reference:
            record = {name: record[name] for name in ("messages", "tools")}
        records.append(record)
    return records, erroneous


def test_with_the_right_calls_exactly_the_errors_of_the_demonstrator_are_masked(tmp_path):
    records, erroneous = demonstrations(150)
    path = write(tmp_path / "in.jsonl", records)
    assert main(["data", "mask-errors", str(path), "--out", str(tmp_path / "out.jsonl")]) == 0
    masked = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = [[n for n, message in enumerate(r["messages"]) if message.get("weight") == 0] for r in masked]
    assert found == erroneous
    assert any(erroneous)
    assert [record["source"]["row"] for record in masked] == list(range(1, 151))
    unmarked = [
        {**record, "messages": [{k: v for k, v in m.items() if k != "weight"} for m in record["messages"]]}
        for record in masked
    ]
    assert all(record.items() >= given.items() for record, given in zip(unmarked, records, strict=True))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_masked_turns_stay_in_the_context_and_out_of_the_loss(tmp_path, renderer, suffix):
    records, erroneous = demonstrations(60)
    path, out = write(tmp_path / "in.jsonl", records), tmp_path / f"out{suffix}"
    assert main(["data", "mask-errors", str(path), "--out", str(out)]) == 0
    masked = list(read_demonstrations(out, renderer))
    num_masked = 0
    for trajectory, record, wrong in zip(masked, records, erroneous, strict=True):
        places = [n for n, message in enumerate(record["messages"]) if message["role"] == "assistant"]
        samples = SFT().samples([ScoredGroup(trajectories=(trajectory,))])
        mask = samples[0].loss_mask if samples else trajectory.action_mask & False
        for turn, place in zip(trajectory.turns, places, strict=False):
            assert turn.start < turn.end
            assert mask[turn.start : turn.end].all() == (place not in wrong)
            assert mask[turn.start : turn.end].any() == (place not in wrong)
            num_masked += place in wrong
        assert not mask[~trajectory.action_mask].any()
    assert num_masked > 10


def test_other_fields_of_several_kinds_come_through_parquet_as_they_are(tmp_path):
    records = [conversation((call(), "rain"), id=one, meta={"from": [one]}) for one in (1, "a", "1")]
    given = write(tmp_path / "in.jsonl", records)
    for name in ("a.parquet", "b.parquet", "c.jsonl"):
        assert main(["data", "mask-errors", str(given), "--out", str(tmp_path / name)]) == 0
        given = tmp_path / name
    masked = [json.loads(line) for line in given.read_text().splitlines()]
    assert all(record.items() >= one.items() for record, one in zip(masked, records, strict=True))
    assert masked[0]["source"]["from"]["from"]["file"] == str(tmp_path / "in.jsonl")


def test_only_the_kinds_that_are_asked_for_mask(tmp_path, capsys):
    path = write(
        tmp_path / "in.jsonl", [conversation((call("get_rain"), "no"), (call(arguments={}, call_id="b"), "no"))]
    )
    command = ["data", "mask-errors", str(path), "--out", str(tmp_path / "out.jsonl"), "--kinds", "missing_argument"]
    assert main(command) == 0
    (record,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [error["kind"] for error in record["errors"]] == ["missing_argument"]
    assert "weight" not in record["messages"][1]
    assert record["messages"][3]["weight"] == 0
    assert "missing_argument" in DEFAULT_KINDS
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_text())
    assert summary["counts"]["errors"] == {"missing_argument": 1}
    assert summary["figures"]["masked share of turns"] == pytest.approx(1 / 3)
    assert "1 errors: missing_argument" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{oops", "in.jsonl, line 2: invalid JSON"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "in.jsonl, line 2: messages: expected an assistant"),
        (json.dumps(conversation(reference="x")), "in.jsonl, line 2: reference: invalid JSON"),
        (json.dumps(conversation(ordered=3)), "in.jsonl, line 2: ordered: expected true or false"),
        (
            json.dumps(
                {**conversation((call(), "x")), "tools": [{"name": "get_weather", "parameters": {"type": "x"}}]}
            ),
            "in.jsonl, line 2: tools: get_weather: not a JSON schema",
        ),
    ],
)
def test_a_bad_line_is_one_error_with_its_number(tmp_path, capsys, line, expected):
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps(conversation())}\n{line}\n")
    assert main(["data", "mask-errors", str(path), "--out", str(tmp_path / "out.jsonl")]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--kinds", "nonsense"], "'nonsense' is none; expected some of bad_enum"),
        (["--kinds", "failed", "--rule", "released"], "the released rule knows none"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, capsys, words, expected):
    path = write(tmp_path / "in.jsonl", [conversation()])
    assert main(["data", "mask-errors", str(path), "--out", str(tmp_path / "out.jsonl"), *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_folder_is_refused_before_it_is_read(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}")
    monkeypatch.setattr("rl.data.job._digest", None)
    assert main(["data", "mask-errors", str(folder), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert f"{folder}: is a folder; expected a file of conversations" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [folder]


# How files of conversations say it.


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "assistant", "weight": 0.5}, r"messages\[1\].weight: expected 0 \(context only\) or 1, got 0.5"),
        ({"role": "assistant", "weight": True}, r"messages\[1\].weight: expected 0"),
        ({"role": "user", "weight": 0}, r"messages\[1\].weight: only an assistant message has one"),
        ({"role": "assistant", "tool_calls": [call(arguments="{")]}, 'its message needs "weight": 0'),
        ({"role": "tool", "tools": 3}, r"messages\[3\].tools: expected a list"),
    ],
)
def test_a_marking_that_cannot_be_read_is_refused_with_its_place(tmp_path, renderer, message, expected):
    messages = [{"role": "user", "content": "Hi"}, message]
    if message["role"] == "tool":
        messages.insert(1, {"role": "assistant", "content": "x"})
        messages.insert(1, {"role": "user", "content": "x"})
    path = write(tmp_path / "in.jsonl", [{"messages": [*messages, {"role": "assistant", "content": "x"}]}])
    with pytest.raises(ValueError, match=f"in.jsonl, line 1: .*{expected}"):
        list(read_demonstrations(path, renderer))


def test_an_unreadable_call_can_be_context(tmp_path, renderer):
    record = conversation((call(arguments='{"city": '), "Error"))
    record["messages"][1]["weight"] = 0
    (trajectory,) = read_demonstrations(write(tmp_path / "in.jsonl", [record]), renderer)
    assert [turn.train for turn in trajectory.turns] == [False, True]
    assert '{"name": "get_weather", "arguments": {"city": }' in renderer.decode(trajectory.token_ids)
