"""Reading files of recorded conversations in OpenAI form: one clear error for each bad line.

Three fields are understood beside that form. `weight` 0 of an assistant message (as in OpenAI's files for fine-tuning)
keeps it as context and out of the loss; only then may its calls be unreadable. `status` of a tool message is what
became of the call, and `tools` of one are the tools that are offered from then on.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.types import Call, Json, MalformedCall, Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.parsers import arguments_of_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a JSONL file, or one row of a Parquet file."""

    number: int
    """Of the line, blank ones counted, or of the row; from 1."""
    where: str
    """File and line (or row), for messages."""
    value: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One row of a file of recorded conversations."""

    where: str
    """File and line (or row), for messages."""
    messages: tuple[Mapping[str, Json], ...]
    tools: tuple[ToolSpec, ...]


def read_recorded(path: str | Path) -> Iterator[Recorded]:
    """Read `messages` and `tools` of each line of a JSONL file (also .gz), or of each row of a Parquet file.

    Both may also be JSON strings, as they often are in Parquet.

    Raises:
        ValueError: the file cannot be read or a row is wrong; says file, line and what was expected.
    """
    for row in read_rows(path, columns=("messages", "tools")):
        try:
            yield recorded_of(row)
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error


def recorded_of(row: Row, *, unreadable_calls: bool = False) -> Recorded:
    """The conversation of a row.

    Args:
        row: of a file.
        unreadable_calls: as of `message_of_openai`.

    Raises:
        ValueError: it holds none; says what was expected, and not where.
    """
    messages = listed(row.value, "messages")
    if not messages:
        raise ValueError("messages: expected at least one")
    tools = tools_of(row.value)
    turns_of(messages, unreadable_calls=unreadable_calls)
    return Recorded(where=row.where, messages=tuple(messages), tools=tools)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTurn:
    """One assistant message of a conversation and what came back."""

    place: int
    """Index of the message in the conversation."""
    message: Message
    """Every call has an id of its own."""
    observed: tuple[Message, ...]
    """The messages up to the next assistant message."""
    results: tuple[ToolResult, ...]
    """The recorded answers to the calls, in the order of the calls; "ok" where the record states no status."""
    stated: frozenset[str]
    """Ids of the calls whose status is stated."""
    new_tools: tuple[ToolSpec, ...] | None
    """The tools offered from then on; None: unchanged."""
    train: bool
    """Whether the message is to be learned from."""

    @property
    def heard(self) -> tuple[Message, ...]:
        """What was said beside the results."""
        return tuple(message for message in self.observed if message.role != "tool")


def turns_of(
    messages: Sequence[Mapping[str, Json]], *, unreadable_calls: bool = False
) -> tuple[tuple[Message, ...], list[RecordedTurn]]:
    """The prompt of a conversation, and its turns.

    Raises:
        ValueError: a message is not in OpenAI form, or none is of the assistant, or none comes before it.
    """
    conversation = _numbered(
        [
            message_of_openai(message, f"messages[{index}]", unreadable_calls=unreadable_calls)
            for index, message in enumerate(messages)
        ]
    )
    places = [index for index, message in enumerate(conversation) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError("messages: expected an assistant message, and one of the user before it")
    turns = []
    for place, following in zip(places, [*places[1:], len(conversation)], strict=True):
        message, observed = conversation[place], conversation[place + 1 : following]
        statuses = [_status(value) for value in messages[place + 1 : following]]
        results, stated = _results(message, observed, statuses)
        turns.append(
            RecordedTurn(
                place=place,
                message=message,
                observed=tuple(observed),
                results=results,
                stated=stated,
                new_tools=_new_tools(messages, place + 1, following),
                train=_weight(messages[place], f"messages[{place}]") != 0,
            )
        )
    return tuple(conversation[: places[0]]), turns


def _numbered(messages: Sequence[Message]) -> list[Message]:
    """Calls that were recorded without an id get one that is theirs alone."""
    numbered: list[Message] = []
    count = 0
    for message in messages:
        calls: list[Call] = []
        for call in message.calls:
            calls.append(replace(call, call_id=call.call_id or f"call_{count}"))
            count += 1
        numbered.append(replace(message, calls=tuple(calls)))
    return numbered


def _results(
    message: Message, observed: Sequence[Message], statuses: Sequence[ToolStatus | None]
) -> tuple[tuple[ToolResult, ...], frozenset[str]]:
    """The recorded answers to the calls, by id where the record has ids, else in order; and whose status is stated."""
    answers = [
        (ToolResult(call_id=answer.call_id, status=status or ToolStatus.OK, content=answer.content), status is not None)
        for answer, status in zip(observed, statuses, strict=True)
        if answer.role == "tool"
    ]
    by_id = {answer.call_id: (answer, stated) for answer, stated in answers if answer.call_id}
    results: list[ToolResult] = []
    stated_ids: list[str] = []
    for index, call in enumerate(message.calls):
        found = by_id.get(call.call_id) or (answers[index] if index < len(answers) and not by_id else None)
        if found is not None:
            results.append(replace(found[0], call_id=call.call_id))
            if found[1]:
                stated_ids.append(call.call_id)
    return tuple(results), frozenset(stated_ids)


def _status(message: Mapping[str, Json]) -> ToolStatus | None:
    """The stated status of a tool message; None: none, or a word of the user's own."""
    status = message.get("status") if message.get("role") == "tool" else None
    if status == "error":
        return ToolStatus.FAILED
    return ToolStatus(status) if isinstance(status, str) and status in _STATUSES else None


