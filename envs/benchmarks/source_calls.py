"""Calls written as Python source, as gold answers give them: `f(a=1, b='x')` -> ToolCall."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envs.types import Json, ToolCall

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def source_call(text: str, parameters: Mapping[str, Sequence[str]]) -> ToolCall:
    """Read one call.

    Args:
        text: the source; arguments are literals, and arithmetic of numbers is carried out.
        parameters: for each function the names of its parameters in their order, which positional arguments take.

    Raises:
        ValueError: it is no call, or an argument is no literal or too many.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not Python: {error.msg}") from error
    if not isinstance(node, ast.Call):
        raise ValueError(f"{text!r} is no call")
    name = ast.unparse(node.func)
    order = parameters.get(name, ())
    if len(node.args) > len(order):
        raise ValueError(f"{text!r}: {len(node.args)} positional arguments, {name} has {len(order)} parameters")
    arguments = {order[index]: _value(value) for index, value in enumerate(node.args)}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise ValueError(f"{text!r}: argument {keyword.arg} is given twice or has no name")
        arguments[keyword.arg] = _value(keyword.value)
    return ToolCall(name=name, arguments=arguments)


def _value(node: ast.expr) -> Json:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_number(left), _number(right))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {str(_value(key)): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
    raise ValueError(f"{ast.unparse(node)!r} is no literal")


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{ast.unparse(node)!r} is no number")
    return value
