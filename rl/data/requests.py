"""Requests without one of their values: the words that give it are cut out, and what is left is made whole again.

Knows no meaning: whether the value can still be told is checked by who calls it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from envs.toolworld.catalogue import spoken
from envs.types import Json

_TO = (
    r"(?:in|at|for|from|to|on|of|by|with|near|within|after|before|under|over|about|around|during|into|onto|until|till"
    r"|since|through|via|per|than|called|named|titled)"
)
"""Words that lead to a value and mean nothing without it."""
_ARTICLE = r"(?:the|a|an|my|your|our)"
_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb"
_BETWEEN = r"(?:\s+is\s+|\s*=\s*|\s*:\s*|\s+of\s+|\s+)"
"""Between the name of a parameter and its value."""
_SEPARATOR = re.compile(r"^\s*(?:,\s*and\b|,|;|\band\b|&)\s*", re.IGNORECASE)
_SEPARATOR_AT_END = re.compile(r"\s*(?:,\s*and|,|;|\band|&)\s*$", re.IGNORECASE)
_OPENER_AT_END = re.compile(r"(?:^|\s+)(?:with|where|using|for)\s*$|\s*[(:]\s*$", re.IGNORECASE)
"""What opens a list of arguments."""
_APART = re.compile(
    rf"^\s*(?:$|[.?!,;)]|(?:and|then|but|or|please|thanks|now|today|tonight|tomorrow|yesterday|this|next|also|{_TO})\b)",
    re.IGNORECASE,
)
"""What stands behind a value and does not belong to it."""

_HANGING = re.compile(rf"\b(?:between|and|or|is|are|was|has|have|named|than|=|{_TO}|{_ARTICLE})\s*$", re.IGNORECASE)
_CUT_OFF = re.compile(r"^\s*(?:$|[.?!,;:)]|(?:and|or)\b)", re.IGNORECASE)
"""Together: a word that asks for one more, and none comes."""
_PAIR = re.compile(r"\b(?:between|both|either)\b[^.?!;]*$", re.IGNORECASE)
"""Asks for two."""


def without_value(request: str, name: str, value: Json, others: Mapping[str, Json]) -> str | None:
    """The request without the words that give `value` to parameter `name`.

    Args:
        request: the user's words.
        name: of the parameter.
        value: as the call has it.
        others: the other arguments of the call: what stands for them is no new clause.

    Returns:
        None if the value does not stand there to the letter, exactly once, or if what is left is no whole sentence.
    """
    written = _written(value)
    spots = list(re.finditer(rf"(?<![\w.]){re.escape(written)}(?!\w|\.\d)", request, re.IGNORECASE))
    if len(spots) != 1 or not written.strip():
        return None
    start, end = _with_its_words(request, spots[0].start(), spots[0].end(), name, is_number=not isinstance(value, str))
    text = _joined(request[:start], request[end:], others)
    if text is None or text.count('"') % 2 != request.count('"') % 2:
        return None
    text = re.sub(r"\s+(?=[,.;?!)])|(?<=\()\s+", "", re.sub(r"\s{2,}", " ", text)).strip()
    return text if len(text.split()) >= 2 else None


def _written(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _with_its_words(text: str, start: int, end: int, name: str, *, is_number: bool) -> tuple[int, int]:
    """The value with its quotes, the name of its parameter and the word that leads to it."""
    while start and end < len(text) and text[start - 1] in _QUOTES and text[end] in _QUOTES:
        start, end = start - 1, end + 1
    article, labels = rf"(?:{_ARTICLE}\s+)?", _any_of(_labels(name))
    before = re.search(rf"\b{article}{labels}{_BETWEEN}$", text[:start], re.IGNORECASE)
    if before:
        start = before.start()
    else:
        behind = re.match(rf"\s+(?:as\s+{article})?{labels}\b", text[end:], re.IGNORECASE)
        end += behind.end() if behind else 0
    leads = re.search(rf"\b{_TO}\s+{article}$", text[:start], re.IGNORECASE)
    if leads is None or (re.fullmatch(r"(?:with|for)\s+", leads[0], re.IGNORECASE) and before):
        return start, end
    unit = re.match(r"[-\s]+[^\W\d_]+", text[end:])
    if is_number and unit and not _APART.match(text[end:]):
        return leads.start(), end + unit.end()
    return (leads.start() if _APART.match(text[end:]) else start), end


def _joined(left: str, right: str, others: Mapping[str, Json]) -> str | None:
    """What is left on both sides, without the words and commas that only the value held together.

    Returns:
        None where a word asks for one more and none comes.
    """
    opened, separated = _OPENER_AT_END.search(left), _SEPARATOR_AT_END.search(left)
    follower = _SEPARATOR.match(right)
    if follower and (opened or separated) and _is_another(right[follower.end() :], others):
        return f"{left} {right[follower.end() :]}"
    if _HANGING.search(left) and re.match(r"\s*:", right):
        return None
    if not _APART.match(right):
        return f"{left} {right}"
    if opened:
        left = left[: opened.start()]
        if opened[0].strip() == "(":
            right = re.sub(r"^\s*\)", "", right)
    elif separated:
        left = left[: separated.start()]
    if (_HANGING.search(left) and _CUT_OFF.match(right)) or (separated and _PAIR.search(left)):
        return None
    return f"{left} {right}" if left.strip() else re.sub(r"^[\s,;:]+", "", right)


def _is_another(text: str, others: Mapping[str, Json]) -> bool:
    """Whether a text begins with another argument, by its name or its value."""
    words = [label for name in others for label in _labels(name)] + [_written(value) for value in others.values()]
    return (
        bool(words) and re.match(rf"(?:no\s+|{_ARTICLE}\s+|[{_QUOTES}])?{_any_of(words)}(?!\w)", text, re.I) is not None
    )


def _labels(name: str) -> list[str]:
    return list(dict.fromkeys((name, spoken(name))))


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})"
