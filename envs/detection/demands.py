"""What a question demands of the length of its answer, in English and Chinese."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envs.detection.counting import Relation, Unit
from envs.detection.sentences import split
from envs.types import Json

MAX_QUESTION = 20_000
"""Characters that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthClaim:
    """A demand on the length of a response."""

    unit: Unit
    relation: Relation
    number: int

    def to_json(self) -> dict[str, Json]:
        """As arguments of the tool `word_count`."""
        return {"number": self.number, "unit": str(self.unit), "relation": str(self.relation)}


_ENGLISH_UNITS = {
    "word": Unit.WORDS,
    "character": Unit.CHARACTERS,
    "sentence": Unit.SENTENCES,
    "paragraph": Unit.PARAGRAPHS,
}
_CHINESE_UNITS = {
    "个字符": Unit.CHARACTERS,
    "字符": Unit.CHARACTERS,
    "个汉字": Unit.CJK,
    "汉字": Unit.CJK,
    "个字": Unit.CHARACTERS,
    "字": Unit.CHARACTERS,
    "个单词": Unit.WORDS,
    "单词": Unit.WORDS,
    "句话": Unit.SENTENCES,
    "个句子": Unit.SENTENCES,
    "段": Unit.PARAGRAPHS,
}
_ENGLISH_LENGTH = re.compile(
    r"(?P<before>(?:[A-Za-z,']+\s+){0,4}?)(?:(?P<low>\d{1,6})\s*(?:-|–|~|to|and)\s*)?"
    r"(?P<number>\d{1,3}(?:,\d{3})+|\d{1,6})[\s-]+(?P<unit>word|character|sentence|paragraph)s?\b"
    r"(?P<after>\s+(?:max\b|min\b|or\s+so\b|or\s+(?:more|less|fewer)|at\s+(?:least|most)|exactly|minimum|maximum))?",
    re.IGNORECASE,
)
_CHINESE_LENGTH = re.compile(
    r"(?P<before>[\u4e00-\u9fff]{0,6}?)\s*(?:(?P<low>\d{1,6})\s*字?(?:-|–|—|~|～|到|至)\s*)?(?P<number>\d{1,6})\s*(?P<unit>"
    + "|".join(sorted(_CHINESE_UNITS, key=len, reverse=True))
    + r")"
    r"(?P<after>(?:以上|以下|以内|之内|左右|上下)?)"
)
_MORE = "(?:超过|多于|大于|高于)"
_LESS = "(?:少于|低于|小于)"
_MAY_NOT = "[不别][得能可要应]?"
_DENIES = "(?<![不得能可要应别])"
_RELATION_WORDS = (
    (
        Relation.AT_LEAST,
        re.compile(
            r"at least|not? (?:less|fewer) than|\bmin\b|minimum|or more|(?<!no )(?<!not )(?:more than|\bover\b)"
            rf"|至少|最少|以上|{_MAY_NOT}{_LESS}|{_DENIES}{_MORE}"
        ),
    ),
    (
        Relation.AT_MOST,
        re.compile(
            r"at (?:the )?most|no more than|not more than|not exceed\w*|up to|within|\bmax\b|maximum|limit of"
            r"|or (?:less|fewer)|\bunder|below|(?:fewer|less|shorter) than"
            rf"|至多|最多|限|{_MAY_NOT}{_MORE}|以内|之内|以下|{_DENIES}{_LESS}"
        ),
    ),
    (
        Relation.ABOUT,
        re.compile(
            r"\b(?:about|around|some|nearly)\s+(?:an?\s+)?$|\b(?:approx|roughly|circa|or so)"
            r"|大约|约\s|大概|左右|上下|近\s"
        ),
    ),
)
_STRICTLY = re.compile(
    r"\b(?:under|over|below|shorter than|(?<!no )(?<!not )(?:less|fewer|more) than)\b"
    rf"|{_DENIES}(?:{_LESS}|{_MORE})"
)
"""Not the number itself."""


_ENGLISH_DEMAND = re.compile(
    r"^\W*(?:(?:please|now|then|also|can you|could you|would you|i want you to|i need you to|i would like you to"
    r"|you are to|your task is to|help me)[\s,]+)*(?:write|describe|summari[sz]e|explain|answer|give|create|compose"
    r"|generate|provide|make|use|keep|limit|tell|draft|produce|rewrite|paraphrase|reply|respond|introduce|list|design"
    r"|say|state|in|within|using|with|under|it (?:should|must)"
    r"|the (?:\w+ )?(?:answer|text|response|summary|essay|story|poem) (?:should|must))\b",
    re.IGNORECASE,
)
_CHINESE_DEMAND = re.compile(r"[写用答编描拟]|以|介绍|概括|总结|生成|控制|不超过|不少于|翻译|限")
"""A sentence that demands something of the answer; a number of words may also be what the question is about."""


_ANOTHER_TEXT = re.compile(
    r"\b(?:the|this|that|these|following|above|attached)\s+(?:\w+\s+)?$|[这那][篇段]|以[上下][这那]?|该文?$",
    re.IGNORECASE,
)
"""What stands before the length of a text that is given, not demanded."""


def lengths(question: str) -> list[LengthClaim]:
    """What a question demands of the length of its answer."""
    found: list[LengthClaim] = []
    sentences = [sentence.text for sentence in split(question[:MAX_QUESTION])]
    english = "\n".join(text for text in sentences if _ENGLISH_DEMAND.search(text))
    chinese = "\n".join(text for text in sentences if _CHINESE_DEMAND.search(text))
    for pattern, units, text in (
        (_ENGLISH_LENGTH, _ENGLISH_UNITS, english),
        (_CHINESE_LENGTH, _CHINESE_UNITS, chinese),
    ):
        for match in pattern.finditer(text):
            around = f"{match['before']} {match['after'] or ''}".lower()
            if _ANOTHER_TEXT.search(match["before"]):
                continue
            unit, number = units[match["unit"].lower()], int(match["number"].replace(",", ""))
            if match["low"]:
                found.append(LengthClaim(unit=unit, relation=Relation.AT_LEAST, number=int(match["low"])))
                found.append(LengthClaim(unit=unit, relation=Relation.AT_MOST, number=number))
                continue
            relation = next((kind for kind, words in _RELATION_WORDS if words.search(around)), Relation.EXACTLY)
            if _STRICTLY.search(around):
                number += 1 if relation is Relation.AT_LEAST else -1
            found.append(LengthClaim(unit=unit, relation=relation, number=number))
    return found
