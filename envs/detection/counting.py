"""Lengths of texts, and whether they keep a demand such as "at most 50 words"."""

from __future__ import annotations

import re
from enum import StrEnum

_CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}_])\w)+(?:['’.\-](?:(?![{_CJK}_])\w)+)*")
_IDEOGRAPH = re.compile(rf"[{_CJK}]")

ABOUT = 0.1
"""How far from a length "about" may be, as a share of it."""


class Unit(StrEnum):
    """What is counted."""

    CHARACTERS = "characters"
    """All of them, space and punctuation too, as the WordCnt labels of HaluAgent do (audit note B9.2)."""
    VISIBLE = "visible"
    """Characters that are no space."""
    CJK = "cjk"
    """Chinese characters alone."""
    WORDS = "words"
    """English words, numbers, and each Chinese character."""
    SENTENCES = "sentences"
    PARAGRAPHS = "paragraphs"


class Relation(StrEnum):
    """How a length must compare."""

    EXACTLY = "exactly"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    ABOUT = "about"


def count(text: str, unit: Unit) -> int:
    """The length of a text."""
    match unit:
        case Unit.CHARACTERS:
            return len(text)
        case Unit.VISIBLE:
            return sum(not character.isspace() for character in text)
        case Unit.CJK:
            return len(_IDEOGRAPH.findall(text))
        case Unit.WORDS:
            return len(_WORD.findall(text))
        case Unit.PARAGRAPHS:
            return sum(bool(block.strip()) for block in text.splitlines())
        case Unit.SENTENCES:
            from envs.detection.sentences import split

            return len(split(text))


def holds(length: int, relation: Relation, demanded: int) -> bool:
    """Whether a length is what was demanded."""
    match relation:
        case Relation.EXACTLY:
            return length == demanded
        case Relation.AT_LEAST:
            return length >= demanded
        case Relation.AT_MOST:
            return length <= demanded
        case Relation.ABOUT:
            return abs(length - demanded) <= ABOUT * demanded
