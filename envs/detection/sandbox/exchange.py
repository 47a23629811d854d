"""Tests call code that lives in another process: only plain data passes, so that the code cannot reach its tests.

A value that says it equals everything, a patched `assert`, an exit before the tests: none of these cross. What passes
is None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict and what iterates, each rebuilt on
the other side from JSON.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

Plain = Any
"""Plain data, as above."""


class NotPlain(TypeError):
    """A value that cannot pass."""


class CandidateGone(RuntimeError):
    """The process of the code under test ended, or said something that is no answer."""


def encode(value: Plain) -> Any:
    """Plain data as JSON.

    Raises:
        NotPlain: it is something else.
    """
    match value:
        case None | bool() | str():
            return value if type(value) in (type(None), bool) else str(value)
        case int():
            return {"int": hex(value)}
        case float():
            return {"float": float.hex(float(value))}
        case complex():
            return {"complex": [float.hex(value.real), float.hex(value.imag)]}
        case bytes() | bytearray():
            return {"bytes": bytes(value).hex()}
        case dict():
            return {"dict": [[encode(key), encode(inner)] for key, inner in value.items()]}
        case list() | tuple() | set() | frozenset():
            name = next(kind.__name__ for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
            return {name: [encode(inner) for inner in value]}
        case Iterator() | range():
            return {"iterator": [encode(inner) for inner in value]}
    raise NotPlain(f"a value of type {type(value).__name__} cannot be compared: only plain data can")


_MAKERS: dict[str, Callable[[Any], Plain]] = {
    "int": lambda inner: int(inner, 16),
    "float": float.fromhex,
    "complex": lambda inner: complex(*map(float.fromhex, inner)),
    "bytes": bytes.fromhex,
    "dict": lambda inner: {decode(key): decode(value) for key, value in inner},
    "list": lambda inner: [decode(value) for value in inner],
    "tuple": lambda inner: tuple(decode(value) for value in inner),
    "set": lambda inner: {decode(value) for value in inner},
    "frozenset": lambda inner: frozenset(decode(value) for value in inner),
    "iterator": lambda inner: iter([decode(value) for value in inner]),
}


def decode(value: Any) -> Plain:
    """Inverse of `encode`.

    Raises:
        ValueError, TypeError, KeyError: `encode` wrote no such thing.
    """
    if not isinstance(value, dict):
        if value is None or isinstance(value, bool | str):
            return value
        raise ValueError("a bare number or list")
    ((kind, inner),) = value.items()
    return _MAKERS[kind](inner)


def serve(namespace: Mapping[str, Any], requests: IO[str], answers: IO[str]) -> None:
    """Answer what the tests ask about the names of `namespace`, until they end."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = _answer(namespace, request)
        except Exception as error:  # The code's own error is the answer: the tests may expect it.
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(namespace: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    name = request["name"]
    if name not in namespace:
        return {"absent": True}
    value = namespace[name]
    if "arguments" in request:
        arguments, named = decode(request["arguments"]), decode(request["named"])
        return {"value": encode(value(*arguments, **named))}
    return {"callable": True} if callable(value) else {"value": encode(value)}


class Candidate:
    """The code under test, as its tests see it."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers

    def names(self, tests: str) -> dict[str, Any]:
        """What the tests take from the code: functions to call, and plain values.

        Names that the tests bind themselves, and names of builtins, are not taken from it: the code must not give the
        tests an `all` of its own.
        """
        found: dict[str, Any] = {}
        for name in wanted(tests):
            answer = self._ask({"name": name})
            if answer.get("callable") is True:
                found[name] = self._function(name)
            elif "value" in answer:
                found[name] = decode(answer["value"])
        return found

    def _function(self, name: str) -> Callable[..., Plain]:
        def call(*arguments: Plain, **named: Plain) -> Plain:
            answer = self._ask({"name": name, "arguments": encode(arguments), "named": encode(named)})
            return decode(answer["value"])

        call.__name__ = name
        return call

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            answer = json.loads(self._answers.readline())
        except (OSError, ValueError, RecursionError) as error:
            raise CandidateGone(f"the code gave no answer to {request['name']}") from error
        if not isinstance(answer, dict):
            raise CandidateGone(f"the code gave no answer to {request['name']}")
        if "error" in answer:
            raise _error(str(answer["error"]), str(answer.get("message", "")))
        return answer


_WITH_ARGUMENTS = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, ExceptionGroup)
"""Exceptions that a message alone does not make."""


def _error(name: str, message: str) -> Exception:
    kind = vars(builtins).get(name)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in _WITH_ARGUMENTS:
        return kind(message)
    return RuntimeError(f"{name}: {message}")


def wanted(tests: str) -> list[str]:
    """Names that the tests use and neither bind nor have as builtins, in the order of use."""
    tree = ast.parse(tests)
    bound: set[str] = set(vars(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add(other or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                bound.add(name)
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return [name for name in dict.fromkeys(used) if name not in bound]