_STATUSES = frozenset(map(str, ToolStatus))


def _new_tools(messages: Sequence[Mapping[str, Json]], start: int, end: int) -> tuple[ToolSpec, ...] | None:
    for index in range(start, end):
        message = messages[index]
        if message["role"] == "tool" and message.get("tools") is not None:
            where = f"messages[{index}].tools"
            if not isinstance(message["tools"], list):
                raise ValueError(f"{where}: expected a list, got {shown(message['tools'])}")
            return tuple(_tool_of_openai(tool, f"{where}[{n}]") for n, tool in enumerate(message["tools"]))
    return None


def _weight(message: Mapping[str, Json], where: str) -> Json:
    """The weight of an assistant message: 0 or 1.

    Raises:
        ValueError: it is something else.
    """
    weight = message.get("weight", 1)
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise ValueError(f"{where}.weight: expected 0 (context only) or 1, got {shown(weight)}")
    return weight


def recorded_task(recorded: Recorded, task_id: str) -> Task:
    """The task that a recorded conversation did: its prompt and tools, with no known truth."""
    return task_of_messages(recorded.messages, recorded.tools, task_id)


def task_of_messages(messages: Sequence[Json], tools: tuple[ToolSpec, ...], task_id: str) -> Task:
    """A task with no known truth: its prompt is what stands before the first message of the assistant."""
    read = [message_of_openai(message, "messages", unreadable_calls=True) for message in messages]
    roles = [message.role for message in read]
    prompt = read[: roles.index("assistant")] if "assistant" in roles else read
    return Task(task_id=task_id, prompt=tuple(prompt), tools=tools, kind="recorded")


def roles_of(messages: Sequence[Json], name: str) -> list[str]:
    """The role of each message in OpenAI form; `name` is that of the list, for errors.

    Raises:
        ValueError: a message is not in that form.
    """
    return [message_of_openai(message, f"{name}[{index}]").role for index, message in enumerate(messages)]


