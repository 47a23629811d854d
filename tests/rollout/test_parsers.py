import json
import keyword

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.types import MalformedCall, ToolCall
from rollout.parsers import PARSERS, HermesParser, PythonParser, ReactParser

hermes, python, react = HermesParser(), PythonParser(), ReactParser()

FRAGMENTS = [
    "<tool_call>", "</tool_call>", "\n", '{"name": "f", "arguments": {}}', '{"name": ', '"arguments"', "{", "}", "[",
    "]", "NaN", "1e999", '"\\ud800"', "f(", "f(a=1)", ")", "'", '"', "\\", ",", ";", "**x", "Action: f",
    "Thought: ", "Action Input: ", "Observation:", "-", "lambda", "\x00", "<|im_end|>", "\u0661", "9" * 5000,
]  # fmt: skip
PLACES = {0xE000 + index: fragment for index, fragment in enumerate(FRAGMENTS)}
SEEDED = st.text(alphabet="".join(map(chr, PLACES)) + " ab:\u00fc", max_size=12).map(
    lambda text: text.translate(PLACES)
)
"""Strings of fragments. Each is drawn as one character, which is much faster than lists of strings."""


@settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40) | SEEDED)
def test_no_text_makes_a_parser_raise_or_write_what_cannot_be_kept(text):
    for parser in PARSERS.values():
        turn = parser.parse(text)
        position = 0
        for call, (start, end) in zip(turn.calls, turn.spans, strict=True):
            assert position <= start <= end <= len(text)
            position = end
            json.dumps(call.to_json(), ensure_ascii=False, allow_nan=False).encode()
            if isinstance(call, MalformedCall):
                assert call.reason
                assert call.text == text[start:end]


NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: ToolCall(name=name, arguments=arguments),
        NAMES,
        st.dictionaries(NAMES, VALUES, max_size=3),
    ),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(CALLS, st.sampled_from(["", "Let me look.", "Zwei Zeilen,\nja: \u00fc"]))
def test_what_is_written_reads_back_equal(calls, content):
    for parser in PARSERS.values():
        names = {call.name for call in calls} | {name for call in calls for name in call.arguments}
        if isinstance(parser, PythonParser) and any(map(keyword.iskeyword, names)):
            continue
        turn = parser.parse(parser.format(content, calls))
        assert turn.content == content
        assert turn.calls == tuple(calls)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"name": "f", "arguments": {}', "invalid JSON"),
        ("", "invalid JSON"),
        ('{"arguments": {}}', "no name"),
        ('{"name": "", "arguments": {}}', "no name"),
        ('{"name": 3, "arguments": {}}', "no name"),
        ('{"name": "f"}', "no arguments"),
        ('{"name": "f", "arguments": [1]}', "not an object"),
        ('{"name": "f", "arguments": "{}"}', "not an object"),
        ('[{"name": "f", "arguments": {}}]', "not an object"),
        ('{"name": "f", "arguments": {"a": 1, "a": 2}}', "duplicate key 'a'"),
        ('{"name": "f", "name": "g", "arguments": {}}', "duplicate key 'name'"),
        ('{"name": "f", "arguments": {"a": NaN}}', "NaN"),
        ('{"name": "f", "arguments": {"a": 1e999}}', "out of range"),
        ('{"name": "f", "arguments": {"a": "\\ud800"}}', "unicode"),
        ('{"name": "f", "arguments": {}, "city": "Oslo"}', "unexpected key 'city'"),
        ('{"name": "f", "arguments": {}} and more', "invalid JSON"),
        ("[" * 100_000, "nested"),
    ],
)
def test_a_hermes_block_that_is_no_call_is_kept_with_its_reason(body, reason):
    text = f"<tool_call>\n{body}\n</tool_call>"
    turn = hermes.parse(text)
    assert len(turn.calls) == 1
    assert isinstance(turn.calls[0], MalformedCall)
    assert reason in turn.calls[0].reason
    assert turn.calls[0].text == text


def test_unclosed_and_unopened_hermes_blocks_are_attempted_calls():
    good = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    turn = hermes.parse(f'<tool_call>{{"name": "g", "arguments": {{}}}}\n{good}<tool_call>{{"na')
    assert [type(call) for call in turn.calls] == [MalformedCall, ToolCall, MalformedCall]
    turn = hermes.parse('{"name": "f", "arguments": {}}</tool_call> done')
    assert [type(call) for call in turn.calls] == [MalformedCall]
    assert turn.content == "done"


def test_a_tag_inside_a_json_string_closes_nothing():
    call = ToolCall(name="write", arguments={"text": "a </tool_call> b <tool_call> c"})
    assert hermes.parse(hermes.format("", [call])).calls == (call,)


def test_content_around_calls_is_kept_and_spans_point_at_the_calls():
    text = 'First.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\nThen.'
    turn = hermes.parse(text)
    assert turn.content == "First.\nThen."
    start, end = turn.spans[0]
    assert text[start:end].startswith("<tool_call>")
    assert text[start:end].endswith("</tool_call>")


@pytest.mark.parametrize("text", ["[f(a=1), g(b='x')]", "f(a=1)\ng(b='x')", "f(a=1); g(b='x')", "[f(a=1),\n g(b='x')]"])
def test_python_calls_are_read_bare_in_brackets_or_one_a_line(text):
    turn = python.parse(text)
    assert turn.calls == (ToolCall(name="f", arguments={"a": 1}), ToolCall(name="g", arguments={"b": "x"}))
    assert turn.content == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("f(1)", "positional"),
        ("f(**x)", "**"),
        ("f(a=b)", "literal"),
        ("f(a={1: 2})", "string"),
        ("f(a={'x': 1, 'x': 2})", "duplicate"),
        ("f(a=1, a=2)", "duplicate"),
        ("f(a=1e999)", "literal"),
        ("f(a=1", "unclosed"),
        ("f(a=)", "syntax"),
        ("f(a=b'x')", "literal"),
    ],
)
def test_a_python_call_that_cannot_be_read_is_kept_with_its_reason(text, reason):
    turn = python.parse("I look.\n" + text)
    assert turn.content == "I look."
    assert isinstance(turn.calls[0], MalformedCall)
    assert reason in turn.calls[0].reason


def test_names_with_dots_and_nested_values_are_read_in_python_form():
    turn = python.parse("math.add(xs=[1, -2.5, (True, None)], how={'a': ')'})")
    assert turn.calls == (ToolCall(name="math.add", arguments={"xs": [1, -2.5, [True, None]], "how": {"a": ")"}}),)


def test_react_sections_become_content_and_calls():
    turn = react.parse(
        'Thought: I look.\nAction: f\nAction Input: {"a": 1}\nThought: and\nAction: g\nAction Input: [1]\nAction: h'
    )
    assert turn.content == "I look.\nand"
    assert turn.calls[0] == ToolCall(name="f", arguments={"a": 1})
    assert [call.reason for call in turn.calls[1:] if isinstance(call, MalformedCall)] == [
        "the arguments are not an object",
        "Action without Action Input",
    ]


def test_malformed_calls_are_written_as_they_were():
    for parser, text in [(hermes, "<tool_call>{</tool_call>"), (python, "f(1)"), (react, "Action: f")]:
        turn = parser.parse(text)
        assert parser.format(turn.content, turn.calls) == text
