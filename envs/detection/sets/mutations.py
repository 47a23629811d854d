"""Mutations of a program: one small change in one function, as mutation testing makes them."""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Callable, Iterator

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}

Change = Callable[[], None]


def mutants(code: str, function: str, *, seed: int = 0, num: int = 5) -> list[tuple[str, str]]:
    """Different mutations of one function of a program, each with the name of its change.

    Args:
        code: the program.
        function: the name of the function.
        seed: the same one gives the same mutations of the same program.
        num: at most so many; a small function has fewer.
    """
    digest = hashlib.sha256(f"{seed}\n{code}".encode()).digest()
    choose = random.Random(int.from_bytes(digest[:8]))
    places = list(range(sum(1 for _ in _changes(_body(ast.parse(code), function)))))
    choose.shuffle(places)
    original = ast.unparse(ast.parse(code))
    found: dict[str, str] = {}
    for place in places:
        tree = ast.parse(code)
        what, change = next(one for at, one in enumerate(_changes(_body(tree, function))) if at == place)
        change()
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text != original:
            found.setdefault(text, what)
        if len(found) == num:
            break
    return [(what, text) for text, what in found.items()]


def _body(tree: ast.Module, function: str) -> ast.FunctionDef:
    """The last definition of the function: the one that counts.

    Raises:
        ValueError: there is none.
    """
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    if not found:
        raise ValueError(f"no function {function} at the top of the program")
    return found[-1]


def _changes(function: ast.FunctionDef) -> Iterator[tuple[str, Change]]:
    """Every change that could be made, in the order of the program."""
    documentation = ast.get_docstring(function) is not None
    for statement in function.body[1 if documentation else 0 :]:
        for node in ast.walk(statement):
            yield from _of_node(node)


def _of_node(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield "comparison", lambda: setattr(node, "ops", [_COMPARISONS[type(op)]()])
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            yield "operator", lambda: setattr(node, "op", _OPERATORS[type(op)]())
        case ast.AugAssign(op=op) if type(op) in _OPERATORS:
            yield "operator", lambda: setattr(node, "op", _OPERATORS[type(op)]())
        case ast.BoolOp(op=op):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "connective", lambda: setattr(node, "op", other)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "negation", lambda: setattr(node, "operand", ast.UnaryOp(op=ast.Not(), operand=operand))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield "condition", lambda: setattr(node, "test", ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.Constant(value=bool(value)):
            yield "constant", lambda: setattr(node, "value", not value)
        case ast.Constant(value=int(value)):
            yield "constant", lambda: setattr(node, "value", value + 1)
        case ast.Constant(value=str(value)) if value:
            yield "text", lambda: setattr(node, "value", value[:-1])
        case ast.Return(value=ast.expr()):
            yield "return", lambda: setattr(node, "value", ast.Constant(value=None))
        case ast.Subscript(slice=ast.Slice(upper=None, lower=ast.expr() as lower)):
            later = ast.BinOp(left=lower, op=ast.Add(), right=ast.Constant(value=1))
            yield "slice", lambda: setattr(node.slice, "lower", later)
