import ast
import json
import keyword
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.types import MalformedCall, ToolCall
from rollout.parsers import PARSERS, CallPlace, HermesParser, PythonParser, ReactParser

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


def leaves(value, pointer=""):
    """Every value inside `value`, by JSON pointer."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        inner = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
        yield inner, key, item
        yield from leaves(item, inner)


def listed(value):
    """Tuples as lists, at every depth."""
    if isinstance(value, (list, tuple)):
        return [listed(item) for item in value]
    return {key: listed(item) for key, item in value.items()} if isinstance(value, dict) else value


def read_python(text):
    return listed(ast.literal_eval(f"({text}\n)"))


def check_places(parser, text):
    """The promises of `locate`: a place for each call, inside the text, each part of it reading as what was parsed."""
    turn, places = parser.parse(text), parser.locate(text)
    assert [place.span for place in places] == list(turn.spans)
    read = read_python if isinstance(parser, PythonParser) else json.loads
    for call, place in zip(turn.calls, places, strict=True):
        start, end = place.span
        assert all(start <= first <= last <= end for first, last in (*place.keys.values(), *place.values.values()))
        if isinstance(call, MalformedCall):
            assert place == CallPlace(span=place.span)
            continue
        found = {pointer: (key, item) for pointer, key, item in leaves(call.arguments)}
        assert place.values.keys() == found.keys()
        assert place.keys.keys() == {pointer for pointer, (key, _) in found.items() if isinstance(key, str)}
        assert place.name is not None
        assert start <= place.name[0] < place.name[1] <= end
        name = text[slice(*place.name)]
        assert call.name == (json.loads(f'"{name}"') if isinstance(parser, HermesParser) else name)
        for pointer, span in place.values.items():
            assert read(text[slice(*span)]) == found[pointer][1]
        for pointer, span in place.keys.items():
            key = text[slice(*span)]
            bare = isinstance(parser, PythonParser) and pointer.count("/") == 1
            assert (unicodedata.normalize("NFKC", key) if bare else read(key)) == found[pointer][0]


@settings(max_examples=5_000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40) | SEEDED)
def test_every_call_of_any_text_has_a_place_inside_it(text):
    for parser in PARSERS.values():
        check_places(parser, text)


@settings(max_examples=300, deadline=None)
@given(CALLS, st.sampled_from(["", "Let me look.", "Zwei Zeilen,\nja: \u00fc"]))
def test_the_places_of_written_calls_read_as_what_was_written(calls, content):
    for parser in PARSERS.values():
        check_places(parser, parser.format(content, calls))


PYTHON_LINES = [
    "a=", "\u00fc=", "\ufb01=", "1", "'\u00fc'", '"""x\r\ny"""', "'a' 'b'", "(", ")", "[", "]", "{", "}", ":", "'k'",
    ",", "\n", "\r", "\r\n", " ", "\f", "\\\n", "# \u00fc\n", "-", "\U0001f327", "'\U0001f327'",
]  # fmt: skip
PYTHON_PLACES = {0xE000 + index: fragment for index, fragment in enumerate(PYTHON_LINES)}


@settings(max_examples=5_000, deadline=None, database=None)
@given(st.text(alphabet="".join(map(chr, PYTHON_PLACES)), max_size=14))
def test_lines_comments_and_wide_letters_do_not_move_the_places_of_python_calls(text):
    check_places(python, f"f(a={text.translate(PYTHON_PLACES)})")
    check_places(python, f"\u00fc f\n[g(b='\u00fc'), f(a={text.translate(PYTHON_PLACES)})]")


@pytest.mark.parametrize(
    "text",
    [
        "f(\ufb01=1)",
        "f(a=('a'\n  'b'), b=1)",
        "f(a = # \u00fc\n 1, b\n=\\\n2)",
        "f(x='\u00fc', y={'\u00fc': [1, (2, -3)]})",
        'f(x="""\r\n\u00fc\r""", y=1)',
        "[f(a=1), g(b={'c/d': {'~': ''}})]",
    ],
)
def test_places_of_python_calls_that_are_written_in_an_unusual_way(text):
    assert not any(isinstance(call, MalformedCall) for call in python.parse(text).calls)
    check_places(python, text)


def test_the_parts_of_a_hermes_call_are_found_at_every_depth():
    text = 'Look.\n<tool_call>\n{"arguments": {"a": [{}, "x", {"b/~": null}], "\\u00fc": 1}, "name": "f"}\n</tool_call>'
    (place,) = hermes.locate(text)
    check_places(hermes, text)
    assert place.name is not None
    assert text[slice(*place.name)] == "f"
    assert {pointer: text[slice(*span)] for pointer, span in place.keys.items()} == {
        "/a": '"a"',
        "/a/2/b~1~0": '"b/~"',
        "/\u00fc": '"\\u00fc"',
    }
    assert {pointer: text[slice(*span)] for pointer, span in place.values.items()} == {
        "/a": '[{}, "x", {"b/~": null}]',
        "/a/0": "{}",
        "/a/1": '"x"',
        "/a/2": '{"b/~": null}',
        "/a/2/b~1~0": "null",
        "/\u00fc": "1",
    }


def test_the_parts_of_a_react_call_are_found():
    text = 'Thought: f\n  Action : f \nAction Input: {"Action Input": [1, {"f": 2}]}\nThought: done'
    check_places(react, text)
    (place,) = react.locate(text)
    assert place.name is not None
    assert text[slice(*place.name)] == "f"
    assert text[slice(*place.values["/Action Input/1/f"])] == "2"


@pytest.mark.parametrize("depth", [100, 900, 5000])
def test_deep_nests_have_places_or_are_malformed(depth):
    body = f'{{"name": "f", "arguments": {{"a": {"[" * depth}{"]" * depth}}}}}'
    (place,) = hermes.locate(f"<tool_call>{body}</tool_call>")
    (call,) = hermes.parse(f"<tool_call>{body}</tool_call>").calls
    assert len(place.values) == (depth if isinstance(call, ToolCall) else 0)
    python.locate(f"f(a={'[' * depth}{']' * depth})")
