"""One line of `tether score`: record -> trajectory -> errors with their characters, and a score.

The format is that of CONTRACTS in `docs/formats.md`. Nothing here reads or writes files.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec

from envs.actions import ACTION_NAMES, ACTIONS, CHANGE_TOOLS, TALK_TO_USER
from envs.record import record
from envs.schema import PatternTooSlow, check_schema
from envs.types import Call, Json, MalformedCall, Message, Task, TaskKind, ToolCall, ToolSpec
from rewards.classify import judge
from rewards.replies import Scheme
from rewards.spans import error_span
from rewards.types import CallError
from rollout.parsers import PARSERS, CallPlace, ParsedTurn, Parser, arguments_of_json
from rollout.recorded import message_of_openai, shown
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered

FIELDS = ("id", "tools", "query", "history", "calls", "text", "grammar", "reference", "ordered")
_FIELDS = frozenset(FIELDS)
_NAME = attrgetter("name")
JSON_FIELDS = ("tools", "history", "calls", "reference")
"""Those that are JSON strings in Parquet."""


class BadRecord(ValueError):
    """The record is none that can be scored."""


class ToolList(list[Json]):
    """The `tools` of a record, as they stand in many records of a file: they are read once."""

    __slots__ = ("proven", "read")

    def __init__(self, tools: list[Json]) -> None:
        super().__init__(tools)
        self.read: _Tools | None = None
        self.proven: set[str] = set()
        """Names of those whose schema was proven."""


class Written(NamedTuple):
    """A reply that was given as text."""

    text: str
    parser: Parser
    turn: ParsedTurn


@record
class Recorded:
    """One recorded reply, ready to be judged."""

    record_id: str | int
    trajectory: Trajectory
    written: Written | None = None
    """What the calls were parsed from."""


class PlainRecord(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A record with nothing but the known fields, each of its usual form: msgspec has seen to that."""

    id: str | int
    tools: Json
    query: str | None = None
    history: list[Json] | None = None
    calls: list[ToolCall] | None = None
    text: str | None = None
    grammar: str | None = None
    reference: list[ToolCall] | None = None
    ordered: bool | None = None

    def is_plain(self) -> bool:
        """Whether it is one indeed, by what no type says."""
        if self.text is not None:
            is_reply = self.calls is None and self.grammar in PARSERS
        else:
            is_reply = self.calls is not None and "" not in map(_NAME, self.calls)
        return is_reply and (self.reference is None or "" not in map(_NAME, self.reference))


def recorded_reply(record: Json | PlainRecord) -> Recorded:
    """A record of the input as a trajectory of one turn.

    Raises:
        BadRecord: says which field is wrong and what was expected.
    """
    try:
        return _of_plain(record) if isinstance(record, PlainRecord) else _recorded_reply(record)
    except ValueError as error:
        raise BadRecord(str(error)) from error


def _recorded_reply(record: Json) -> Recorded:
    if not isinstance(record, dict):
        raise ValueError(f"expected an object with {', '.join(FIELDS[:3])}, ...; got {shown(record)}")
    _check_fields(record)
    record_id = record.get("id")
    if not isinstance(record_id, (str, int)) or isinstance(record_id, bool):
        raise ValueError(f"id: expected a string or an integer, got {shown(record_id)}")
    message, written = _reply(record)
    tools = _tools(record.get("tools"), message)
    reference = reference_of(record.get("reference"))
    ordered = record.get("ordered")
    if ordered is not None and not isinstance(ordered, bool):
        raise ValueError(f"ordered: expected true or false, got {shown(ordered)}")
    prompt = _prompt(record.get("history"), record.get("query"))
    return _recorded(record_id, prompt, tools, reference, bool(ordered), message, written)


def _of_plain(record: PlainRecord) -> Recorded:
    if record.calls is not None:
        message, written = Message(role="assistant", calls=tuple(record.calls)), None
    else:
        assert record.text is not None and record.grammar is not None
        message, written = _parsed(record.text, record.grammar)
    tools = _tools(record.tools, message)
    reference = None if record.reference is None else tuple(record.reference)
    prompt = _prompt(record.history, record.query)
    return _recorded(record.id, prompt, tools, reference, bool(record.ordered), message, written)


