"""What a JSON object says whose text was cut off."""

from __future__ import annotations

import json
import re

from envs.types import Json

_SCANNER = json.JSONDecoder(strict=False)
_SEPARATOR = re.compile(r"\s*,\s*")
_COLON = re.compile(r"\s*:\s*")


def complete_pairs(text: str) -> tuple[dict[str, Json], bool]:
    """The name-value pairs that stand complete in the text of a JSON object which may be cut, and whether it is whole.

    A number at the very end may have lost digits, so it counts as cut.
    """
    found: dict[str, Json] = {}
    text = text.strip()
    position = 1
    try:
        while text[position:].strip() not in ("", "}"):
            position += len(text[position:]) - len(text[position:].lstrip())
            name, position = _SCANNER.raw_decode(text, position)
            colon = _COLON.match(text, position)
            if colon is None or not isinstance(name, str):
                return found, False
            value, position = _SCANNER.raw_decode(text, colon.end())
            if position == len(text):
                return found, False
            found[name] = value
            separator = _SEPARATOR.match(text, position)
            position = position if separator is None else separator.end()
            if separator is None and text[position:].strip() != "}":
                return found, False
    except ValueError:
        return found, False
    return found, text.startswith("{") and text.endswith("}") and text[position:].strip() == "}"
