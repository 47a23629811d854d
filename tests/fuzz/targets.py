"""What is fuzzed: parsers, schema checks and the input of `tether score`, each a function of bytes.

Bytes decide what is built, so that both hypothesis and atheris can drive them; a part of the cases is the bytes as they
stand. A target returns, or raises what is a bug.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envs.schema import check, check_schema
from rewards.schemes import SCHEMES, scheme
from rewards.types import ErrorKind
from rl.score_files import Chunk, score_chunk
from rollout.parsers import PARSERS

FRAGMENTS = (
    "<tool_call>", "</tool_call>", "\n", '{"name": "f", "arguments": {}}', '{"name": ', '"arguments"', "{", "}", "[",
    "]", "NaN", "1e999", '"\\ud800"', "f(", "f(a=1)", ")", "'", '"', "\\", ",", ";", "**x", "Action: f", "Thought: ",
    "Action Input: ", "Observation:", "-", "lambda", "\x00", "<|im_end|>", "\u0661", "9" * 5000, "0x" + "f" * 5000,
    "[" * 70, "{" * 70, "a", "b", "c", " ", "'''", '"""', "#", ":", "a=", "=", "\r", "\u2028", "\ufeff", "\ud800",
    "(" * 300, "f(a=(", "-" * 300, "~", "not ", "1_0", "1e5", "0.1", "\\N{DASH}", "{**a}", "b''", "f''", "...", "1j",
    '{"a/b~c": [1, {"d": "e"}]}', "talk_to_user(", "finish(answer=", "\U0001f600", "e\u0301",
)  # fmt: skip
WORDS = (
    "Oslo", "oslo ", "", "3", "three", "2026-03-01", "March 1, 2026", "01/02/03", "next week", "12:30", "5 km", "50%",
    "USD", "NY", "a/b~c", "page", "limit", "\uff2f\uff33", "\u6771\u4eac", "\ud800", "x" * 300, "true", "null", "[]",
    "any_of", "1e400", "-0", "12pm", "twenty-one", "$3.50", "Europe/Oslo", "1,000", "1.000,5",
    "\u0661", "\u00b2", "\u2460", "a{" + "9" * 20 + "}", "(" * 3000,
)  # fmt: skip
NAMES = ("f", "g", "f", "g", "finish", "talk_to_user", "change_tools", "", "\u00fc", "a b", "a.b")
KEYS = ("a", "b", "c", "a/b", "a~b", "city", "page", "missing", "question", "answer", "reason", "", "any_of")
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null", "any", "dict")
KEYWORDS = (
    "type", "properties", "required", "enum", "const", "default", "items", "format", "pattern", "minimum", "maximum",
    "multipleOf", "minLength", "uniqueItems", "anyOf", "oneOf", "allOf", "not", "if", "then", "$ref", "$defs", "$id",
    "additionalProperties", "patternProperties", "prefixItems", "description", "examples", "$anchor",
    "dependentRequired",
    "contains", "propertyNames", "$dynamicRef", "title", "unevaluatedProperties", "minItems", "exclusiveMinimum",
)  # fmt: skip


