"""Arguments against a JSON schema, and the one-line form of a tool. States facts; judges nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urljoin

import regex
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from envs.record import record
from envs.types import Json, ToolSpec

PATTERN_SECONDS = 1.0
"""Processor time that the `pattern` of one value may take: some patterns take for ever on some values."""

MAX_REPEATS = 100_000
"""Of a part of a pattern; ten million take half a minute, and gigabytes."""
_REPEATED = re.compile(r"\{(\d+)")


class PatternTooSlow(ValueError):
    """A schema's `pattern` cannot be decided for a value in time; whoever made the value is not to blame."""


class ProblemKind(StrEnum):
    """Every way in which arguments can miss their schema."""

    MISSING_ARGUMENT = "missing_argument"
    UNKNOWN_ARGUMENT = "unknown_argument"
    BAD_TYPE = "bad_type"
    BAD_ENUM = "bad_enum"
    BAD_FORMAT = "bad_format"
    """Pattern, format, range, length and every other constraint."""


@record
class Problem:
    """One thing that is wrong with the arguments of a call."""

    kind: ProblemKind
    pointer: str
    """JSON pointer of the argument, such as "/city"; "" for the arguments as a whole."""
    detail: str


def check(arguments: Json, parameters: Mapping[str, Json]) -> list[Problem]:
    """Everything that is wrong with `arguments`; empty if they fit.

    Types are strict: a boolean is no integer, "3" is no number, 3.0 is an integer. An argument that the schema does
    not name is unknown, unless the schema has an `additionalProperties` that allows it. The schema itself is trusted:
    readers of tasks prove it with `check_schema`.

    Raises:
        PatternTooSlow: a `pattern` takes too long.
    """
    if not isinstance(arguments, (dict, Mapping)):
        return [Problem(kind=ProblemKind.BAD_TYPE, pointer="", detail="arguments must be an object")]
    problems = _unknown(arguments, parameters)
    if _surely_fits(arguments, parameters):
        return problems
    try:
        _add_plain_problems(dict(arguments), parameters, [], problems)
        return list(dict.fromkeys(problems)) if problems else problems
    except _NotPlain:
        problems = _unknown(arguments, parameters)
    validator = _validator(json.dumps(parameters, sort_keys=True))
    try:
        for error in validator.iter_errors(dict(arguments)):
            problems.extend(_problems(error))
    except OverflowError:  # A number too large for the arithmetic of `multipleOf`.
        problems.append(_named(ProblemKind.BAD_FORMAT, [], "hold a number out of range"))
    return list(dict.fromkeys(problems))


def check_schema(parameters: Mapping[str, Json]) -> None:
    """Make sure that `parameters` can be used with `check`. Slow: for readers, not for every call.

    Raises:
        ValueError: it is no valid JSON schema of an object, or refers to what is not in it.
    """
    if not isinstance(parameters, (dict, Mapping)) or parameters.get("type", "object") != "object":
        raise ValueError(f'not a JSON schema of an object: {parameters!r}; expected {{"type": "object", ...}}')
    if not _is_plain(parameters):
        _prove_schema(json.dumps(parameters, sort_keys=True))


def signature(tool: ToolSpec) -> str:
    """The tool in one line: `book_flight(city: string, class?: economy|business, date: date)`."""
    required = set(tool.required)
    parts = [
        f"{name}{'' if name in required else '?'}: {type_name(schema)}" for name, schema in tool.properties.items()
    ]
    return f"{tool.name}({', '.join(parts)})"


def type_name(schema: Mapping[str, Json]) -> str:
    """The type of one parameter as `signature` shows it: enum values, else the format, else the type."""
    if "enum" in schema:
        return "|".join(value if isinstance(value, str) else json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "string":
        return "date" if schema.get("format") == "date" else "string"
    if kind == "array":
        return f"{type_name(schema.get('items') or {})}[]"
    return "|".join(kind) if isinstance(kind, list) else str(kind)


@lru_cache(maxsize=65536)
def _prove_schema(schema_json: str) -> None:
    schema = json.loads(schema_json)
    try:
        Draft202012Validator.check_schema(schema, format_checker=_FORMATS)
        if '"pattern"' in schema_json:
            _prove_patterns(schema)
        if '"$id"' in schema_json:
            _prove_ids(schema)
        if '"$ref"' in schema_json or '"$dynamicRef"' in schema_json:
            _prove_references(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.message} at {error.json_path}") from error
    except RecursionError as error:
        raise ValueError("not a JSON schema that can be used: nested too deeply") from error


def _prove_patterns(schema: Json) -> None:
    """`regex` refuses a few patterns that `re` and with it `Draft202012Validator.check_schema` take, such as `{e}`, and
    writes out what is repeated a number of times, within what is repeated too.

    Raises:
        ValueError: one cannot be used.
    """
    for node in _nodes(schema):
        pattern = node.get("pattern") if isinstance(node, dict) else None
        if isinstance(pattern, str):
            if math.prod(int(number) or 1 for number in _REPEATED.findall(pattern)) > MAX_REPEATS:
                raise ValueError(f"not a JSON schema that can be used: pattern {pattern!r} repeats too often")
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"not a JSON schema that can be used: pattern {pattern!r}: {error}") from error


