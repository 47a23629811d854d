"""Typed, documented Python functions as tools."""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_jsonable_python

from envs.env import compact
from envs.types import Json, ToolCall, ToolError, ToolResult, ToolSpec, ToolStatus

_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*$")
_ARGUMENT = re.compile(r"^(\s*)(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


class Toolkit:
    """Runs calls of a set of functions, plain or async, each within a time limit.

    The name, type hints and docstring (first paragraph, `Args:` section) of a function become its schema. A function
    refuses a call by `ToolError`; any other exception is a bug and propagates.
    """

    def __init__(self, *functions: Callable[..., Any], timeout: float = 30.0) -> None:
        """Read the signatures.

        Args:
            functions: the tools.
            timeout: seconds that one call may take. The thread of a plain function that exceeds them is abandoned,
                not stopped.

        Raises:
            ValueError: a function lacks a docstring or a type hint, or two have one name.
        """
        if not timeout > 0:
            raise ValueError(f"timeout {timeout}: expected seconds above 0")
        self._timeout = timeout
        self._functions: dict[str, Callable[..., Any]] = {}
        self._models: dict[str, type[BaseModel]] = {}
        specs = []
        for function in functions:
            if function.__name__ in self._functions:
                raise ValueError(f"two tools are called {function.__name__!r}")
            self._functions[function.__name__] = function
            self._models[function.__name__] = _model(function)
            specs.append(tool_spec(function))
        self.specs: tuple[ToolSpec, ...] = tuple(specs)
        """The tools, in the order given."""

    def of(self, *functions: Callable[..., Any]) -> Toolkit:
        """The same tools done by other functions of the same names, such as the methods of another object.

        Cheaper than a toolkit of their own, as nothing is read again; so their signatures must be the same.

        Raises:
            ValueError: the names are others.
        """
        found = {function.__name__: function for function in functions}
        if list(found) != list(self._functions):
            raise ValueError(f"expected functions called {', '.join(self._functions)}, got {', '.join(found)}")
        other = copy.copy(self)
        other._functions = found
        return other

    async def run(self, call: ToolCall) -> ToolResult:
        """Run one call; the status is ok, failed, timed_out, or for values no hint allows invalid_arguments."""
        try:
            arguments = self._models[call.name].model_validate(dict(call.arguments))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return _result(call, ToolStatus.INVALID_ARGUMENTS, {"error": f"{where}: {first['msg']}"})
        given = {name: value for name, value in arguments if name in arguments.model_fields_set}
        try:
            # asyncio.timeout tells our limit from a TimeoutError of the tool's own, which is the tool's bug.
            async with asyncio.timeout(self._timeout) as limit:
                value = await _invoke(self._functions[call.name], given)
        except ToolError as error:
            return _result(call, ToolStatus.FAILED, {"error": str(error)})
        except TimeoutError:
            if not limit.expired():
                raise
            return _result(call, ToolStatus.TIMED_OUT, {"error": "timed out"})
        return _result(call, ToolStatus.OK, value)


def tool_spec(function: Callable[..., Any]) -> ToolSpec:
    """The schema of a function.

    Raises:
        ValueError: it lacks a docstring or the type hint of a parameter, or has `*args` or `**kwargs`.
    """
    schema = _without_titles(_model(function).model_json_schema())
    schema.pop("description", None)
    schema.setdefault("properties", {})
    schema.setdefault("required", [])
    return ToolSpec(name=function.__name__, description=_summary(function), parameters=schema)


async def _invoke(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await asyncio.to_thread(function, **arguments)


def _result(call: ToolCall, status: ToolStatus, value: Any) -> ToolResult:
    content = value if isinstance(value, str) else compact(to_jsonable_python(value))
    return ToolResult(call_id=call.call_id, status=status, content=content)


def _model(function: Callable[..., Any]) -> type[BaseModel]:
    name = function.__name__
    if not inspect.getdoc(function):
        raise ValueError(f"tool {name}: expected a docstring that says what it does")
    hints = get_type_hints(function, include_extras=True)
    descriptions = _argument_descriptions(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"tool {name}: parameter {parameter.name} must be nameable in a call")
        if parameter.name not in hints:
            raise ValueError(f"tool {name}: parameter {parameter.name} needs a type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (
            hints[parameter.name],
            Field(default, description=descriptions.get(parameter.name)),
        )
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _summary(function: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(function) or "").split("\n\n")[0].splitlines()
    return " ".join(line.strip() for line in lines)


def _argument_descriptions(doc: str) -> dict[str, str]:
    """The entries of the `Args:` section of a Google-style docstring."""
    found: dict[str, str] = {}
    inside, indent, current = False, None, ""
    for line in doc.splitlines():
        section = _SECTION.match(line)
        if section:
            inside = section.group(1) in ("Args", "Arguments", "Parameters")
            continue
        entry = _ARGUMENT.match(line) if inside else None
        if entry and (indent is None or len(entry.group(1)) == indent):
            indent, current = len(entry.group(1)), entry.group(2)
            found[current] = entry.group(3).strip()
        elif inside and current and line.strip():
            found[current] += f" {line.strip()}"
    return found


def _without_titles(schema: Json) -> Json:
    """Drop the titles that pydantic derives from names; a property may itself be called "title"."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs"):
            cleaned[key] = {name: _without_titles(inner) for name, inner in value.items()}
        else:
            cleaned[key] = value if key in ("default", "enum", "const", "examples") else _without_titles(value)
    return cleaned
