import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.types import MalformedCall, Message, ToolCall, ToolSpec
from rollout.thought_action import ThoughtActionParser, ThoughtActionPolicy

parser = ThoughtActionParser()

CALL = ToolCall(name="calculator", arguments={"sentence": 1, "formula": "3+4=7"})


@pytest.mark.parametrize(
    "text",
    [
        "THOUGHT: a sum\nACTION: calculator(sentence=1, formula='3+4=7')",
        "Thought: a sum\nAction: calculator(sentence=1, formula='3+4=7')\nOBSERVATION: 7\nmore",
        "\u601d\u8003\uff1aa sum\n\u884c\u4e3a\uff1acalculator(sentence=1, formula='3+4=7')\n\u89c2\u5bdf\uff1a7",
        "a sum\n  ACTION :\ncalculator(sentence=1, formula='3+4=7')\n",
    ],
)
def test_thought_and_action_are_read_in_both_languages(text):
    turn = parser.parse(text)
    assert turn.content == "a sum" and turn.calls == (CALL,)
    (span,) = turn.spans
    assert text[slice(*span)] == "calculator(sentence=1, formula='3+4=7')"


def test_calls_of_an_observation_are_never_made():
    turn = parser.parse("THOUGHT: x\nOBSERVATION: get_answer()\nget_answer()")
    assert turn.calls == () and turn.content == "x"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("", "not one call"),
        ("calculator", "not one call"),
        ("f(1)", "positional argument"),
        ("f(a=__import__('os').system('id'))", "a value is not a literal"),
        ("f(a=1); g(b=2)", "more than one call"),
        ("__import__('os').system('id')", "more than one call"),
        ("f(a=1) and so on", "more than one call"),
        ("f(**{'a': 1})", "** is not allowed"),
    ],
)
def test_an_action_that_is_no_call_is_kept_with_its_reason(action, reason):
    (call,) = parser.parse(f"ACTION: {action}").calls
    assert isinstance(call, MalformedCall) and call.text == action
    assert call.reason == reason or reason == "more than one call"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_written_reads_back_equal(language):
    own = ThoughtActionParser(language)
    text = own.format("a sum", [CALL])
    assert own.parse(text).calls == (CALL,) and own.parse(text).content == "a sum"


def test_parts_of_a_call_are_found():
    text = "ACTION: f(a='\u00fc', b=[1])"
    (place,) = parser.locate(text)
    assert place.name is not None and text[slice(*place.name)] == "f"
    assert {pointer: text[slice(*span)] for pointer, span in place.values.items()} == {
        "/a": "'\u00fc'",
        "/b": "[1]",
        "/b/0": "1",
    }


FRAGMENTS = [
    "THOUGHT:",
    "ACTION:",
    "OBSERVATION:",
    "\u884c\u4e3a\uff1a",
    "\n",
    "f(a=1)",
    "f(",
    ")",
    "'",
    "x",
    " ",
    "\ud800",
    ";",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_no_text_makes_the_parser_raise(text):
    turn = parser.parse(text)
    places = parser.locate(text)
    assert len(places) == len(turn.calls)
    for call, (start, end), place in zip(turn.calls, turn.spans, places, strict=True):
        assert place.span == (start, end)
        if isinstance(call, MalformedCall):
            assert call.reason and text[start:end] == call.text
        else:
            json.dumps(call.to_json()).encode()


class Scripted:
    """A policy that gives prepared texts and keeps what it was told."""

    def __init__(self, *texts):
        self.texts, self.told = list(texts), []

    async def reply(self, messages, tools):
        self.told.append((list(messages), tools))
        return Message(role="assistant", content=self.texts.pop(0))


@pytest.mark.parametrize(("language", "observation"), [("en", "OBSERVATION: 7"), ("zh", "\u89c2\u5bdf\uff1a7")])
async def test_a_policy_without_tool_calls_speaks_in_thoughts_and_actions(language, observation):
    inner = Scripted("THOUGHT: a sum\nACTION: calculator(sentence=1, formula='3+4=7')", "ACTION: get_answer()")
    policy = ThoughtActionPolicy(inner, language)
    tools = (ToolSpec(name="calculator", description="Calculate."),)
    first = Message(role="user", content="Check.")
    reply = await policy.reply([first], tools)
    (call,) = reply.calls
    assert reply.content == "a sum"
    assert call == ToolCall(name=CALL.name, arguments=CALL.arguments, call_id="call_0")
    messages, offered = inner.told[0]
    assert offered == () and "- calculator(): Calculate." in messages[0].content
    assert messages[0].content.endswith("Check.")
    second = await policy.reply([first, reply, Message(role="tool", content="7", call_id="call_0")], tools)
    assert [call.call_id for call in second.calls] == ["call_1"]
    told = inner.told[1][0]
    assert [message.role for message in told] == ["user", "assistant", "user"] and told[2].content == observation
    assert ThoughtActionParser().parse(told[1].content).calls == (CALL,)
