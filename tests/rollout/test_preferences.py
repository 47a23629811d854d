"""Files of preferences -> pairs of trajectories."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rollout.preferences import read_pairs, read_preferences
from rollout.renderer import ChatTemplateRenderer

TOOLS = [
    {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}},
    }
]


def called(city: str) -> dict[str, Any]:
    arguments = json.dumps({"city": city})
    return {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": arguments}}]}


ROW = {
    "prompt": [
        {"role": "user", "content": "Weather in Oslo, then in Rome?"},
        called("Oslo"),
        {"role": "tool", "content": "sun"},
    ],
    "chosen": [called("Rome"), {"role": "tool", "content": "rain"}, {"role": "assistant", "content": "Sun and rain."}],
    "rejected": [called("Bergen")],
    "tools": TOOLS,
}
MORE = {"pair_id": "a/3", "kind": "wrong_value", "source": {"trajectory": "t", "turn": 1}, "weight": 0.5}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = ("prompt", "chosen", "rejected", "tools", "source")
        rows = [{key: json.dumps(value) if key in lists else value for key, value in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.parquet"])
def test_pairs_are_read_from_every_kind_of_file(renderer: Any, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [ROW | MORE, ROW])
    first, second = read_preferences(path)
    assert (first.pair_id, first.kind, first.weight) == ("a/3", "wrong_value", 0.5)
    assert (second.pair_id, second.kind, second.weight) == ("", "", 1.0)
    assert [pair.weight for pair in read_pairs(path, renderer)] == [0.5, 1.0]


def test_only_the_turns_of_the_two_sides_are_learned(renderer: Any, tmp_path: Path) -> None:
    (pair,) = read_pairs(write(tmp_path / "pairs.jsonl", [ROW]), renderer)
    assert [turn.train for turn in pair.chosen.turns] == [False, True, True]
    assert [turn.train for turn in pair.rejected.turns] == [False, True]
    start = pair.chosen.turns[1].start
    assert pair.chosen.token_ids[:start].tolist() == pair.rejected.token_ids[:start].tolist()
    learned = renderer.decode(pair.chosen.token_ids[start:])
    assert "Rome" in learned and "rain" in learned and "Oslo" not in learned
    assert pair.fits


def test_a_side_is_the_rendering_of_the_whole_conversation(renderer: Any, tmp_path: Path) -> None:
    (pair,) = read_pairs(write(tmp_path / "pairs.jsonl", [ROW]), renderer)
    messages = [{**message, "content": message.get("content") or ""} for message in (*ROW["prompt"], *ROW["rejected"])]
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["function"] = {**call["function"], "arguments": json.loads(call["function"]["arguments"])}
    whole = renderer.tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=False).removesuffix("\n")
    assert renderer.decode(pair.rejected.token_ids) == whole


def test_a_pair_that_the_context_cuts_does_not_fit(renderer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [ROW])
    (pair,) = read_pairs(path, renderer)
    short = ChatTemplateRenderer(renderer.tokenizer, max_context=len(pair.rejected.token_ids) + 1)
    (cut,) = read_pairs(path, short)
    assert len(pair.rejected.token_ids) < len(pair.chosen.token_ids) and not cut.fits


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prompt": None}, "prompt: expected a list, got null"),
        ({"prompt": []}, "prompt: expected messages, the first and the last of another role than assistant"),
        ({"prompt": ROW["prompt"][:2]}, "prompt: expected messages, the first and the last of another role"),
        ({"prompt": "hello"}, "prompt: invalid JSON"),
        ({"chosen": []}, "chosen: expected messages, the first of role assistant"),
        ({"rejected": [{"role": "user", "content": "x"}]}, "rejected: expected messages, the first of role assistant"),
        ({"rejected": [{"role": "robot"}]}, r"rejected\[0\].role: expected system, user, assistant or tool"),
        ({"rejected": ROW["chosen"]}, "chosen and rejected are the same"),
        ({"tools": 3}, "tools: expected a list, got 3"),
        ({"weight": 0}, "weight: expected a positive number, got 0"),
        ({"weight": "much"}, 'weight: expected a positive number, got "much"'),
        ({"pair_id": [1]}, r"pair_id: expected a string, got \[1\]"),
    ],
)
def test_a_bad_pair_is_refused_with_file_line_and_what_was_expected(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    path = write(tmp_path / "pairs.jsonl", [ROW, ROW | change])
    with pytest.raises(ValueError, match=rf"pairs.jsonl, line 2: {expected}") as error:
        list(read_preferences(path))
    assert "\n" not in str(error.value)
