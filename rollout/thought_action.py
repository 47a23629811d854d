"""The grammar of HaluAgent (arXiv 2406.11277, section 3.2): THOUGHT / ACTION: tool(key=literal) / OBSERVATION.

In Chinese the labels are 思考, 行为 and 观察. What a model writes after OBSERVATION it made up: it is neither content
nor a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from envs.schema import signature
from envs.types import Call, MalformedCall, Message, ToolSpec
from rollout.engine import Policy
from rollout.parsers import CallPlace, ParsedTurn, PythonParser, Span

_LABELS = {
    "en": ("THOUGHT", "ACTION", "OBSERVATION"),
    "zh": ("\u601d\u8003", "\u884c\u4e3a", "\u89c2\u5bdf"),
}
_COLONS = {"en": ": ", "zh": "\uff1a"}
_LABEL = re.compile(
    r"^[ \t]*(?:(?P<thought>THOUGHT|\u601d\u8003)|(?P<action>ACTION|\u884c\u4e3a)|OBSERVATION|\u89c2\u5bdf)"
    r"[ \t]*[:\uff1a]",
    re.MULTILINE | re.IGNORECASE,
)
_python = PythonParser()


class ThoughtActionParser:
    """Reads both languages and writes one."""

    def __init__(self, language: Literal["en", "zh"] = "en") -> None:
        self._thought, self._action, _ = _LABELS[language]
        self._colon = _COLONS[language]

    def parse(self, text: str) -> ParsedTurn:
        """Read one assistant turn; never raises."""
        first = _LABEL.search(text)
        content = [text[: first.start()] if first else text]
        calls: list[Call] = []
        spans: list[Span] = []
        for label, (start, end) in _sections(text):
            body = text[start:end]
            if label["thought"] is not None:
                content.append(body)
            elif label["action"] is not None:
                calls.append(_call(body))
                spans.append((start, end))
        return ParsedTurn(
            content="\n".join(piece.strip() for piece in content if piece.strip()),
            calls=tuple(calls),
            spans=tuple(spans),
        )

    def locate(self, text: str) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(text)` stand, in the same order; never raises."""
        turn = self.parse(text)
        return tuple(
            CallPlace(span=span) if isinstance(call, MalformedCall) else _place(text, span)
            for call, span in zip(turn.calls, turn.spans, strict=True)
        )

    def format(self, content: str, calls: Sequence[Call]) -> str:
        """Write one assistant turn; the text of malformed calls is kept as it is."""
        lines = [f"{self._thought}{self._colon}{content}"] * bool(content)
        return "\n".join(lines + [f"{self._action}{self._colon}{_python.format('', [call])}" for call in calls])


def _sections(text: str) -> Iterator[tuple[re.Match[str], Span]]:
    """Each label with the place of its body, without the space around it."""
    labels = list(_LABEL.finditer(text))
    ends = [label.start() for label in labels[1:]] + [len(text)] * bool(labels)
    for label, end in zip(labels, ends, strict=True):
        body = text[label.end() : end]
        start = label.end() + len(body) - len(body.lstrip())
        yield label, (start, start + len(body.strip()))


def _call(body: str) -> Call:
    found = _python.parse(body)
    if len(found.calls) == 1 and not found.content and found.spans[0] == (0, len(body)):
        return found.calls[0]
    reason = "not one call" if not found.calls else "more than one call"
    return MalformedCall(text=body, reason=reason)


def _place(text: str, span: Span) -> CallPlace:
    (place,) = _python.locate(text[slice(*span)])
    return place.moved(lambda part: (part[0] + span[0], part[1] + span[0]))


_PROTOCOL = {
    "en": """\
Write each turn as
THOUGHT: what you think
ACTION: tool(argument=value, ...)
with one action and values as Python literals, then stop and wait for the OBSERVATION. The tools:""",
    "zh": """\
\u6bcf\u4e00\u8f6e\u6309\u5982\u4e0b\u683c\u5f0f\u4e66\u5199\uff1a
\u601d\u8003\uff1a\u4f60\u7684\u60f3\u6cd5
\u884c\u4e3a\uff1a\u5de5\u5177(\u53c2\u6570=\u503c, ...)
\u53ea\u5199\u4e00\u4e2a\u884c\u4e3a\uff0c\u503c\u7528 Python \u5b57\u9762\u91cf\uff0c\
\u7136\u540e\u505c\u4e0b\u7b49\u5f85\u201c\u89c2\u5bdf\u201d\u3002\u53ef\u7528\u7684\u5de5\u5177\uff1a""",
}


class ThoughtActionPolicy:
    """A policy without tool calls of its own: tools are told in the first message, calls read from what it writes."""

    def __init__(self, policy: Policy, language: Literal["en", "zh"] = "en") -> None:
        """Speak through `policy`, which is never offered a tool."""
        self._policy = policy
        self._language: Literal["en", "zh"] = language
        self._parser = ThoughtActionParser(language)

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Message:
        """The next assistant message.

        Raises:
            EngineFailed: no reply could be had.
        """
        told = [self._told(message) for message in messages]
        listed = [f"- {signature(tool)}: {tool.description}" for tool in tools]
        protocol = "\n".join((_PROTOCOL[self._language], *listed))
        told[0] = replace(told[0], content=f"{protocol}\n\n{told[0].content}")
        reply = await self._policy.reply(told, ())
        turn = self._parser.parse(reply.content)
        taken = sum(len(message.calls) for message in messages)
        calls = tuple(replace(call, call_id=f"call_{taken + number}") for number, call in enumerate(turn.calls))
        return Message(role="assistant", content=turn.content, calls=calls)

    def _told(self, message: Message) -> Message:
        """A message without calls: those of the model as it writes them, results as observations of the user."""
        if message.role == "assistant":
            return Message(role="assistant", content=self._parser.format(message.content, message.calls))
        if message.role == "tool":
            label = _LABELS[self._language][2]
            return Message(role="user", content=f"{label}{_COLONS[self._language]}{message.content}")
        return message
