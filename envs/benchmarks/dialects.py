"""Dialects of JSON schema in function documents, normalised in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from envs.types import Json

_TYPES: Mapping[str, str] = {
    "dict": "object",
    "map": "object",
    "hashmap": "object",
    "hashtable": "object",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "int": "integer",
    "long": "integer",
    "short": "integer",
    "byte": "integer",
    "bigint": "integer",
    "bool": "boolean",
    "str": "string",
    "char": "string",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "arraylist": "array",
    "queue": "array",
    "stack": "array",
    "none": "null",
}
_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "string": str,
    "array": list,
    "null": type(None),
}
_SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_VALUES = frozenset({"enum", "default", "const", "example", "examples", "required"})
_CLASS_BEFORE_HYPHEN = re.compile(r"(\\[wWdDsS])-(?!\])")


def json_schema(value: Json) -> Json:
    """A schema of a benchmark as JSON schema, at every depth.

    - Names of types of other languages become JSON's; a type that no dialect knows ("any") is left out, so that every
      value fits.
    - A value of an enum or a default that spells a value of the parameter's type ("3" of an integer) becomes that
      value. One of an enum that the type excludes ("dontcare" of an integer) adds its own type; the enum of an array
      that lists elements is the enum of its elements.
    - A parameter whose default is null takes null.
    - What is required must be described: other names in `required` are left out, and each stands there once.
    - A pattern that only JavaScript reads (a range that begins with a class) is written so that Python reads it too;
      one that neither reads is left out.
    """
    if isinstance(value, list):
        return [json_schema(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Json] = {}
    for key, item in value.items():
        if key == "type":
            kinds = _type(item)
            if kinds is not None:
                found[key] = kinds
        elif key in _SCHEMAS_BY_NAME and isinstance(item, Mapping):
            found[key] = {name: json_schema(schema) for name, schema in item.items()}
        elif key == "pattern":
            pattern = _pattern(item)
            if pattern is not None:
                found[key] = pattern
        elif key in _VALUES:
            found[key] = item
        else:
            found[key] = json_schema(item)
    _settle_required(found)
    _settle_enum(found)
    _settle_default(found)
    return found


def parameters(value: Json) -> dict[str, Json]:
    """The parameters of a function document as the JSON schema of an object; none: no parameter.

    Raises:
        ValueError: it is no JSON object.
    """
    if value is None:
        return {"type": "object", "properties": {}}
    if not isinstance(value, Mapping):
        raise ValueError(f"parameters are {type(value).__name__}, expected a JSON schema of an object")
    found = json_schema(value)
    return {"type": "object", "properties": {}, **found}


def _type(item: Json) -> Json:
    if isinstance(item, list):
        names = [_type(name) for name in item]
        return None if None in names else list(dict.fromkeys(names))
    if not isinstance(item, str):
        return None
    name = _TYPES.get(item.lower(), item.lower())
    return name if name in _PYTHON_TYPES else None


def _pattern(item: Json) -> str | None:
    if not isinstance(item, str):
        return None
    for pattern in (item, _CLASS_BEFORE_HYPHEN.sub(r"\1\\-", item)):
        try:
            re.compile(pattern)
        except re.error:
            continue
        return pattern
    return None


def _settle_required(schema: dict[str, Json]) -> None:
    required = schema.get("required")
    if "required" not in schema:
        return
    described = schema.get("properties", {})
    if isinstance(required, list):
        schema["required"] = [name for name in dict.fromkeys(required) if name in described]
    else:
        # Some documents mark the parameter itself ("required": true), which JSON schema has no word for.
        del schema["required"]


def _settle_enum(schema: dict[str, Json]) -> None:
    values, kind = schema.get("enum"), schema.get("type")
    if "enum" not in schema:
        return
    if not isinstance(values, list) or not values:
        del schema["enum"]
        return
    if kind == "array" and not any(isinstance(value, list) for value in values):
        items = schema.get("items")
        schema["items"] = json_schema({**(items if isinstance(items, Mapping) else {}), "enum": values})
        del schema["enum"]
        return
    if isinstance(kind, str):
        values = [_spelled(value, kind) for value in values]
        kinds = list(dict.fromkeys([kind, *(_kind_of(value) for value in values if not _fits(value, kind))]))
        schema["type"] = kind if len(kinds) == 1 else kinds
    schema["enum"] = _distinct(values)


def _settle_default(schema: dict[str, Json]) -> None:
    if "default" not in schema:
        return
    kind = schema.get("type")
    if schema["default"] is not None:
        if isinstance(kind, str):
            schema["default"] = _spelled(schema["default"], kind)
        return
    if kind is not None:
        kinds = kind if isinstance(kind, list) else [kind]
        schema["type"] = kind if "null" in kinds else [*kinds, "null"]
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]


def _fits(value: Json, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _PYTHON_TYPES[kind])


def _kind_of(value: Json) -> str:
    return next(kind for kind in ("boolean", "integer", *_PYTHON_TYPES) if _fits(value, kind))


def _spelled(value: Json, kind: str) -> Json:
    """The value of `kind` that a text spells, or the value itself."""
    if not isinstance(value, str) or kind not in ("number", "integer", "boolean"):
        return value
    try:
        meant = json.loads(value.lower() if kind == "boolean" else value)
    except ValueError:
        return value
    return meant if _fits(meant, kind) else value


def _distinct(values: list[Json]) -> list[Json]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())
