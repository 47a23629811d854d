"""Normalises the real API documents once: `python -m envs.toolworld.build_catalogue SEAL_TOOLS TOOLEYES`.

SEAL_TOOLS and TOOLEYES are the folders of the two data sets. What test sets offer or call is left out. The result is
committed as package data; nothing at run time needs the sources.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from envs.types import Json

MAX_PARAMETERS = 5
MAX_RESULTS = 2

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_ACCESS_KEY = re.compile(r"^(x_?)?(rapid_?)?(api_?key|key|token|access_?token|appid|app_?key)$", re.IGNORECASE)
_EXAMPLES = re.compile(r"\(?\be\.?g\.?[,:]?\s*([^()]{2,120})\)?", re.IGNORECASE)
_CHOICES = re.compile(r"\[([^\[\]]{3,200})\]")
_PLAIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 .:+\-]*$")
_HELPERS = ("ask_to_user", "finish")


def main() -> None:
    """Write train.jsonl.gz and heldout.jsonl.gz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seal_tools", type=Path)
    parser.add_argument("tooleyes", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    args = parser.parse_args()
    train = sorted(seal_tools(args.seal_tools), key=lambda tool: tool["name"])
    heldout = sorted(tooleyes(args.tooleyes), key=lambda tool: tool["name"])
    names = {tool["name"] for tool in heldout}
    _write(args.out / "train.jsonl.gz", (tool for tool in train if tool["name"] not in names))
    _write(args.out / "heldout.jsonl.gz", heldout)


def seal_tools(folder: Path) -> Iterator[dict[str, Json]]:
    """The Seal-Tools documents that no query of any of its sets offers or calls."""
    used: set[str] = set()
    for name in ("dev", "test_in_domain", "test_out_domain"):
        for record in _read(folder / f"candidates_{name}.jsonl.gz"):
            used.update(record["candidates"])
        for record in _read(folder / f"{name}.jsonl.gz"):
            used.update(call["api"] for call in record["calling"])
    for record in _read(folder / "tool.jsonl.gz"):
        if record["api_name"] in used or len(record["parameters"]) > MAX_PARAMETERS:
            continue
        properties = {
            name: _property(_TYPES[parameter["type"]], parameter["description"])
            for name, parameter in record["parameters"].items()
        }
        results = {
            name: {"type": _TYPES[field["type"]]}
            for name, field in record["responses"].items()
            if field["type"] in _TYPES
        }
        yield _tool(
            record["api_name"],
            record["api_description"],
            properties,
            [name for name in properties if name in record["required"]],
            dict(list(results.items())[:MAX_RESULTS]),
        )


def tooleyes(folder: Path) -> Iterator[dict[str, Json]]:
    """The distinct functions of the ToolEyes library, without helpers and without parameters for access keys."""
    seen = set(_HELPERS)
    for record in _read(folder / "tool_library.jsonl.gz"):
        for function in record["functions"]:
            schema = function["parameters"]
            properties = {
                name: _property(parameter["type"], parameter.get("description", ""))
                for name, parameter in schema["properties"].items()
                if not _ACCESS_KEY.match(name)
            }
            if function["name"] in seen or len(properties) > MAX_PARAMETERS:
                continue
            seen.add(function["name"])
            required = [name for name in properties if name in schema["required"]]
            yield _tool(function["name"], function["description"], properties, required, {})


def examples(kind: str, description: str) -> list[Json]:
    """The example values that a description names, as values of that type."""
    text = _EXAMPLES.search(description) or _CHOICES.search(description)
    if text is None or kind == "boolean":
        return []
    found: list[Json] = []
    for part in re.split(r"[,;|]|\bor\b", text.group(1)):
        value = _typed(kind, part.strip().strip("\"'`").rstrip("."))
        if value is not None and value not in found:
            found.append(value)
    # A single "example" is as often a remark; a pair of numbers as often the bounds of a range.
    numeric = all(str(value).replace(".", "").isdigit() for value in found)
    return [] if len(found) < 2 or (kind == "string" and numeric) else found[:6]


def _typed(kind: str, text: str) -> Json:
    if kind == "string":
        short = 1 < len(text) <= 24 and text.count(" ") <= 2
        return text if short and _PLAIN.match(text) and "etc" not in text.lower() else None
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError:
        return None


def _property(kind: str, description: str) -> dict[str, Json]:
    schema: dict[str, Json] = {"type": kind, "description": description}
    values = examples(kind, description)
    if values:
        schema["examples"] = values
    return schema


def _tool(
    name: str, description: str, properties: dict[str, Json], required: list[str], results: dict[str, Json]
) -> dict[str, Json]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters, "results": results}


def _read(path: Path) -> Iterator[dict[str, Json]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def _write(path: Path, records: Iterable[dict[str, Json]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
