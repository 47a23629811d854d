"""Labels in place of values: benchmarks that ask for a whole plan at once let a call name an earlier result."""

from __future__ import annotations

from collections.abc import Mapping

from envs.types import Json

_ABOUT = ("description", "default", "title", "examples")
"""What is said of a parameter and does not limit its values."""
_LIMITS = frozenset({"enum", "const", "format", "pattern", "minLength", "maxLength"})


def open_to_labels(parameters: Mapping[str, Json], pattern: str) -> dict[str, Json]:
    """The schema of an arguments object in which every parameter also accepts a text that holds a label.

    A label stands for a value of any type that is known only when the plan is carried out. So it is right where a
    number is due, while a number of the wrong type is still reported as such: the label is tried first (`if`), the
    schema of the parameter otherwise (`else`).

    Args:
        parameters: JSON schema of an object.
        pattern: regular expression of a label, searched for in the text.
    """
    properties = parameters.get("properties") or {}
    return {**parameters, "properties": {name: _opened(schema, pattern) for name, schema in properties.items()}}


def _opened(schema: Json, pattern: str) -> Json:
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("type", "string") == "string" and not _LIMITS & schema.keys():
        return schema
    about = {name: schema[name] for name in _ABOUT if name in schema}
    rest = {name: value for name, value in schema.items() if name not in about}
    if "items" in rest:
        rest["items"] = _opened(rest["items"], pattern)
    if "properties" in rest:
        rest["properties"] = {name: _opened(item, pattern) for name, item in rest["properties"].items()}
    return {**about, "if": {"type": "string", "pattern": pattern}, "else": rest}