def _prove_ids(schema: Json) -> None:
    """jsonschema joins the $id of each part to that of the whole, and raises where it is no URI.

    Raises:
        ValueError: one is none.
    """
    for node in _nodes(schema):
        name = node.get("$id") if isinstance(node, dict) else None
        if isinstance(name, str):
            try:
                urljoin("http://host/path", name)
            except ValueError as error:
                raise ValueError(f"not a JSON schema: $id {name!r} is no URI") from error


def _nodes(value: Json) -> Iterator[Json]:
    """A JSON value and everything in it."""
    left = [value]
    while left:
        node = left.pop()
        left.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        yield node


def _prove_references(schema: Json) -> None:
    """Every reference leads to a place in the schema itself, where nothing is ever fetched, and none back to itself.

    Raises:
        ValueError: one does not, or does.
        RecursionError: the schema is nested too deeply to say.
    """
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    followed: dict[int, bool] = {}
    """By identity of a subschema: whether all that it leads to has been seen."""

    def follow(node: Json) -> None:
        """Go through all that is asked of the same value."""
        if not isinstance(node, dict) or followed.get(id(node)):
            return
        if id(node) in followed:
            raise ValueError("not a JSON schema that can be used: it refers to itself without end")
        followed[id(node)] = False
        for inner in _of_the_same_value(node):
            follow(inner)
        for reference in (node.get("$ref"), node.get("$dynamicRef")):
            if isinstance(reference, str):
                follow(target(reference))
        followed[id(node)] = True

    def target(reference: str) -> Json:
        try:
            if not reference.startswith("#"):
                raise ValueError("not in the schema")
            return resolver.lookup(reference).contents
        except (Unresolvable, ValueError) as error:
            raise ValueError(f"not a JSON schema: reference {reference!r} leads nowhere in it") from error

    for node in _nodes(schema):
        if isinstance(node, dict) and node is not schema and isinstance(node.get("$id"), str):
            raise ValueError(
                "not a JSON schema that can be used: a part has an $id of its own, and there are references"
            )
        follow(node)


def _of_the_same_value(schema: Mapping[str, Json]) -> Iterator[Json]:
    """The subschemas that are asked of the value itself, and not of a part of it."""
    for key in ("allOf", "anyOf", "oneOf"):
        found = schema.get(key)
        yield from found if isinstance(found, list) else ()
    for key in ("not", "if", "then", "else"):
        yield schema.get(key)
    found = schema.get("dependentSchemas")
    yield from found.values() if isinstance(found, dict) else ()


@lru_cache(maxsize=65536)
def _validator(schema_json: str) -> Validator:
    # Checking the schema itself costs twenty times as much as using it once, and worlds make new ones all the time.
    # Without a registry of its own a validator would fetch what a schema refers to from the network.
    return _TimedValidator(json.loads(schema_json), registry=_NOTHING_ELSE, format_checker=_FORMATS)


def _pattern(validator: Validator, pattern: str, value: Json, _: Json) -> Iterator[ValidationError]:
    """The keyword `pattern` with a limit of time, which `re` cannot give; `regex` reads more than it, such as `{e}`."""
    if not validator.is_type(value, "string"):
        return
    try:
        found = regex.search(pattern, value, timeout=PATTERN_SECONDS)
    except TimeoutError:
        message = f"the pattern {pattern!r} cannot be matched with a value within {PATTERN_SECONDS:g} s"
        raise PatternTooSlow(message) from None
    if not found:
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_TimedValidator = extend(Draft202012Validator, {"pattern": _pattern})
_NOTHING_ELSE: Registry = Registry()


def _formats() -> FormatChecker:
    """The formats that jsonschema knows. What a test cannot take, such as a regular expression too large for Python, is
    a value that does not have the format.
    """
    found = FormatChecker(())
    for name, (test, raises) in Draft202012Validator.FORMAT_CHECKER.checkers.items():
        expected = (raises,) if isinstance(raises, type) else raises
        found.checks(name, (*expected, OverflowError, RecursionError))(test)
    return found