def message_of_openai(value: Json, where: str, *, unreadable_calls: bool = False) -> Message:
    """One message in OpenAI form.

    Args:
        value: the message.
        where: names it in errors.
        unreadable_calls: calls whose arguments are no JSON object become malformed calls; else they are refused, unless
            the message has the weight 0.

    Raises:
        ValueError: it is not in that form.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an object with role and content, got {shown(value)}")
    role = value.get("role")
    if role not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"{where}.role: expected system, user, assistant or tool, got {shown(role)}")
    calls = value.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise ValueError(f"{where}.tool_calls: expected a list, got {shown(calls)}")
    if calls and role != "assistant":
        raise ValueError(f"{where}.tool_calls: only an assistant message has calls, not one of {role}")
    if "weight" in value and role != "assistant":
        raise ValueError(f"{where}.weight: only an assistant message has one, not one of {role}")
    read = _any_call if unreadable_calls or (role == "assistant" and _weight(value, where) == 0) else _call_of_openai
    return Message(
        role=role,
        content=_content_of_openai(value.get("content"), f"{where}.content"),
        calls=tuple(read(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)),
        call_id=str(value.get("tool_call_id") or ""),
    )


def _content_of_openai(value: Json, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise ValueError(f"{where}: expected a string or text parts, got {shown(value)}")


def _call_of_openai(value: Json, where: str) -> ToolCall:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(f"{where}: expected a function with a name, got {shown(value)}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ValueError(f"{where}.arguments: invalid JSON: {error}; {_UNREADABLE}") from error
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}.arguments: expected an object, got {shown(arguments)}; {_UNREADABLE}")
    return ToolCall(call_id=str(value.get("id") or ""), name=function["name"], arguments=dict(arguments))


_UNREADABLE = 'such a call is context only: its message needs "weight": 0 (tether data mask-errors gives it)'


def _any_call(value: Json, where: str) -> Call:
    """A call, or what was meant as one: without a name, the arguments are all that was written."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping):
        raise ValueError(f"{where}: expected a function with a name, got {shown(value)}")
    name, arguments, call_id = function.get("name"), function.get("arguments"), str(value.get("id") or "")
    if isinstance(arguments, Mapping) and isinstance(name, str) and name:
        return ToolCall(call_id=call_id, name=name, arguments=dict(arguments))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    if not isinstance(name, str) or not name:
        return MalformedCall(call_id=call_id, text=text, reason="no name")
    call = arguments_of_json(name, text or "{}")
    if isinstance(call, MalformedCall):
        text = f'{{"name": {json.dumps(name)}, "arguments": {text}}}'
        return MalformedCall(call_id=call_id, text=text, reason=call.reason)
    return replace(call, call_id=call_id)


def tools_of(row: Mapping[str, Json]) -> tuple[ToolSpec, ...]:
    """The tools of a row, in OpenAI form or bare; none where it has no such field.

    Raises:
        ValueError: they are not in that form.
    """
    return tuple(_tool_of_openai(tool, f"tools[{index}]") for index, tool in enumerate(listed(row, "tools")))


def _tool_of_openai(value: Json, where: str) -> ToolSpec:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(f"{where}: expected a function schema with a name, got {shown(value)}")
    if not isinstance(function.get("parameters") or {}, Mapping):
        raise ValueError(f"{where}.parameters: expected a JSON schema, got {shown(function['parameters'])}")
    return ToolSpec.from_json(value)


def listed(row: Mapping[str, Json], name: str) -> list[Json]:
    """A field that is a list, or the JSON of one; `tools` may be missing.

    Raises:
        ValueError: it is neither.
    """
    value = row.get(name, [] if name == "tools" else None)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{name}: invalid JSON: {error}") from error
    if value is None and name == "tools":
        return []
    if not isinstance(value, list):
        raise ValueError(f"{name}: expected a list, got {shown(value)}")
    return value


def shown(value: Json) -> str:
    """A value in an error message, cut short."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def read_rows(path: str | Path, *, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The objects of a JSONL file (also .gz), or the rows of a Parquet file, without what is null in them.

    A column of Parquet that is marked as JSON, as `tether data` writes them, gives the values that its texts stand for.

    Args:
        path: of the file; its name says which kind it is.
        columns: of Parquet, those to read where there are such; None: all.

    Raises:
        ValueError: the file cannot be read, or a line is no JSON object; says file, line and what was expected.
    """
    path = Path(path)
    try:
        yield from _parquet_rows(path, columns) if path.suffix == ".parquet" else _json_lines(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def _json_lines(path: Path) -> Iterator[Row]:
    number = 0
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield Row(number=number, where=where, value=_json_object(line, where))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number + 1}: not UTF-8: {error.reason}") from error
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{path}, line {number + 1}: cannot be read on: {error}") from error


def _json_object(line: str, where: str) -> Mapping[str, Json]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {shown(value)}")
    return value


def _parquet_rows(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        known = file.schema_arrow.names
        wanted = known if columns is None else [name for name in columns if name in known]
        as_json = {field.name for field in file.schema_arrow if (field.metadata or {}).get(b"json")}
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                where = f"{path}, row {number}"
                value = _without_absent(row)
                decoded = {name: _of_json(value[name], f"{where}: {name}") for name in value if name in as_json}
                yield Row(number=number, where=where, value={**value, **decoded})
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from error


def _of_json(value: Json, where: str) -> Json:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: invalid JSON: {error}") from error


def _without_absent(value: Json) -> Json:
    """Structs of Parquet have every field in every row; those that are null were not given."""
    if isinstance(value, dict):
        return {name: _without_absent(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_absent(item) for item in value]
    return value
