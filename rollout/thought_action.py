"""The grammar of HaluAgent (arXiv 2406.11277, section 3.2): THOUGHT / ACTION: tool(key=literal) / OBSERVATION.

In Chinese the labels are 思考, 行为 and 观察. What a model writes after OBSERVATION it made up: it is neither content
nor a call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from envs.types import Call, MalformedCall
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