_FORMATS = _formats()


# The few keywords that nearly all schemas of tools are made of, without jsonschema: a hundred times as fast, and every
# tool is new in many files. Problems come in the same order as jsonschema finds them.


class _NotPlain(Exception):
    """The schema says something here that only jsonschema understands."""


_TYPES: Mapping[str, Callable[[Json], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_PLAIN = ("additionalProperties", "enum", "format", "items", "properties", "required", "type")
"""In the order in which jsonschema checks them."""
_HARD = frozenset(Draft202012Validator.VALIDATORS) - set(_PLAIN)
_NOTES = frozenset({"description", "title"})
_FREE = frozenset({"default", "example"})


def _is_whole(value: Json) -> bool:
    return isinstance(value, float) and value.is_integer()


def _is_plain(schema: Json) -> bool:
    """Whether a schema is surely one, being made of nothing but the plain keywords, rightly used."""
    if not isinstance(schema, dict):
        return False
    for key, value in schema.items():
        if key == "type":
            if not isinstance(value, str) or value not in _TYPES:
                return False
        elif key == "properties":
            if not isinstance(value, dict) or not all(map(_is_plain, value.values())):
                return False
        elif key in _NOTES or key == "format":
            if not isinstance(value, str):
                return False
        elif key == "required":
            if not _is_list_of_strings(value) or len(set(value)) != len(value):
                return False
        elif key == "enum":
            if not isinstance(value, list):
                return False
        elif key == "items":
            if not _is_plain(value):
                return False
        elif key == "additionalProperties":
            if not isinstance(value, bool):
                return False
        elif key not in _FREE:
            return False
    return True


def _is_list_of_strings(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _surely_fits(value: Json, schema: Json) -> bool:
    """Whether plain keywords alone say that nothing is wrong: in no order, and without a place for what would be."""
    if not isinstance(schema, dict):
        return False
    for key, expected in schema.items():
        if key == "type":
            test = _TYPES.get(expected) if isinstance(expected, str) else None
            if test is None or not test(value):
                return False
        elif key == "properties":
            if not isinstance(value, dict) or not isinstance(expected, dict):
                return False
            for name, item in value.items():
                if name in expected and not _surely_fits(item, expected[name]):
                    return False
        elif key == "required":
            if not isinstance(value, dict) or not isinstance(expected, list):
                return False
            for name in expected:
                if name not in value:
                    return False
        elif key == "items":
            if not isinstance(value, list):
                return False
            for item in value:
                if not _surely_fits(item, expected):
                    return False
        elif key == "enum":
            if not isinstance(value, str) or not isinstance(expected, list) or value not in expected:
                return False
        elif key not in _NOTES and key not in _FREE:
            return False
    return True


def _add_plain_problems(value: Json, schema: Json, path: list[str | int], found: list[Problem]) -> None:
    """Add to `found` what jsonschema would find.

    Raises:
        _NotPlain: the schema of something in `value` is not plain.
    """
    if not isinstance(schema, dict) or not _HARD.isdisjoint(schema):
        raise _NotPlain
    for key in _PLAIN:
        if key not in schema:
            continue
        expected = schema[key]
        if key == "type":
            test = _TYPES.get(expected) if isinstance(expected, str) else None
            if test is None:
                raise _NotPlain
            if not test(value):
                found.append(_named(ProblemKind.BAD_TYPE, path, f"must be {expected}"))
        elif key == "enum":
            if not _is_list_of_strings(expected):
                raise _NotPlain
            if value not in expected:
                found.append(_named(ProblemKind.BAD_ENUM, path, f"must be one of {_listed(expected)}"))
        elif key == "format":
            if not _FORMATS.conforms(value, expected):
                found.append(_named(ProblemKind.BAD_FORMAT, path, f"must be a {expected}"))
        elif key == "items":
            if isinstance(value, list):
                for index, item in enumerate(value):
                    _add_plain_problems(item, expected, [*path, index], found)
        elif isinstance(value, dict):
            if key == "properties":
                for name in sorted(expected):
                    if name in value:
                        _add_plain_problems(value[name], expected[name], [*path, name], found)
            elif key == "required":
                if not isinstance(expected, (list, tuple)):
                    raise _NotPlain
                for name in expected:
                    if name not in value:
                        pointer, detail = _pointer([*path, name]), f"missing {name}"
                        found.append(Problem(kind=ProblemKind.MISSING_ARGUMENT, pointer=pointer, detail=detail))
            elif expected is False:
                known = schema.get("properties", {})
                for name in value:
                    if name not in known:
                        pointer, detail = _pointer([*path, name]), f"unknown argument {name}"
                        found.append(Problem(kind=ProblemKind.UNKNOWN_ARGUMENT, pointer=pointer, detail=detail))
            elif expected is not True:
                raise _NotPlain


def _unknown(arguments: Mapping[str, Json], parameters: Mapping[str, Json]) -> list[Problem]:
    if "additionalProperties" in parameters or "patternProperties" in parameters:
        return []
    known = parameters.get("properties", {})
    unknown = [name for name in arguments if name not in known]
    if unknown and not _COMPOSED.isdisjoint(parameters):
        unknown = _not_named(unknown, parameters)
    return [
        Problem(kind=ProblemKind.UNKNOWN_ARGUMENT, pointer=_pointer([name]), detail=f"unknown argument {name}")
        for name in unknown
    ]


_COMPOSED = frozenset({"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"})
"""Keywords by which other schemas speak of the same value."""


def _not_named(names: Sequence[str], schema: Mapping[str, Json]) -> list[str]:
    """Those of `names` that neither the schema of an object nor a schema that it is composed of has a word for."""
    left = list(names)
    seen: set[int] = set()
    waiting: list[Json] = [schema]
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    while waiting and left:
        part = waiting.pop()
        if not isinstance(part, Mapping) or id(part) in seen:
            continue
        seen.add(id(part))
        if part is not schema and part.get("additionalProperties", False) is not False:
            return []
        left = [name for name in left if not _names(part, name)]
        waiting.extend(_of_the_same_value(part))
        waiting.extend(
            resolver.lookup(reference).contents
            for reference in (part.get("$ref"), part.get("$dynamicRef"))
            if isinstance(reference, str)
        )
    return left


def _names(schema: Mapping[str, Json], name: str) -> bool:
    """Whether the schema of an object itself has a word for a name."""
    return name in schema.get("properties", {}) or any(
        re.search(pattern, name) for pattern in schema.get("patternProperties", {})
    )


def _problems(error: ValidationError) -> Iterator[Problem]:
    path = list(error.absolute_path)
    instance: Json = error.instance
    expected: Json = error.validator_value
    match error.validator:
        case "required":
            # jsonschema yields one error for each missing name but does not say which in a field.
            for name in expected:
                if name not in instance:
                    yield Problem(
                        kind=ProblemKind.MISSING_ARGUMENT, pointer=_pointer([*path, name]), detail=f"missing {name}"
                    )
        case "additionalProperties" | "unevaluatedProperties":
            own = error.schema if isinstance(error.schema, Mapping) else {}
            for name in instance:
                if not _names(own, name):
                    yield Problem(
                        kind=ProblemKind.UNKNOWN_ARGUMENT,
                        pointer=_pointer([*path, name]),
                        detail=f"unknown argument {name}",
                    )
        case "type":
            yield _named(ProblemKind.BAD_TYPE, path, f"must be {_listed(expected)}")
        case "enum":
            yield _named(ProblemKind.BAD_ENUM, path, f"must be one of {_listed(expected)}")
        case "const":
            yield _named(ProblemKind.BAD_ENUM, path, f"must be {json.dumps(expected)}")
        case "format":
            yield _named(ProblemKind.BAD_FORMAT, path, f"must be a {expected}")
        case "anyOf" | "oneOf":
            yield _named(_alternative_kind(error), path, error.message)
        case _:
            yield _named(ProblemKind.BAD_FORMAT, path, error.message)


def _alternative_kind(error: ValidationError) -> ProblemKind:
    """The kind of the alternative that came closest: where its own type is no fault, it is right."""
    inner = {
        problem.kind
        for context in error.context or ()
        if context.validator != "type" or context.relative_path
        for problem in _problems(context)
    }
    none = ProblemKind.BAD_TYPE if error.context else ProblemKind.BAD_FORMAT
    return next((kind for kind in _CLOSEST if kind in inner), none)


_CLOSEST = (
    ProblemKind.BAD_ENUM,
    ProblemKind.BAD_FORMAT,
    ProblemKind.BAD_TYPE,
    ProblemKind.UNKNOWN_ARGUMENT,
    ProblemKind.MISSING_ARGUMENT,
)


def _named(kind: ProblemKind, path: list[str | int], detail: str) -> Problem:
    subject = str(path[-1]) if path else "arguments"
    return Problem(kind=kind, pointer=_pointer(path), detail=f"{subject} {detail}")


def _listed(value: Json) -> str:
    values = value if isinstance(value, list) else [value]
    return "|".join(item if isinstance(item, str) else json.dumps(item) for item in values)


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
