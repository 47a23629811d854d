"""Records of benchmark files: JSON lines or one JSON array, plain or gzip-compressed, with the place of each."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.schema import check_schema
from envs.types import Json, ToolSpec

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json")


def find_file(folder: Path, stem: str) -> Path:
    """The file called `stem` with one of SUFFIXES.

    Raises:
        ValueError: there is none.
    """
    for suffix in SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise ValueError(f"{folder / stem}: no such file; expected it with one of {', '.join(SUFFIXES)}")


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Json]]]:
    """(`FILE:LINE`, object) of each record in file order; in an array the line is the number of the element.

    Raises:
        ValueError: the file cannot be read, or a record in it is no JSON object.
    """
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected UTF-8 JSON") from error
    for number, record in _values(path, text):
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: got {type(record).__name__}, expected a JSON object")
        yield f"{path}:{number}", record


def _values(path: Path, text: str) -> Iterator[tuple[int, Json]]:
    if text.lstrip().startswith("["):
        yield from enumerate(_parsed(path, 1, text), start=1)
        return
    # Only line feeds end a record: JSON strings may hold other characters that count as line ends in Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _parsed(path, number, line)


def _parsed(path: Path, number: int, text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}:{number}: not JSON ({error}); expected one JSON object a line") from error


def field(where: str, record: Mapping[str, Json], name: str, kind: type) -> Json:
    """Field `name` of a record, which must be a `kind`.

    Raises:
        ValueError: it is missing or something else.
    """
    value = record.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{where}: {name} is {type(value).__name__}, expected {kind.__name__}")
    return value


def proved(where: str, tools: Iterator[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The tools, each of which must have a valid schema.

    Raises:
        ValueError: one has not.
    """
    found = tuple(tools)
    for tool in found:
        try:
            check_schema(tool.parameters)
        except ValueError as error:
            raise ValueError(f"{where}: tool {tool.name}: {error}") from error
    return found
