"""What is read the quick way is what the long way reads."""

from __future__ import annotations

import json
import keyword

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from envs.types import ToolCall
from rollout import parsers
from rollout.parsers import PARSERS, arguments_of_json

SETTINGS = settings(
    max_examples=400,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

JSON_PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", ",", " ", "\n", "\x0c", "\u00a0", '"a"', '"b"', '"a:b"', '"\\ud83d"', '"\\ud83d\\ude00"',
     '"\\u003a"', '"\\"', "1", "-0", "01", "1.5", "1e400", "-1e999", "NaN", "-Infinity", "true", "null", "9" * 25,
     "9" * 4400, '"\u00fc"', '"\ud800"', '"name": "f"', '"arguments": {"a": 1}', "{" * 20, "}" * 20, "[" * 33, "]" * 33]
)  # fmt: skip
JSON_TEXTS = st.lists(JSON_PIECES, max_size=12).map("".join) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
).map(json.dumps)


@SETTINGS
@given(JSON_TEXTS)
@example('{"a": 1, "a": 2}')
@example('{"a": {"b": 1, "b": 2}}')
@example('{"a:": 1, "a:": 2}')
@example('{"a": "::", "a": 1}')
@example("[" * 32 + "]" * 32)
@example('"' + "{" * 40 + '"')
def test_json_that_is_plain_is_read_as_the_strict_decoder_reads_it(monkeypatch, text):
    quick = arguments_of_json("f", text), read(text)
    with monkeypatch.context() as patch:
        patch.setattr(parsers, "_plain_json", lambda _: parsers._NOT_PLAIN)
        assert (arguments_of_json("f", text), read(text)) == quick


def read(text: str) -> str:
    """The value and its types, or why there is none."""
    try:
        return repr(parsers._load_json(text))
    except parsers._Unreadable as error:
        return f"unreadable: {error}"


PIECES = st.sampled_from(
    ["<tool_call>", "</tool_call>", "\n", " ", "text", '{"name": "f", "arguments": {"a": 1}}', '{"name": "f"}',
     '{"name": "f", "arguments": {"a": "</tool_call>"}}', '{"name": "f", "arguments": {"a": 1, "a": 2}}', "[1]", "{",
     "\x0c", '{"name": "", "arguments": {}}', "f(", "g.h(", "if(", "f.None(", "\u00fc(", "a=1", "b='x'", 'c="y"', ", ",
     ",", ")", "a='it\\'s'", "d=[1]", "e=-1.5", "f=007", "g=True", "h=None", "if=1", "print=1", "_i=2", "j=1e5",
     "k=1_0", "l=0x1", "m='a' 'b'", "n='''x'''", "o=''", "p=- 1", "q=-0", "r=9999999999999999", "s='\t'", "t='\u00fc'",
     "u='#'", "v=00", "w=1.", "x=.5", "y=truE", "a =1", "z= 1", "**x", "aa=1#", "; ", "[", "]", "Action: f\n",
     "Action Input: {\"a\": 1}\n", "Thought: x\n"]
)  # fmt: skip
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.just([1])
ARGUMENTS = st.dictionaries(NAMES, VALUES)
CALLS = st.builds(lambda name, arguments: ToolCall(name=name, arguments=arguments), NAMES, ARGUMENTS)


@SETTINGS
@given(
    st.lists(PIECES, max_size=10).map("".join)
    | st.builds(
        lambda calls, grammar, tail: PARSERS[grammar].format("", calls) + tail,
        st.lists(CALLS, max_size=3),
        st.sampled_from(list(PARSERS)),
        st.sampled_from(["", ")", "\n", ", f(a=1)"]),
    )
)
@example("f()")
@example("f(a=1,)")
@example("f(,)")
@example("f(a=1 )")
@example("f(a=1, a=2)")
@example("f(a='\n')")
@example("f(a='b' )g(c=1)")
def test_calls_that_are_plain_are_read_as_the_long_way_reads_them(monkeypatch, text):
    quick = {name: (parser.parse(text), parser.locate(text)) for name, parser in PARSERS.items()}
    for name, parser in PARSERS.items():
        assert parser.locate(text, quick[name][0]) == quick[name][1]
    with monkeypatch.context() as patch:
        patch.setattr(parsers, "_plain_json", lambda _: parsers._NOT_PLAIN)
        patch.setattr(parsers, "_plain_call", lambda *_: None)
        for name, parser in PARSERS.items():
            turn = parser.parse(text)
            assert (turn, parser.locate(text)) == quick[name]
            assert repr(turn) == repr(quick[name][0])


@pytest.mark.parametrize("name", [*keyword.kwlist, "__debug__", "match", "print"])
@pytest.mark.parametrize("text", ["f({}=1)", "{}(a=1)", "f.{}(a=1)"])
def test_a_word_of_the_language_is_no_name(monkeypatch, text, name):
    parser, text = PARSERS["python"], text.format(name)
    quick = parser.parse(text)
    monkeypatch.setattr(parsers, "_plain_call", lambda *_: None)
    assert parser.parse(text) == quick


def test_usual_calls_are_plain():
    assert parsers._plain_call("f(a=1, b='x', c=-2.5, d=None)", 0, 2) is not None
    assert parsers._plain_json('{"name": "f", "arguments": {"a": [1, {"b": "c"}]}}') is not parsers._NOT_PLAIN
