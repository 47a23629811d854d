"""Reading files of recorded conversations in OpenAI form: one clear error for each bad line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.types import Json, Message, Task, ToolCall, ToolSpec


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


def recorded_of(row: Row) -> Recorded:
    """The conversation of a row.

    Raises:
        ValueError: it holds none; says what was expected, and not where.
    """
    messages = listed(row.value, "messages")
    if not messages:
        raise ValueError("messages: expected at least one")
    tools = tools_of(row.value)
    roles = roles_of(messages, "messages")
    if "assistant" not in roles or roles[0] == "assistant":
        raise ValueError("messages: expected an assistant message, and one of the user before it")
    return Recorded(where=row.where, messages=tuple(messages), tools=tools)


def recorded_task(recorded: Recorded, task_id: str) -> Task:
    """The task that a recorded conversation did: its prompt and tools, with no known truth."""
    return task_of_messages(recorded.messages, recorded.tools, task_id)


def task_of_messages(messages: Sequence[Json], tools: tuple[ToolSpec, ...], task_id: str) -> Task:
    """A task with no known truth: its prompt is what stands before the first message of the assistant."""
    read = [message_of_openai(message, "messages") for message in messages]
    roles = [message.role for message in read]
    prompt = read[: roles.index("assistant")] if "assistant" in roles else read
    return Task(task_id=task_id, prompt=tuple(prompt), tools=tools, kind="recorded")


def roles_of(messages: Sequence[Json], name: str) -> list[str]:
    """The role of each message in OpenAI form; `name` is that of the list, for errors.

    Raises:
        ValueError: a message is not in that form.
    """
    return [message_of_openai(message, f"{name}[{index}]").role for index, message in enumerate(messages)]


def message_of_openai(value: Json, where: str) -> Message:
    """One message in OpenAI form; `where` names it in errors.

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
    return Message(
        role=role,
        content=_content_of_openai(value.get("content"), f"{where}.content"),
        calls=tuple(_call_of_openai(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)),
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
            raise ValueError(f"{where}.arguments: invalid JSON: {error}") from error
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}.arguments: expected an object, got {shown(arguments)}")
    return ToolCall(call_id=str(value.get("id") or ""), name=function["name"], arguments=dict(arguments))


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
        number = 0
        for batch in file.iter_batches(batch_size=256, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield Row(number=number, where=f"{path}, row {number}", value=_without_absent(row))
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from error


def _without_absent(value: Json) -> Json:
    """Structs of Parquet have every field in every row; those that are null were not given."""
    if isinstance(value, dict):
        return {name: _without_absent(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_absent(item) for item in value]
    return value
