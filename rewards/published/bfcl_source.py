"""Values in Java and JavaScript source -> Python values, as BFCL's checker reads them.

Its readings are kept with their gaps (text elements of Java arrays keep their quotes; a comma always divides): what it
cannot read it takes for a text. Source: bfcl_eval/eval_checker/ast_eval/type_convertor of the benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from envs.types import Json

_DIGITS = r"-?\d{1,4300}"
"""Of longer ones Python makes no integer."""
_INTEGER = re.compile(rf"{_DIGITS}$")
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?[fF]$")
_DOUBLE = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?$")
_LONG = re.compile(rf"{_DIGITS}[lL]$")
_PLAIN_FLOAT = re.compile(r"-?\d+(\.\d+)?$")
_BIGINT = re.compile(rf"{_DIGITS}n$")

JAVA_TYPES: Mapping[str, type] = {
    "byte": int,
    "short": int,
    "integer": int,
    "float": float,
    "double": float,
    "long": int,
    "boolean": bool,
    "char": str,
    "Array": list,
    "ArrayList": list,
    "Set": set,
    "HashMap": dict,
    "Hashtable": dict,
    "Queue": list,
    "Stack": list,
    "String": str,
    "any": str,
}
JAVASCRIPT_TYPES: Mapping[str, type] = {
    "String": str,
    "integer": int,
    "float": float,
    "Bigint": int,
    "Boolean": bool,
    "dict": dict,
    "array": list,
    "any": str,
}


def java_value(text: str, kind: str, element: str | None = None) -> Json:
    """What `text` means as a Java value of type `kind`, with elements of type `element`."""
    match kind:
        case "byte" | "short" | "integer" if _INTEGER.match(text):
            return int(text)
        case "float" if _FLOAT.match(text):
            return float(text[:-1])
        case "double" if _DOUBLE.match(text):
            return float(text)
        case "long" if _LONG.match(text):
            return int(text[:-1])
        case "boolean" if text in ("true", "false"):
            return text == "true"
        case "ArrayList":
            return _java_list(text, element)
        case "Array":
            return _java_array(text, element)
        case "HashMap":
            return _java_map(text)
    return text


def _java_list(text: str, element: str | None) -> Json:
    listed = re.search(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)", text)
    if listed:
        return [_java_element(item.strip(), element) for item in listed[1].split(",")]
    added = re.search(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", text, re.DOTALL)
    if added:
        return [_java_element(item.strip(), element) for item in re.findall(r"add\((.+?)\)", added[1])]
    return [] if re.search(r"new\s+ArrayList<\w*>\(\)", text) else text


def _java_element(text: str, element: str | None) -> Json:
    if element in ("char", "String"):
        return text[1:-1]
    return java_value(text, element) if element else _java_guess(text)


def _java_array(text: str, element: str | None) -> Json:
    found = re.search(r"new\s+\w+\[\]\s*\{(.*?)\}", text)
    if not found:
        return text
    items = [item.strip() for item in found[1].split(",") if item.strip()]
    return [java_value(item, element) if element else _java_guess(item) for item in items]


def _java_map(text: str) -> Json:
    found = re.search(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", text, re.DOTALL)
    if found:
        pairs = re.findall(r"put\(\"(.*?)\",\s*(.*?)\)", found[1])
        return {key: _java_guess(value.strip()) for key, value in pairs}
    return {} if re.search(r"new\s+HashMap<.*?>\s*\(\)", text) else text


def _java_guess(text: str) -> Json:
    """A value whose type nothing tells."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    if _LONG.match(text):
        return int(text[:-1])
    if _FLOAT.match(text):
        return float(text[:-1])
    return _number_or_text(text)


def _number_or_text(text: str) -> Json:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def javascript_value(text: str, kind: str, element: str | None = None) -> Json:
    """What `text` means as a JavaScript value of type `kind`, with elements of type `element`."""
    match kind:
        case "String" if _is_quoted(text):
            return text[1:-1]
        case "integer" if _INTEGER.match(text):
            return int(text)
        case "float" if _PLAIN_FLOAT.match(text):
            return float(text)
        case "Bigint" if _BIGINT.match(text):
            return int(text[:-1])
        case "Boolean" if text in ("true", "false"):
            return text == "true"
        case "array":
            return _javascript_array(text.strip(), element)
        case "dict":
            return _javascript_object(text.strip())
    return text


def _is_quoted(text: str) -> bool:
    return (text.startswith('"') and text.endswith('"')) or (text.startswith("'") and text.endswith("'"))


def _javascript_array(text: str, element: str | None) -> Json:
    rows = re.match(
        r"\[\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\]|\bnew\s+Array\(\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\)",
        text,
    )
    if rows:
        return [_javascript_row(row, first=index == 0) for index, row in enumerate(re.findall(r"\[(.*?)\]", rows[0]))]
    found = re.match(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)", text)
    if not found:
        return text
    inside = (found[1] if found[1] is not None else found[2] or "").strip()
    items = [item.strip() for item in inside.split(",")] if inside else []
    return [javascript_value(item, element) if element else _javascript_guess(item) for item in items]


def _javascript_row(row: str, *, first: bool) -> list[Json]:
    row = row.strip()
    if first and row.startswith("["):
        row = row[1:]
    return [_javascript_guess(item) for item in row.split(",")]


def _javascript_object(text: str) -> Json:
    if text == "{}":
        return {}
    found = re.match(r"\{(.*?)\}", text)
    if not found:
        return text
    value: dict[str, Json] = {}
    for key, item in re.findall(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)", found[1]):
        item = item.strip()
        if item.startswith("[") and item.endswith("]"):
            value[key.strip().strip("'\"")] = _javascript_array(item, None)
        elif item.startswith("{") and item.endswith("}"):
            value[key.strip().strip("'\"")] = _javascript_object(item)
        else:
            value[key.strip().strip("'\"")] = _javascript_guess(item.strip("'\""))
    return value


def _javascript_guess(text: str) -> Json:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text[1:-1] if _is_quoted(text) else _number_or_text(text)
