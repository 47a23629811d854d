"""Dialects of JSON schema in function documents, normalised in one place."""

from __future__ import annotations

from collections.abc import Mapping

from envs.types import Json

_TYPES: Mapping[str, Json] = {
    "dict": "object",
    "map": "object",
    "hashmap": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "char": "string",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "none": "null",
}
_KNOWN = frozenset({"object", "number", "integer", "boolean", "string", "array", "null"})


def json_schema(value: Json) -> Json:
    """A schema of a benchmark as JSON schema: the names of types of other languages replaced, at every depth.

    A type that no dialect knows ("any") is left out, so that every value fits.
    """
    if isinstance(value, list):
        return [json_schema(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Json] = {}
    for key, item in value.items():
        if key == "type" and isinstance(item, str):
            name = _TYPES.get(item.lower(), item.lower())
            if name in _KNOWN:
                found[key] = name
        elif key in ("properties", "$defs", "definitions") and isinstance(item, Mapping):
            found[key] = {name: json_schema(schema) for name, schema in item.items()}
        elif key in ("enum", "default", "const", "example", "examples", "required"):
            found[key] = item
        else:
            found[key] = json_schema(item)
    return found
