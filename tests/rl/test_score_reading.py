"""Lines that are read the quick way are scored as their JSON is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rewards.schemes import scheme
from rl import score_files
from rl.score_files import BadRecord, Chunk, RecordReader, score_chunk
from rl.scoring import PlainRecord, score_record

SETTINGS = settings(max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", ",", " ", "\t", "\x0c", "\ufeff", '"a"', '"\\ud83d"', '"\\ud83d\\ude00"', '"\\', "\\u00",
     "1", "-0", "-", "01", "1.5", "1.", "1e400", "1E5", "-1e999", "NaN", "-Infinity", "tru", "true", "null", "9" * 25,
     "9" * 4400, "0.1e-400", "1.7976931348623159e308", '"\u00fc"', '"\x00"', '"\x7f"', "[" * 300, "]" * 300]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.builds(
    lambda value, is_ascii: json.dumps(value, ensure_ascii=is_ascii), VALUES, st.booleans()
)


@SETTINGS
@given(TEXTS)
@example('{"a": 1, "a": 2}')
@example("[1, ]")
def test_json_is_read_as_the_standard_library_reads_it(text):
    assert read(score_files._load, text) == read(score_files._DECODER.decode, text)


def read(decode: Any, text: str) -> str:
    """The value and its types, or why there is none."""
    try:
        return repr(decode(text))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


BOOK = {"name": "book", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ODD = st.sampled_from([None, True, 0, 1.0, 2**70, "", "x", [], {}, [1], [None], {"name": "book"}])
ARGUMENTS = (
    st.dictionaries(st.sampled_from(["city", "x"]), st.sampled_from(["Oslo", 1, None, [1]]), max_size=2)
    | st.sampled_from(['{"city": "Oslo"}', '{"city": 1, "city": 2}', "{", ""])
    | ODD
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["book", "fly", "talk_to_user"]) | ODD,
        "arguments": ARGUMENTS,
        "call_id": ODD,
    },
)
FIELDS: dict[str, Any] = {
    "id": st.integers() | st.text(max_size=3) | ODD,
    "tools": st.sampled_from([[BOOK], [{"type": "function", "function": BOOK}], [BOOK, BOOK], [{}], []]) | ODD,
    "query": st.just("Book Oslo") | ODD,
    "history": st.just([{"role": "user", "content": "Oslo"}]) | ODD,
    "calls": st.lists(CALLS, max_size=2) | ODD,
    "text": st.sampled_from(["book(city='Oslo')", '<tool_call>{"name": "book", "arguments": {}}</tool_call>']) | ODD,
    "grammar": st.sampled_from(["python", "hermes", "react"]) | ODD,
    "reference": st.lists(CALLS, max_size=2) | ODD,
    "ordered": st.booleans() | ODD,
    "refrence": ODD,
    "mine": ODD,
}


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A good record with up to three fields drawn anew, or left out."""
    value: dict[str, Any] = {"id": 1, "tools": [BOOK], "query": "Oslo", "reference": [BOOK | {"arguments": {}}]}
    value |= draw(
        st.just({"calls": [{"name": "book", "arguments": {"city": "Oslo"}}]})
        | st.just({"text": "book(city='Rome')", "grammar": "python"})
    )
    for name in draw(st.lists(st.sampled_from(list(FIELDS)), max_size=3)):
        if draw(st.booleans()):
            value[name] = draw(FIELDS[name])
        else:
            value.pop(name, None)
    return value


@SETTINGS
@given(records(), st.booleans())
def test_a_line_is_scored_or_refused_as_its_json_is(record, is_compact):
    line = json.dumps(record, separators=(",", ":") if is_compact else None)
    for name in ("tl_monotone", "esm"):
        reader = RecordReader()
        expected = outcome(lambda: json.loads(line), name)
        for _ in range(2):  # The tools are new, and then known.
            assert outcome(lambda: reader.read(line.encode()), name) == expected  # noqa: B023


def outcome(make: Any, name: str) -> Any:
    try:
        return score_record(make(), scheme(name))
    except BadRecord as error:
        return str(error)


@pytest.mark.parametrize("reply", [{"calls": []}, {"text": "f()", "grammar": "python"}])
def test_usual_lines_are_read_into_typed_fields(reply):
    line = json.dumps({"id": 1, "tools": [BOOK], "query": "x", **reply})
    assert isinstance(RecordReader().read(line.encode()), PlainRecord)


def test_what_utf_8_cannot_hold_is_written_as_an_escape():
    lines = [json.dumps({"id": name, "tools": [BOOK], "calls": []}).encode() for name in ("\ud83d", "\u00fc", "x")]
    written = score_chunk(Chunk(start=1, items=tuple(lines), position=0), scheme(), skip_bad=False).lines
    assert [json.loads(line)["id"] for line in written.splitlines()] == ["\ud83d", "\u00fc", "x"]
