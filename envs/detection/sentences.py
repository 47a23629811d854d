"""Text -> sentences, in English and Chinese: each with its place, so that nothing of the text is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CHARACTERS = 200_000

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*\r?$|\Z)", re.MULTILINE | re.DOTALL)
_END = re.compile(
    r"""(?:[。！？；…]+ | (?:\.{2,}|[.!?;])+ (?=\s|$|["'”’»)\]]|[^\x00-\x7f]) ) ["'”’」』》»)\]）】]*""",
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"""(?:^|[\s("'“‘\[])
    (?: (?:Mr|Mrs|Ms|Dr|Prof|Rev|Hon|St|Sr|Jr|Gen|Col|Sgt|Capt|Lt|Gov|Sen|Rep|Pres|Mt|Ft|No|Nos|Vol|Fig|Eq|Sec|Ch|pp|p
        |vs|al|cf|ca|approx|est|dept|Inc|Ltd|Co|Corp|Ph\.D|M\.D|B\.A|M\.A|a\.m|p\.m|e\.g|i\.e|etc
        |Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun)
      | (?:[A-Z]\.)*[A-Z] )\.$""",
    re.VERBOSE,
)
_ENDS_SENTENCES_TOO = re.compile(r"(?:Inc|Ltd|Co|Corp|etc|a\.m|p\.m|(?:[A-Z]\.)+[A-Z])\.$")
"""Abbreviations after which a sentence may well end, if the next one begins."""
_BEGINNING = re.compile(
    r"(?:The|A|An|He|She|It|They|We|You|I|His|Her|Its|Their|Our|This|That|These|Those|There|In|On|At|By|For|But|And"
    r"|However|When|While|After|Before|If|As|Since|So|Then|What|Who|Why|How)\b"
)
_ITEM_NUMBER = re.compile(r"^[ \t]*(?:[-*•>#]+[ \t]*)?\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})\.$")
_ITEM_MARK = re.compile(r"[ \t]*(?:[-*•]|\d{1,3}[.)、]|[（(]\d{1,3}[)）])[ \t]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A piece of a text."""

    start: int
    """Its first character."""
    end: int
    """The one after its last."""
    text: str


def split(text: str) -> list[Sentence]:
    """The sentences of a text, without the space around them; a fenced block of code is one.

    Ends are full stops that end no abbreviation, decimal or number of a list, question and exclamation marks,
    semicolons, ellipses, their Chinese forms, and line breaks.

    Raises:
        ValueError: longer than MAX_CHARACTERS.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"text of {len(text)} characters: expected at most {MAX_CHARACTERS}")
    found: list[Sentence] = []
    position = 0
    for block in _FENCE.finditer(text):
        found += _of_prose(text, position, block.start())
        found += _stripped(text, block.start(), block.end())
        position = block.end()
    return found + _of_prose(text, position, len(text))


def _of_prose(text: str, start: int, end: int) -> list[Sentence]:
    found: list[Sentence] = []
    for line in re.finditer(r"[^\r\n]+", text[start:end]):
        first, last = start + line.start(), start + line.end()
        for mark in _END.finditer(text, first, last):
            if mark.end() < last and _is_inside(text, first, mark):
                continue
            found += _stripped(text, first, mark.end())
            first = mark.end()
        found += _stripped(text, first, last)
    return found


def _is_inside(text: str, first: int, mark: re.Match[str]) -> bool:
    """Whether a mark ends no sentence."""
    if not mark.group().startswith(".") or mark.group().startswith(".."):
        return False
    before = text[first : mark.start() + 1]
    if _ITEM_NUMBER.search(before):
        return True
    after = text[mark.end() : mark.end() + 40].lstrip()
    if _ABBREVIATION.search(before):
        return not (_ENDS_SENTENCES_TOO.search(before) and _BEGINNING.match(after))
    return after[:1].islower() and after[:1].isascii()


def _stripped(text: str, start: int, end: int) -> list[Sentence]:
    piece = text[start:end]
    mark = _ITEM_MARK.match(piece)
    if mark and piece[mark.end() :].strip():
        start += mark.end()
        piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    # Marks without a word belong to nothing that could be checked.
    if not any(character.isalnum() for character in piece):
        return []
    return [Sentence(start=start, end=start + len(piece), text=piece)]