def _recorded(
    record_id: str | int,
    prompt: tuple[Message, ...],
    tools: _Tools,
    reference: tuple[ToolCall, ...] | None,
    ordered: bool,
    message: Message,
    written: Written | None,
) -> Recorded:
    task = Task(
        task_id=str(record_id),
        prompt=prompt,
        tools=tools.given,
        reference=reference,
        ordered=ordered,
        kind=kind_of_reference(reference, ordered=ordered),
    )
    trajectory = unrendered(task, [(message, ())], tools=tools.offered)
    return Recorded(record_id=record_id, trajectory=trajectory, written=written)


class _Tools(NamedTuple):
    """The tools of a record."""

    given: tuple[ToolSpec, ...]
    offered: tuple[ToolSpec, ...]
    """With the actions."""


def _with_actions(tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
    """The tools and the actions: of one name, the record's own."""
    if any(tool.name in ACTION_NAMES for tool in tools):
        names = {tool.name for tool in tools}
        return (*tools, *(action for action in ACTIONS if action.name not in names))
    return tools + ACTIONS


def score_record(record: Json | PlainRecord, scheme: Scheme) -> dict[str, Json]:
    """The line of the output for one record.

    Raises:
        BadRecord: as `recorded_reply`.
    """
    try:
        recorded = recorded_reply(record)
        verdict = judge(recorded.trajectory)
        reply = scheme.reply(recorded.trajectory, verdict)
    except RecursionError:
        raise BadRecord("expected a record that is not nested so deeply") from None
    except PatternTooSlow as error:
        raise BadRecord(f"tools: {error}") from None
    line: dict[str, Json] = {
        "id": recorded.record_id,
        "errors": errors_json(verdict.errors, recorded) if verdict.errors else [],
        "score": reply.value,
    }
    if reply.unscored:
        line["unscored"] = reply.unscored
    return line


def errors_json(errors: Sequence[CallError], recorded: Recorded) -> list[dict[str, Json]]:
    """The errors of a record, with their characters where the record has a text."""
    places: Sequence[CallPlace] = ()
    if recorded.written is not None:
        text, parser, turn = recorded.written
        places = parser.locate(text, turn)
    return [_error_json(error, places) for error in errors]


def _error_json(error: CallError, places: Sequence[CallPlace]) -> dict[str, Json]:
    value: dict[str, Json] = {"call": error.call, "kind": error.kind.value}
    if error.argument is not None:
        value["argument"] = error.argument
    if places and error.call is not None:
        span = error_span(places[error.call], error.kind, error.argument)
        if span is not None:
            value["span"] = list(span)
    value["detail"] = error.detail
    return value


# The parts of a record.


def _check_fields(record: Mapping[str, Json]) -> None:
    """A field that nobody knows is of the user's own, unless it looks like a slip of the pen."""
    if record.keys() <= _FIELDS:
        return
    for name in record.keys() - _FIELDS:
        meant = _nearest(name)
        if meant and meant not in record:
            raise ValueError(f"unknown field {name!r}; did you mean {meant!r}?")


@lru_cache(maxsize=4096)
def _nearest(name: str) -> str:
    return next(iter(difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.85)), "")


def _tools(value: Json, message: Message) -> _Tools:
    """The tools; of those that the message calls, the schema is proven: no other is used."""
    if not isinstance(value, list):
        raise ValueError(f"tools: expected a list of function schemas, got {shown(value)}")
    called = {call.name for call in message.calls if isinstance(call, ToolCall)}
    if not isinstance(value, ToolList):
        specs = _specs(value)
        _prove(specs, called)
        return _Tools(specs, _with_actions(specs))
    if value.read is None:
        specs = _specs(value)
        value.read = _Tools(specs, _with_actions(specs))
    if not called <= value.proven:
        value.proven |= _prove(value.read.given, called - value.proven)
    return value.read


def _specs(value: list[Json]) -> tuple[ToolSpec, ...]:
    found: dict[str, ToolSpec] = {}
    for index, item in enumerate(value):
        tool = _tool(item, index)
        if tool.name in found and found[tool.name] != tool:
            raise ValueError(f"tools[{index}]: there is another tool named {tool.name!r}")
        found[tool.name] = tool
    return tuple(found.values())


def _prove(tools: Sequence[ToolSpec], called: Set[str]) -> set[str]:
    """Prove the schemas of the tools that were called; returns their names."""
    proven: set[str] = set()
    for tool in tools:
        if tool.name in called:
            try:
                check_schema(tool.parameters)
            except ValueError as error:
                raise ValueError(f"tools: {tool.name}: {error}") from error
            proven.add(tool.name)
    return proven


