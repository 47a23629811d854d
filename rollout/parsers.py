"""Grammars of tool calls: text of one assistant turn <-> content and calls.

A parser never raises and never drops a call: what was meant as one and cannot be read becomes a
`MalformedCall` with a reason. Whether a call is right is not decided here.
"""

from __future__ import annotations

import ast
import json
import keyword
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, NoReturn, Protocol

import msgspec

from envs.record import record
from envs.types import Call, Json, MalformedCall, ToolCall

Span = tuple[int, int]
"""First character and the one after the last."""

_MANY_DIGITS = 3000
"""Too few hexadecimal digits for an integer that Python refuses to write down."""

MAX_DEPTH = 32
"""Objects and arrays within each other. A call nested deeper is malformed: no tool asks for it."""


@record
class ParsedTurn:
    """What one assistant turn says."""

    content: str
    """The text outside the calls, stripped."""
    calls: tuple[Call, ...] = ()
    spans: tuple[Span, ...] = ()
    """Where each call stands in the text."""

    def __post_init__(self) -> None:
        if len(self.calls) != len(self.spans):
            raise ValueError(f"{len(self.calls)} calls but {len(self.spans)} spans")


@record
class CallPlace:
    """Where the parts of one call stand: in characters of a text or, in a `Turn`, in tokens of a trajectory.

    Keys and values are named by JSON pointer at every depth of the arguments ("/city", "/stops/0/city"). A key is
    without what separates it from its value; a string is with its quotes. A malformed call has a span alone.
    """

    span: Span
    """The whole call."""
    name: Span | None = None
    """The name of the tool, without quotes."""
    keys: Mapping[str, Span] = field(default_factory=dict)
    values: Mapping[str, Span] = field(default_factory=dict)
    """Elements of arrays have a value and no key."""

    def moved(self, place: Callable[[Span], Span]) -> CallPlace:
        """The same parts in other units, `place` giving each span in them."""
        return CallPlace(
            span=place(self.span),
            name=None if self.name is None else place(self.name),
            keys={pointer: place(span) for pointer, span in self.keys.items()},
            values={pointer: place(span) for pointer, span in self.values.items()},
        )

    def to_json(self) -> dict[str, Json]:
        """As {"span", "name", "keys", "values"}."""
        return {"span": self.span, "name": self.name, "keys": dict(self.keys), "values": dict(self.values)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> CallPlace:
        """Inverse of `to_json`."""
        return cls(
            span=_span_of_json(value["span"]),
            name=None if value["name"] is None else _span_of_json(value["name"]),
            keys={pointer: _span_of_json(span) for pointer, span in value["keys"].items()},
            values={pointer: _span_of_json(span) for pointer, span in value["values"].items()},
        )


class Parser(Protocol):
    """One grammar of tool calls."""

    def parse(self, text: str) -> ParsedTurn:
        """Read one assistant turn; never raises."""
        ...

    def locate(self, text: str, turn: ParsedTurn | None = None) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(text)` stand, in the same order; never raises.

        Args:
            text: the assistant turn.
            turn: what `parse(text)` said, where that is known.
        """
        ...

    def format(self, content: str, calls: Sequence[Call]) -> str:
        """Write one assistant turn; the text of malformed calls is kept as it is."""
        ...


class HermesParser:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write calls."""

    opening = "<tool_call>"
    closing = "</tool_call>"

    def parse(self, text: str) -> ParsedTurn:
        """Read one assistant turn; never raises."""
        return _assemble(text, list(self._blocks(text)))

    def locate(self, text: str, turn: ParsedTurn | None = None) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(text)` stand, in the same order; never raises."""
        return _located(turn or self.parse(text), lambda span: self._place(text, span))

    def _place(self, text: str, span: Span) -> CallPlace:
        keys, values = places_in_json(text, span[0] + len(self.opening), span[1] - len(self.closing))
        start, end = values["/name"]
        inside = len("/arguments")
        return CallPlace(
            span=span,
            name=(start + 1, end - 1),
            keys={pointer[inside:]: place for pointer, place in keys.items() if pointer.startswith("/arguments/")},
            values={pointer[inside:]: place for pointer, place in values.items() if pointer.startswith("/arguments/")},
        )

    def format(self, content: str, calls: Sequence[Call]) -> str:
        """Write one assistant turn; malformed calls are kept as they are, within tags if they have none."""
        return "\n".join([content] * bool(content) + [self._format_call(call) for call in calls])

    def _format_call(self, call: Call) -> str:
        if isinstance(call, ToolCall):
            name = json.dumps(call.name, ensure_ascii=False)
            arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
            return f'{self.opening}\n{{"name": {name}, "arguments": {arguments}}}\n{self.closing}'
        if self.opening in call.text or self.closing in call.text:
            return call.text
        return f"{self.opening}\n{call.text}\n{self.closing}"

    def _blocks(self, text: str) -> Iterator[tuple[Span, Call]]:
        position = 0
        while True:
            start = text.find(self.opening, position)
            stray = text.find(self.closing, position)
            if stray >= 0 and (start < 0 or stray < start):
                end = stray + len(self.closing)
                yield (position, end), _malformed(text[position:end], f"{self.closing} without {self.opening}")
            elif start >= 0:
                end, call = self._block(text, start)
                yield (start, end), call
            else:
                return
            position = end

    def _block(self, text: str, start: int) -> tuple[int, Call]:
        inner = start + len(self.opening)
        close = text.find(self.closing, inner)
        if close >= 0 and (value := _plain_json(text[inner:close])) is not _NOT_PLAIN:
            end = close + len(self.closing)
            return end, _call_of_value(text[start:end], value)
        end = self._end_of_json_block(text, inner)
        if end is None:
            reopened = text.find(self.opening, inner)
            if close < 0 or 0 <= reopened < close:
                end = reopened if reopened >= 0 else len(text)
                return end, _malformed(text[start:end], f"unclosed {self.opening}")
            end = close + len(self.closing)
        return end, _call_of_json(text[start:end], text[inner : end - len(self.closing)])

    def _end_of_json_block(self, text: str, inner: int) -> int | None:
        """Where the block ends if it holds one JSON value: a tag inside a JSON string closes nothing."""
        try:
            _, after = _SCANNER.raw_decode(text, _skip_space(text, inner))
        except (ValueError, RecursionError):
            return None
        after = _skip_space(text, after)
        return after + len(self.closing) if text.startswith(self.closing, after) else None


class PythonParser:
    """`f(a=1)`, one or several, bare, in brackets or one a line, as Llama and BFCL prompts write calls."""

    _head = re.compile(r"(?:^[ \t]*\[?|(?<=,)|(?<=;))[ \t]*(?P<call>[^\W\d]\w*(?:\.[^\W\d]\w*)*\()", re.MULTILINE)
    _follower = re.compile(r"\s*[,;]\s*(?P<call>[^\W\d]\w*(?:\.[^\W\d]\w*)*\()")

    def parse(self, text: str) -> ParsedTurn:
        """Read one assistant turn; never raises."""
        return _assemble(text, list(self._calls(text)), separators=" \t\r\n,;[]")

    def locate(self, text: str, turn: ParsedTurn | None = None) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(text)` stand, in the same order; never raises."""
        return _located(turn or self.parse(text), lambda span: self._place(text, span))

    def _place(self, text: str, span: Span) -> CallPlace:
        inner = text.index("(", span[0]) + 1
        plain = _plain_call(text, span[0], inner)
        if plain is None:
            return _place_of_python(text, span)
        _, arguments, _ = plain
        return CallPlace(
            span=span,
            name=(span[0], inner - 1),
            keys={f"/{argument['key']}": argument.span("key") for argument in arguments},
            values={f"/{argument['key']}": argument.span("value") for argument in arguments},
        )

    def format(self, content: str, calls: Sequence[Call]) -> str:
        """Write one assistant turn; the text of malformed calls is kept as it is."""
        lines = [call.text if isinstance(call, MalformedCall) else self._format_call(call) for call in calls]
        return "\n".join([content] * bool(content) + lines)

    def _format_call(self, call: ToolCall) -> str:
        return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"

    def _calls(self, text: str) -> Iterator[tuple[Span, Call]]:
        position = 0
        after_call = False
        while True:
            match = self._follower.match(text, position) if after_call else None
            match = match or self._head.search(text, position)
            if match is None:
                return
            start, inner = match.span("call")
            plain = _plain_call(text, start, inner)
            if plain is not None:
                call, _, position = plain
                yield (start, position), call
                after_call = True
                continue
            end = _end_of_parenthesis(text, inner - 1)
            if end is None:
                line_end = text.find("\n", inner)
                position = line_end if line_end >= 0 else len(text)
                yield (start, position), _malformed(text[start:position], "unclosed parenthesis")
            else:
                yield (start, end), _call_of_python(text[start:end])
                position = end
            after_call = True


class ReactParser:
    """`Thought: ...` / `Action: name` / `Action Input: {...}`, as ReAct prompts write calls."""

    _label = re.compile(r"^[ \t]*(Thought|Action Input|Action|Observation|Final Answer)[ \t]*:", re.MULTILINE)

    def parse(self, text: str) -> ParsedTurn:
        """Read one assistant turn; never raises."""
        found: list[tuple[Span, Call]] = []
        content: list[str] = []
        sections = self._sections(text)
        content.append(text[: sections[0][1]] if sections else text)
        index = 0
        while index < len(sections):
            label, start, body, end = sections[index]
            index += 1
            if label == "Action":
                if index < len(sections) and sections[index][0] == "Action Input":
                    input_body, end = sections[index][2:]
                    index += 1
                    found.append(
                        (
                            (start, end),
                            self._call(text[start:end], text[body : sections[index - 1][1]], text[input_body:end]),
                        )
                    )
                else:
                    found.append(((start, end), _malformed(text[start:end], "Action without Action Input")))
            elif label == "Action Input":
                found.append(((start, end), _malformed(text[start:end], "Action Input without Action")))
            else:
                content.append(text[body:end] if label == "Thought" else text[start:end])
        return ParsedTurn(
            content="\n".join(piece.strip() for piece in content if piece.strip()),
            calls=tuple([call for _, call in found]),
            spans=tuple([_stripped(text, span) for span, _ in found]),
        )

    def locate(self, text: str, turn: ParsedTurn | None = None) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(text)` stand, in the same order; never raises."""
        return _located(turn or self.parse(text), lambda span: self._place(text, span))

    def _place(self, text: str, span: Span) -> CallPlace:
        name = text.index(":", span[0]) + 1
        label = self._label.search(text, name)
        assert label is not None, "a call that was read has an Action Input"
        keys, values = places_in_json(text, label.end(), span[1])
        return CallPlace(span=span, name=_stripped(text, (name, label.start())), keys=keys, values=values)

    def format(self, content: str, calls: Sequence[Call]) -> str:
        """Write one assistant turn; the text of malformed calls is kept as it is."""
        lines = [f"Thought: {content}"] * bool(content)
        for call in calls:
            if isinstance(call, MalformedCall):
                lines.append(call.text)
            else:
                arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
                lines.append(f"Action: {call.name}\nAction Input: {arguments}")
        return "\n".join(lines)

    def _sections(self, text: str) -> list[tuple[str, int, int, int]]:
        """(label, start, start of its body, end) of each labelled section."""
        labels = list(self._label.finditer(text))
        ends = [label.start() for label in labels[1:]] + [len(text)] * bool(labels)
        return [(label[1], label.start(), label.end(), end) for label, end in zip(labels, ends, strict=True)]

    def _call(self, text: str, name: str, arguments: str) -> Call:
        name = name.strip()
        if not name:
            return _malformed(text, "no name")
        try:
            value = _load_json(arguments)
        except _Unreadable as error:
            return _malformed(text, str(error))
        if not isinstance(value, dict):
            return _malformed(text, "the arguments are not an object")
        return ToolCall(name=name, arguments=value)


PARSERS: dict[str, Parser] = {"hermes": HermesParser(), "python": PythonParser(), "react": ReactParser()}
"""The grammars by the names users give them."""


def _span_of_json(value: Json) -> Span:
    start, end = value
    return int(start), int(end)


class _Unreadable(ValueError):
    """Why a call cannot be read."""


def _malformed(text: str, reason: str) -> MalformedCall:
    return MalformedCall(text=text.strip(), reason=reason)


def _stripped(text: str, span: Span) -> Span:
    piece = text[slice(*span)]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def _assemble(text: str, found: list[tuple[Span, Call]], separators: str | None = None) -> ParsedTurn:
    """Content is what stands around the calls; `separators` are characters that only join calls."""
    pieces: list[str] = []
    position = 0
    for (start, end), _ in found:
        pieces.append(text[position:start])
        position = end
    pieces.append(text[position:])
    if found and separators is not None:
        pieces = [piece for piece in pieces if piece.strip(separators)]
    return ParsedTurn(
        content="\n".join(piece.strip() for piece in pieces if piece.strip()),
        calls=tuple([call for _, call in found]),
        spans=tuple([_stripped(text, span) for span, _ in found]),
    )


def _located(turn: ParsedTurn, place: Callable[[Span], CallPlace]) -> tuple[CallPlace, ...]:
    """The place of each call; `place` is asked only for those that could be read."""
    return tuple(
        [
            place(span) if isinstance(call, ToolCall) else CallPlace(span=span)
            for call, span in zip(turn.calls, turn.spans, strict=True)
        ]
    )


_JSON_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_JSON_SCALAR = rf'{_JSON_STRING}|[^\s{{}}\[\],:"]+'
_JSON_TOKEN = re.compile(
    rf"(?P<key>{_JSON_STRING})\s*:\s*(?P<member>{_JSON_SCALAR})?|(?P<item>{_JSON_SCALAR})|[{{}}\[\]]"
)
"""A key with its value, unless that is an object or an array; an element of an array; a bracket."""


def places_in_json(text: str, start: int, end: int) -> tuple[dict[str, Span], dict[str, Span]]:
    """Spans of the keys and of the values inside the one JSON value that is known to stand in text[start:end].

    Written without recursion: what the decoder of the standard library can read may be nested more deeply than
    functions of Python can call each other.
    """
    keys: dict[str, Span] = {}
    values: dict[str, Span] = {}
    outer: list[tuple[str, int, int]] = []
    pointer = base = ""  # Of the value that comes next, and of the container that it is in.
    index = -1  # Of the next element of an array; -1 in an object.
    for match in _JSON_TOKEN.finditer(text, start, end):
        group = match.lastgroup
        if group in ("member", "key"):
            key = json.loads(match["key"]) if "\\" in match["key"] else match["key"][1:-1]
            pointer = f"{base}/{escaped_key(key)}"
            keys[pointer] = match.span("key")
            if group == "member":
                values[pointer] = match.span("member")
            continue
        first, last = match.span()
        if text[first] in "{[":
            outer.append((base, index, first))
            base, index = pointer, 0 if text[first] == "[" else -1
            pointer = f"{base}/0"
            continue
        if group is None:  # The end of a container.
            pointer = base
            base, index, first = outer.pop()
        if outer:
            values[pointer] = (first, last)
        if index >= 0:
            index += 1
            pointer = f"{base}/{index}"
    return keys, values


def escaped_key(key: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _refuse_constant(name: str) -> NoReturn:
    raise _Unreadable(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unreadable(f"{text} is out of range")
    return value


def _object_of_pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unreadable(f"duplicate key {twice!r}")
    return value


_SCANNER = json.JSONDecoder()
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object_of_pairs)


def _load_json(text: str) -> Json:
    """Strict JSON: no NaN, no duplicate keys, nothing that cannot be written as UTF-8.

    Raises:
        _Unreadable: with the reason.
    """
    value = _plain_json(text)
    if value is not _NOT_PLAIN:
        return value
    try:
        value = _DECODER.decode(text.strip())
    except _Unreadable:
        raise
    except RecursionError:
        raise _Unreadable("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _Unreadable(f"invalid JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise _Unreadable(f"invalid JSON: {error}") from None
    _check_writable(text, value)
    _check_depth(text, value)
    return value


_NOT_PLAIN = object()


def _plain_json(text: str) -> Json:
    """The value of a text that is surely strict JSON, read several times as fast; else _NOT_PLAIN.

    msgspec reads no NaN, no number out of range and no half of a surrogate pair. Of two equal keys it keeps the last:
    where there are as many keys as colons, no key was lost.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        return _NOT_PLAIN
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return _NOT_PLAIN
    return value if _num_keys(value) == text.count(":") else _NOT_PLAIN


def _num_keys(value: Json) -> int:
    if isinstance(value, dict):
        return len(value) + sum([_num_keys(item) for item in value.values()])
    return sum([_num_keys(item) for item in value]) if isinstance(value, list) else 0


def _check_depth(text: str, value: Json) -> None:
    """A value must be one that all who walk through it can get to the bottom of."""
    if text.count("[") + text.count("{") + text.count("(") <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _Unreadable("nested too deeply")
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]


def _check_writable(text: str, value: Json) -> None:
    """A value must survive being written down: JSON allows lone surrogates, UTF-8 does not."""
    if text.isascii() and "\\" not in text and len(text) < _MANY_DIGITS:
        return  # What has no escapes and room for no endless number.
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _Unreadable("invalid unicode") from None
    except ValueError as error:
        raise _Unreadable(f"not a JSON value: {error}") from None
    except RecursionError:
        raise _Unreadable("nested too deeply") from None


def arguments_of_json(name: str, text: str) -> Call:
    """A call whose arguments were recorded as JSON text, read as strictly as the parsers read; never raises."""
    try:
        arguments = _load_json(text)
    except _Unreadable as error:
        return MalformedCall(text=text, reason=str(error))
    if not name or not isinstance(arguments, dict):
        return MalformedCall(text=text, reason="the arguments are not an object" if name else "no name")
    return ToolCall(name=name, arguments=arguments)


def _call_of_json(text: str, body: str) -> Call:
    try:
        value = _load_json(body)
    except _Unreadable as error:
        return _malformed(text, str(error))
    return _call_of_value(text, value)


def _call_of_value(text: str, value: Json) -> Call:
    if not isinstance(value, dict):
        return _malformed(text, "the call is not an object")
    unexpected = sorted(value.keys() - {"name", "arguments"})
    if not isinstance(value.get("name"), str) or not value["name"]:
        reason = "no name"
    elif "arguments" not in value:
        reason = "no arguments"
    elif not isinstance(value["arguments"], dict):
        reason = "the arguments are not an object"
    elif unexpected:
        reason = f"unexpected key {unexpected[0]!r}"
    else:
        return ToolCall(name=value["name"], arguments=value["arguments"])
    return _malformed(text, reason)


def _end_of_parenthesis(text: str, opening: int) -> int | None:
    """Index after the parenthesis that closes the one at `opening`; None if there is none."""
    depth = 0
    position = opening
    while match := _QUOTE_OR_BRACKET.search(text, position):
        character, position = match[0], match.end()
        if character in "\"'":
            after = _end_of_string(text, match.start())
            if after is None:
                return None
            position = after
        elif character in "([{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return position
    return None


_QUOTE_OR_BRACKET = re.compile(r"[\"'()\[\]{}]")


def _end_of_string(text: str, opening: int) -> int | None:
    quote = text[opening] * 3 if text.startswith(text[opening] * 3, opening) else text[opening]
    position = opening + len(quote)
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text.startswith(quote, position):
            return position + len(quote)
        elif text[position] == "\n" and len(quote) == 1:
            return None
        else:
            position += 1
    return None


def _syntax_of_python(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval").body


def _call_of_python(text: str) -> Call:
    try:
        node = _syntax_of_python(text)
        if not isinstance(node, ast.Call) or node.args:
            raise _Unreadable("positional argument" if isinstance(node, ast.Call) else "not a call")
        names = [keyword.arg for keyword in node.keywords]
        if None in names:
            raise _Unreadable("** is not allowed")
        arguments = _object_of_pairs([(keyword.arg or "", _literal(keyword.value)) for keyword in node.keywords])
        _check_writable(text, arguments)
        _check_depth(text, arguments)
    except _Unreadable as error:
        return _malformed(text, str(error))
    except SyntaxError as error:
        return _malformed(text, f"invalid syntax: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return _malformed(text, f"cannot be read: {type(error).__name__}")
    return ToolCall(name=text[: text.index("(")], arguments=arguments)


_PLAIN_ARGUMENT = re.compile(
    r"""(?P<key>[A-Za-z]\w*)=(?P<value>
        '[ -&(-\[\]-~]*' | "[ !#-\[\]-~]*"  # Printable ASCII without this quote and backslashes.
        | -?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?
        | True | False | None
    )(?:,[ ]? | (?P<last>\)))""",
    re.ASCII | re.VERBOSE,
)
_CONSTANTS: Mapping[str, bool | None] = {"True": True, "False": False, "None": None}


def _plain_call(text: str, start: int, inner: int) -> tuple[ToolCall, list[re.Match[str]], int] | None:
    """The call at `start` if its arguments, which begin at `inner`, are plain: short numbers, constants and strings.

    Most calls are, and mean what Python's own parser says of them in ten times the time.

    Returns:
        The call, its arguments, and the index after it; None if it is not plain.
    """
    name = text[start : inner - 1]
    found: list[re.Match[str]] = []
    end = inner + 1 if text.startswith(")", inner) else 0
    while not end:
        match = _PLAIN_ARGUMENT.match(text, inner)
        if match is None:
            return None
        found.append(match)
        inner = match.end()
        end = inner if match["last"] else 0
    arguments = {match["key"]: _plain_value(match["value"]) for match in found}
    words = {*arguments, *name.split(".")}
    if len(arguments) < len(found) or not name.isascii() or not _KEYWORDS.isdisjoint(words):
        return None
    return ToolCall(name=name, arguments=arguments), found, end


_KEYWORDS = frozenset(keyword.kwlist)


def _plain_value(text: str) -> Json:
    if text[0] in "\"'":
        return text[1:-1]
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return float(text) if "." in text else int(text)


def _place_of_python(text: str, span: Span) -> CallPlace:
    source = text[slice(*span)]
    node = _syntax_of_python(source)
    assert isinstance(node, ast.Call), "a call that was read"
    at = _character_places(source, span[0])
    keys: dict[str, Span] = {}
    values: dict[str, Span] = {}
    for argument in node.keywords:
        start = at(argument.lineno, argument.col_offset)
        identifier = _IDENTIFIER.match(text, start)
        assert identifier is not None and argument.arg is not None
        keys[f"/{argument.arg}"] = identifier.span()
        _place_literal(argument.value, f"/{argument.arg}", at, keys, values)
    return CallPlace(span=span, name=(span[0], span[0] + source.index("(")), keys=keys, values=values)


_IDENTIFIER = re.compile(r"[^\s=#\\]+")
"""An identifier where one is known to stand. What may be in one is not what `\\w` says."""

_LINE_END = re.compile(r"\r\n?|\n")


def _character_places(source: str, offset: int) -> Callable[[int, int], int]:
    """(line, column of bytes) of a syntax tree -> index of a character, `offset` being where the source begins."""
    starts = [0, *(match.end() for match in _LINE_END.finditer(source))]
    if source.isascii():
        return lambda line, column: offset + starts[line - 1] + column

    def place(line: int, column: int) -> int:
        start = starts[line - 1]
        return offset + start + len(source[start : start + column].encode()[:column].decode())

    return place


def _place_literal(
    node: ast.expr, pointer: str, at: Callable[[int, int], int], keys: dict[str, Span], values: dict[str, Span]
) -> None:
    values[pointer] = _span_of(node, at)
    if isinstance(node, ast.List | ast.Tuple):
        for index, element in enumerate(node.elts):
            _place_literal(element, f"{pointer}/{index}", at, keys, values)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            assert key is not None
            inner = f"{pointer}/{escaped_key(_key(key))}"
            keys[inner] = _span_of(key, at)
            _place_literal(value, inner, at, keys, values)


def _span_of(node: ast.expr, at: Callable[[int, int], int]) -> Span:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)


def _literal(node: ast.expr) -> Any:
    """The JSON value a Python literal stands for.

    Raises:
        _Unreadable: it stands for none.
    """
    match node:
        case ast.Constant(value=None | bool() | int() | str()):
            return node.value
        case ast.Constant(value=float() as number) if math.isfinite(number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if math.isfinite(
            number
        ) and not isinstance(number, bool):
            return -number
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_literal(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return _object_of_pairs([(_key(key), _literal(value)) for key, value in zip(keys, values, strict=True)])
    raise _Unreadable("a value is not a literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _Unreadable("an object key is not a string")
