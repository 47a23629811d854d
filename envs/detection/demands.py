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
    r"(?P<before>(?:[A-Za-z,']+\s+){0,4}?)(?P<number>\d{1,3}(?:,\d{3})+|\d{1,6})[\s-]+(?P<unit>word|character|sentence|paragraph)s?\b"
    r"(?P<after>\s+(?:or\s+(?:more|less|fewer)|at\s+(?:least|most)|exactly|minimum|maximum))?",
    re.IGNORECASE,
)
_CHINESE_LENGTH = re.compile(
    r"(?P<before>[\u4e00-\u9fff]{0,6})\s*(?P<number>\d{1,6})\s*(?P<unit>"
    + "|".join(sorted(_CHINESE_UNITS, key=len, reverse=True))
    + r")"
    r"(?P<after>(?:以上|以下|以内|之内|左右|上下)?)"
)
_RELATION_WORDS = (
    (
        Relation.AT_LEAST,
        re.compile(
            r"at least|not? (?:less|fewer) than|minimum|or more|(?<!no )(?<!not )more than"
            r"|至少|不少于|不低于|最少|以上"
        ),
    ),
    (
        Relation.AT_MOST,
        re.compile(
            r"at most|no more than|not more than|up to|within|maximum|or (?:less|fewer)|under|fewer than|less than"
            r"|至多|最多|不超过|不多于|以内|之内|以下"
        ),
    ),
    (Relation.ABOUT, re.compile(r"about|around|approximately|roughly|some|circa|nearly|大约|约|大概|左右|上下|近")),
)
_STRICTLY = re.compile(r"\b(?:under|(?<!no )(?<!not )(?:less|fewer|more) than)\b")
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
            relation = next((kind for kind, words in _RELATION_WORDS if words.search(around)), Relation.EXACTLY)
            number = int(match["number"].replace(",", ""))
            if _STRICTLY.search(around):
                number += 1 if relation is Relation.AT_LEAST else -1
            found.append(LengthClaim(unit=units[match["unit"].lower()], relation=relation, number=number))
    return found