class Source:
    """Choices made of bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def below(self, num: int) -> int:
        """A number from 0 to num - 1."""
        if self._place >= len(self._data):
            return 0
        self._place += 1
        return self._data[self._place - 1] % num

    def pick(self, values: Sequence[Any]) -> Any:
        """One of the values."""
        return values[self.below(len(values))]

    def text(self) -> str:
        """Fragments of calls, one after the other."""
        return "".join(self.pick(FRAGMENTS) for _ in range(self.below(12)))

    def value(self, depth: int = 3) -> Any:
        """Any JSON value."""
        kind = self.below(12 if depth else 9)
        match kind:
            case 0:
                return None
            case 1:
                return bool(self.below(2))
            case 2:
                return self.below(256) - 128
            case 3:
                return 10 ** (3 * self.below(256))
            case 4:
                return self.pick((0.0, -0.0, 0.1, 1e308, 5e-324, 3.0, 1e22, 2.5))
            case 5 | 6 | 7:
                return self.pick(WORDS)
            case 8:
                return self.text()
            case 9:
                return [self.value(depth - 1) for _ in range(self.below(4))]
        return {self.pick(KEYS): self.value(depth - 1) for _ in range(self.below(4))}

    def schema(self, depth: int = 3) -> Any:
        """Something like a JSON schema."""
        if self.below(16) == 15:
            return self.value(1)
        found: dict[str, Any] = {}
        for _ in range(self.below(4)):
            keyword = self.pick(KEYWORDS)
            found[keyword] = self._keyword(keyword, depth)
        return found

    def _keyword(self, keyword: str, depth: int) -> Any:
        if self.below(16) == 15:
            return self.value(1)
        if keyword in ("properties", "$defs", "patternProperties"):
            return {self.pick(KEYS): self.schema(depth - 1) if depth else {} for _ in range(self.below(4))}
        if keyword in ("items", "not", "if", "then", "additionalProperties", "contains", "propertyNames"):
            return self.schema(depth - 1) if depth else True
        if keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            return [self.schema(depth - 1) if depth else {} for _ in range(1 + self.below(2))]
        match keyword:
            case "type":
                return self.pick(TYPES)
            case "required":
                return [self.pick(KEYS) for _ in range(self.below(3))]
            case "enum" | "examples":
                return [self.value(1) for _ in range(1 + self.below(3))]
            case "format":
                return self.pick(("date", "date-time", "email", "uri", "regex", "ipv4", "uuid", "idn-hostname", "x"))
            case "pattern":
                return self.pick(("^a", "[", "\\d+", "(?i)x", "\\p{L}", "{e}", "a{" + "9" * 20 + "}", "(" * 3000))
            case "$ref" | "$dynamicRef":
                return self.pick(("#", "#/$defs/a", "#/properties/a", "#a", "http://127.0.0.1:9/x", "x.json", "#/nope"))
            case "$id":
                return self.pick(("http://x/y", "http://[", "#", ""))
            case "uniqueItems" | "unevaluatedProperties":
                return bool(self.below(2))
            case "description" | "title" | "$anchor":
                return self.pick(WORDS)
        return self.value(1)

    def call(self, *, reference: bool = False) -> Any:
        """A made call or one of a reference."""
        arguments: Any = {self.pick(KEYS): self.value(2) for _ in range(self.below(4))}
        if reference and self.below(3) == 2:
            arguments = {key: {"any_of": [value, "", self.value(1)]} for key, value in arguments.items()}
        if self.below(6) == 5:
            arguments = json.dumps(arguments) if self.below(2) else self.text()
        return {"name": self.pick(NAMES), "arguments": arguments}

    def record(self) -> dict[str, Any]:
        """Something like a record of `tether score`."""
        tools = [
            {"name": self.pick(NAMES), "description": self.pick(WORDS), "parameters": {"type": "object", **parameters}}
            for parameters in (self._parameters() for _ in range(1 + self.below(3)))
        ]
        record: dict[str, Any] = {
            "id": self.below(256),
            "tools": tools,
            "query": " ".join(self.pick(WORDS) for _ in range(3)),
        }
        if self.below(2):
            record["calls"] = [self.call() for _ in range(self.below(4))]
        else:
            record["text"], record["grammar"] = self._written(), self.pick(tuple(PARSERS))
        if self.below(4):
            record["reference"] = [self.call(reference=True) for _ in range(self.below(4))]
            record["ordered"] = bool(self.below(2))
        if self.below(4) == 3:
            record["history"] = [
                {"role": self.pick(("user", "assistant", "tool", "system")), "content": self.pick(WORDS)}
                for _ in range(self.below(3))
            ]
        if self.below(8) == 7:
            record[self.pick((*record, "x", "refrence", "grammar"))] = self.value()
        return record

    def _parameters(self) -> dict[str, Any]:
        properties = {self.pick(KEYS): self.schema(2) for _ in range(self.below(4))}
        found: dict[str, Any] = {"properties": properties}
        if properties and self.below(2):
            found["required"] = list(properties)[: 1 + self.below(2)]
        if self.below(8) == 7:
            more = self.schema(2)
            found |= more if isinstance(more, dict) else {"x": more}
        return found

    def _written(self) -> str:
        if self.below(3) == 0:
            return self.text()
        grammar = self.pick(tuple(PARSERS))
        calls = [
            PARSERS["hermes"].parse(f"<tool_call>{json.dumps(self.call())}</tool_call>").calls[0] for _ in range(2)
        ]
        return PARSERS[grammar].format(self.pick(WORDS), calls) + self.text()


def parse(data: bytes) -> None:
    """Parsers: no text makes them raise, and what they find has its place in the text."""
    source = Source(data)
    raw = data.decode("utf-8", "surrogatepass" if source.below(2) else "replace") if _is_text(data) else source.text()
    for text in (raw, source.text()):
        for parser in PARSERS.values():
            turn = parser.parse(text)
            places = parser.locate(text)
            assert len(turn.calls) == len(turn.spans) == len(places)
            for call, span, place in zip(turn.calls, turn.spans, places, strict=True):
                assert 0 <= span[0] <= span[1] <= len(text)
                assert place.span == span
                for start, end in [*place.keys.values(), *place.values.values(), *([place.name] if place.name else [])]:
                    assert span[0] <= start <= end <= span[1]
                json.dumps(call.to_json(), allow_nan=False)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def schema(data: bytes) -> None:
    """Schema checks: a schema is refused by a ValueError, or it can be used with any arguments."""
    source = Source(data)
    parameters = {"type": "object", **source._parameters()} if source.below(4) else source.schema()
    try:
        check_schema(parameters)
    except ValueError:
        return
    for _ in range(3):
        for problem in check(source.value(4), parameters):
            assert problem.pointer == "" or problem.pointer.startswith("/")


_SCHEMES = {name: scheme(name) for name in SCHEMES}


def score(data: bytes) -> None:
    """Lines of `tether score`: a line of output that says what the contract says, or one clear fault."""
    source = Source(data)
    lines = [data.replace(b"\n", b" ")]
    record = source.record()
    line = json.dumps(record).encode()
    lines.append(line)
    if source.below(4) == 3:
        place = source.below(256) * len(line) // 256
        lines.append(line[:place] + bytes([source.below(256)]).replace(b"\n", b" ") + line[place + source.below(3) :])
    if source.below(8) == 7:
        lines.append(json.dumps(source.value(4)).encode())
    chunk = Chunk(start=1, items=tuple(lines), position=0)
    for name, one in _SCHEMES.items():
        scored = score_chunk(chunk, one, skip_bad=True)
        assert scored.num + len(scored.faults) + sum(item.isspace() for item in lines) == len(lines)
        for fault in scored.faults:
            assert fault.reason and "\n" not in fault.reason
        for written in scored.lines.splitlines():
            _check_line(json.loads(written, parse_constant=_refuse), record, name)


def _check_line(line: Mapping[str, Any], record: Mapping[str, Any], name: str) -> None:
    assert set(line) - {"unscored"} == {"id", "errors", "score"}
    assert (line["score"] is None) == ("unscored" in line), name
    for error in line["errors"]:
        assert error["kind"] in set(ErrorKind)
        assert (error["call"] is None) == (error["kind"] == ErrorKind.MISSING_CALL)
        if "span" in error and isinstance(record.get("text"), str):
            start, end = error["span"]
            assert 0 <= start <= end


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} in the output")


TARGETS: Mapping[str, Callable[[bytes], None]] = {"parse": parse, "schema": schema, "score": score}