def _tool(value: Json, index: int) -> ToolSpec:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(f"tools[{index}]: expected a function schema with a name, got {shown(value)}")
    description = function.get("description") or ""
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(description, str):
        raise ValueError(f"tools[{index}].description: expected a string, got {shown(description)}")
    if not isinstance(parameters, dict):
        raise ValueError(f"tools[{index}].parameters: expected a JSON schema, got {shown(parameters)}")
    return ToolSpec(name=function["name"], description=description, parameters=parameters)


def _prompt(history: Json, query: Json) -> tuple[Message, ...]:
    if history is not None and not isinstance(history, list):
        raise ValueError(f"history: expected a list of messages, got {shown(history)}")
    if query is not None and not isinstance(query, str):
        raise ValueError(f"query: expected a string, got {shown(query)}")
    messages = tuple(_message(message, f"history[{index}]") for index, message in enumerate(history or ()))
    return messages if query is None else (*messages, Message(role="user", content=query))


def _message(value: Json, where: str) -> Message:
    """A message of the history. Its calls are not judged again: what was said and answered is what counts."""
    if isinstance(value, dict):
        value = {"role": value.get("role"), "content": value.get("content")}
    return message_of_openai(value, where)


def _reply(record: Mapping[str, Json]) -> tuple[Message, Written | None]:
    calls, text, grammar = record.get("calls"), record.get("text"), record.get("grammar")
    if calls is not None and text is not None:
        raise ValueError("calls and text: expected one of the two")
    if calls is not None:
        if not isinstance(calls, list):
            raise ValueError(f"calls: expected a list, got {shown(calls)}")
        made = tuple([_call(call, index) for index, call in enumerate(calls)])
        return Message(role="assistant", calls=made), None
    if not isinstance(text, str):
        raise ValueError(f"calls or text: expected a list of calls, or a string; got {shown(text)}")
    if not isinstance(grammar, str) or grammar not in PARSERS:
        raise ValueError(f"grammar: expected one of {', '.join(PARSERS)}, got {shown(grammar)}")
    return _parsed(text, grammar)


def _parsed(text: str, grammar: str) -> tuple[Message, Written]:
    parser = PARSERS[grammar]
    turn = parser.parse(text)
    return Message(role="assistant", content=turn.content, calls=turn.calls), Written(text, parser, turn)


def _call(value: Json, index: int) -> Call:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(
            f'calls[{index}]: expected {{"name": string, "arguments": object or JSON string}}, got {shown(value)}'
        )
    name, arguments = value["name"], value.get("arguments")
    if isinstance(arguments, str):
        return arguments_of_json(name, arguments)
    if not isinstance(arguments, dict):
        raise ValueError(f"calls[{index}].arguments: expected an object or a JSON string, got {shown(arguments)}")
    if not name:
        return MalformedCall(text=json.dumps(arguments), reason="no name")
    return ToolCall(name=name, arguments=arguments)


def reference_of(value: Json) -> tuple[ToolCall, ...] | None:
    """The calls of a `reference`; None: unknown.

    Raises:
        ValueError: it is no list of calls.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"reference: expected a list of calls, got {shown(value)}")
    return tuple([_reference_call(call, index) for index, call in enumerate(value)])


def _reference_call(value: Json, index: int) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ValueError(f'reference[{index}]: expected {{"name": string, "arguments": object}}, got {shown(value)}')
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):
        call = arguments_of_json(value["name"], arguments)
        if isinstance(call, MalformedCall):
            raise ValueError(f"reference[{index}].arguments: {call.reason}")
        arguments = call.arguments
    if not isinstance(arguments, dict):
        raise ValueError(f"reference[{index}].arguments: expected an object or a JSON string, got {shown(arguments)}")
    return ToolCall(name=value["name"], arguments=arguments)


def kind_of_reference(reference: Sequence[ToolCall] | None, *, ordered: bool) -> str:
    """What the reference says of the task: values are missing, or no tool serves."""
    names = list(map(_NAME, reference or ()))
    if TALK_TO_USER in names:
        return TaskKind.MISSING_ARGUMENT
    if CHANGE_TOOLS in names:
        return TaskKind.UNMATCHED_TOOLS
    if len(names) > 1:
        return TaskKind.CHAIN if ordered else TaskKind.PARALLEL
    return TaskKind.SINGLE
