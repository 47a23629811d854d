"""The program that a response is or holds, and the tests that belong to it."""

from __future__ import annotations

import ast
import builtins
import doctest
import re
import textwrap
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

_OPENING = re.compile(r"[ \t]*(?:```|~~~)[ \t]*([\w+-]*)")
_CLOSING = re.compile(r"[ \t]*(?:```|~~~)[ \t]*$")
_PYTHON = frozenset({"python", "py", "python3"})
MAX_CODE_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Code of a response, and what tests it: tests that come with it, or the examples of the question."""

    code: str
    tests: str | None


def program(question: str, response: str) -> Program | None:
    """The program that a response is or holds; None if it holds none.

    A question that is the head of a function goes before the code, as its imports and helpers belong to both.
    """
    written = _code_of(response)
    head = question if _is_code(question) else ""
    if written is None and head and _is_code(f"{question}\n{response}"):
        # The response goes on where the question stops: a body without its head.
        written, head = f"{question}\n{response}", ""
    if written is None:
        return None
    code, tests = _parted(written)
    code = f"{head}\n{code}" if head else code
    return Program(code=code, tests=tests or _examples(question, code))


def is_fenced(text: str) -> bool:
    """Whether a text is one fenced block and nothing else."""
    lines = text.strip().splitlines()
    closings = [number for number, line in enumerate(lines) if number and _CLOSING.match(line)]
    return bool(lines) and _OPENING.match(lines[0]) is not None and closings[:1] == [len(lines) - 1]


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """Language and body of the fenced blocks that are closed, in time linear in the text."""
    lines = text.splitlines(keepends=True)
    closings = [number for number, line in enumerate(lines) if _CLOSING.match(line.rstrip("\r\n"))]
    number = 0
    while number < len(lines):
        opening = _OPENING.match(lines[number])
        if opening is None:
            number += 1
            continue
        place = bisect_right(closings, number)
        if place == len(closings):
            return
        yield opening[1].lower(), textwrap.dedent("".join(lines[number + 1 : closings[place]]))
        number = closings[place] + 1


def _code_of(response: str) -> str | None:
    found = list(_fenced(response))
    # A block that names no language is one of Python if it can be read as such.
    blocks = [body for language, body in found if language in _PYTHON or (not language and _is_code(body))]
    if found:
        return "\n".join(blocks) or None
    return response if _is_code(response) or _looks_like_code(response) else None


def _looks_like_code(text: str) -> bool:
    """Whether a text that does not compile was meant as a program: nearly every line of it is one of Python's."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not re.search(r"^(?:def \w+\(|class \w+|import \w+$|from [\w.]+ import )", text, re.MULTILINE) or len(lines) < 2:
        return False
    like = re.compile(
        r"\s+\S|def |class |import |from |@|#|assert |return\b|if |for |while |try:|print\(|[\w.\[\]]+ ?[-+*/]?= ?\S"
        r"|\w+\(.*\)$|[\])}]"
    )
    return sum(bool(like.match(line)) for line in lines) >= 0.8 * len(lines)


def _parse(text: str) -> ast.Module | None:
    if len(text) > MAX_CODE_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_code(text: str) -> bool:
    """Whether a text is a program: one that defines, imports or asserts something."""
    tree = _parse(text)
    kinds = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Import,
        ast.ImportFrom,
        ast.Assert,
        ast.For,
        ast.While,
    )
    return tree is not None and any(isinstance(node, kinds) for node in tree.body)


def _parted(code: str) -> tuple[str, str | None]:
    """The code, and the tests that stand at its end; in one piece if the tests use its classes.

    Tests call from another process, where plain data passes and objects do not.
    """
    tree = _parse(code)
    if tree is None:
        return code, None
    first = next((number for number, node in enumerate(tree.body) if _is_test(node)), None)
    if not first:
        return code, None
    classes = {node.name for node in tree.body[:first] if isinstance(node, ast.ClassDef)}
    used = {node.id for part in tree.body[first:] for node in ast.walk(part) if isinstance(node, ast.Name)}
    if classes & used:
        return code, None
    lines = code.splitlines(keepends=True)
    start = (
        min(tree.body[first].lineno, *(d.lineno for d in getattr(tree.body[first], "decorator_list", ())), 10**9) - 1
    )
    return "".join(lines[:start]), "".join(lines[start:]) + _calls(tree.body[first:])


def _calls(tests: list[ast.stmt]) -> str:
    """Calls of the test functions that nothing calls, as pytest would."""
    called = {name for part in tests for name in _called(part)}
    functions = [node for node in tests if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return "".join(f"\n{one.name}()" for one in functions if one.name not in called and not one.args.args)


def _is_test(node: ast.stmt) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.FunctionDef(name=name):
            return name == "check" or name.startswith("test_")
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name == "check" or name.startswith("test_")
    return False


def _examples(question: str, code: str) -> str | None:
    """The examples of a docstring (>>> f(1)) as assertions, where what is expected is plain data.

    Examples that prepare others (>>> data = [3, 1]) are kept as they are. Left out is what uses data that neither the
    code nor an example before it has, and what shows the output of a function that returns nothing.
    """
    tree = _parse(question)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [question] if tree is None else [ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, documented)]
    known, silent = _names_of(code)
    tests: list[str] = []
    try:
        found = [example for text in texts for example in doctest.DocTestParser().get_examples(text or "")]
    except ValueError:
        return None
    for example in found:
        source, want = example.source.strip(), example.want.strip()
        part = _parse(source)
        if part is None or _used(part) - known - _called(part):
            continue
        if not want:
            known |= _bound(part)
            tests.append(source)
            continue
        try:
            ast.parse(source, mode="eval")
            ast.literal_eval(want)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if not _used(part) & silent:
            tests.append(f"assert ({source}) == ({want})")
    return "\n".join(tests) if any(test.startswith("assert") for test in tests) else None


def _names_of(code: str) -> tuple[set[str], set[str]]:
    """What examples may use, and which functions of the code print and return nothing."""
    tree = _parse(code)
    if tree is None:
        # It fails by itself, whatever is asked of it.
        return set(), set()
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    silent = {
        name
        for name, node in functions.items()
        if not any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
        and any(isinstance(part, ast.Name) and part.id == "print" for part in ast.walk(node))
    }
    return _bound(tree) | set(dir(builtins)), silent


def _called(tree: ast.AST) -> set[str]:
    """Names of functions that a program calls."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _used(tree: ast.AST) -> set[str]:
    """Names that a program reads and does not bind itself."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _bound(tree)


def _bound(tree: ast.AST) -> set[str]:
    """Names that a program gives something to, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found
