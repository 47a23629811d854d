"""Claims of a text that can be checked without knowing the world: calculations and dates.

Finds claims and judges none. What has the form of no known claim is not found: better none than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from envs.detection import dates
from envs.detection.arithmetic import Chain, NotArithmetic, read
from envs.types import Json

# Sums.

_MARK = re.compile(r"<<([^<>]*)>>")
"""A calculation as GSM8K notes it beside the text: 80,000+50,000=$<<80000+50000=130000>>130,000."""
_RELATION = re.compile(r"≈|(?<![<>!=])==?(?![=>])|\bis equal to\b|\bequals\b|约等于|(?<!不)等于|＝")
_WEAK_RELATION = re.compile(r"\b(?:is|are|makes|gives|totals)\b|[是为]|得到?")
"""Words that say a result only if what stands before them is a calculation."""
_PLACE = re.compile(r"[\d.(\[（$€£¥￥+\-−]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
"""Where an expression may begin."""
_WINDOW = 200
"""Characters before and after a relation that are looked at."""
MAX_SIGNS = 60
"""Relations of one text that are looked at."""


_MARKUP = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(?<!\w)\*\*(\S(?:[^*\n]*\S)?)\*\*(?!\w)", r"\1"),
        (r"\$\$?([^$\n]*\\[a-z]+[^$\n]*)\$\$?", r"\1"),
        (r"\\[()\[\]]|\\[,;! ]", " "),
        (r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\(?:times|cdot)\b", "×"),
        (r"\\div\b", "÷"),
        (r"\\approx\b", "≈"),
        (r"\\text\{([^{}]*)\}", r"\1"),
        (r"\\([$%])", r"\1"),
        (r"(?<=\d)[(（]([^\W\d_]{1,6})[)）]", r" \1"),
        (r"(?<=[\d)a-z])(?<![a-z]{2})²", "^2"),
        (r"(?<=[\d)a-z])(?<![a-z]{2})³", "^3"),
    )
)
"""Markdown, LaTeX and units in brackets, as models write them, and what they say."""


_DENIED_SUM = re.compile(
    r"\bnot (?:true|correct|right)\b|\b(?:is|are) (?:wrong|incorrect|false|untrue)\b|[?？]\s*$|不正确|不对|是错|错误的",
    re.IGNORECASE,
)
"""A sentence that asks, or that says of a calculation that it is wrong, does not claim it."""


def sums(text: str) -> list[str]:
    """Chains of equations with a calculation in them, as they stand in the text, in its order.

    Equations with an unknown are left out unless both sides are the same whatever it is: whether `2x = 10` is right
    depends on what was said of x.
    """
    found: list[str] = []
    if _DENIED_SUM.search(text):
        return found
    for pattern, plain in _MARKUP:
        text = pattern.sub(plain, text)
    for place in dates.find(text):
        # 2024-03-01 is no subtraction.
        text = f"{text[: place.start]}{'#' * (place.end - place.start)}{text[place.end :]}"
    marks = list(_MARK.finditer(text))
    for mark in marks:
        found += _chain_of([mark.group(1)])
    if marks:
        # What a mark says is in the text once more, and often rounded.
        return list(dict.fromkeys(found))
    for pieces in _equations(text, _RELATION):
        found += _chain_of(pieces) or _chain_of(pieces[:2])
    if not found:
        for pieces in _equations(text, _WEAK_RELATION):
            chain = _chain(pieces)
            if not chain or _is_range(chain.sides[0].text):
                continue
            if chain.sides[0].num_operators and chain.sides[-1].decimals is not None:
                found += _chain_of(pieces)
    return list(dict.fromkeys(found))


_RANGE = re.compile(r"(\d+)[-–](\d+)\D*")


def _is_range(text: str) -> bool:
    """Whether a piece is from one number to another, or a name, rather than a subtraction: 1914-1918, 555-1234."""
    match = _RANGE.fullmatch(text)
    return match is not None and int(match[1]) < int(match[2])


def results(formula: str) -> list[str]:
    """Numbers that a chain of equations gives as results, as they stand in the text without separators."""
    try:
        sides = read(formula).sides
    except NotArithmetic:
        return []
    return [side.text.replace(",", "") for side in sides if side.decimals is not None]


def numbers(text: str) -> list[str]:
    """Numbers in a text, without separators."""
    return [match.replace(",", "") for match in re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", text)]


def _chain(pieces: Sequence[str]) -> Chain | None:
    try:
        return read("".join(pieces))
    except NotArithmetic:
        return None


def _chain_of(pieces: Sequence[str]) -> list[str]:
    """The chain as a list of one, or none if it claims nothing that can be checked."""
    chain = _chain(pieces)
    if chain is None or not chain.relations or not chain.num_operators:
        return []
    text = _written(chain)
    if str(chain.truth) == "false" and (_mixes_units(text) or _PERCENT_OFF.search(text)):
        return []
    has_unknowns = any(side.value.unknowns for side in chain.sides)
    return [] if has_unknowns and str(chain.truth) == "open" else [text]


_PERCENT_OFF = re.compile(r"[^%％\s]\s*[-+−–减加][上去]?\s*\d+(?:\.\d+)?\s*[%％]")
"""100 - 20% is 80 to some and 99.8 to others."""
_UNITS = tuple(
    re.compile(rf"(?<![A-Za-z])({names})s?(?![A-Za-z])|({chinese})", re.IGNORECASE)
    for names, chinese in (
        ("second|minute|hour|day|week|month|year", "秒|分钟|小时|天|周|个月|年"),
        ("inche?|foot|feet|yard|mile|millimeter|centimeter|meter|kilometer|mm|cm|km", "毫米|厘米|分米|千米|公里|米"),
        ("cent|dollar|penny|pennies|dime|quarter", "元|角|分"),
        ("gram|kilogram|kg|ounce|pound|ton", "千克|公斤|克|斤|吨"),
        ("cup|pint|quart|gallon|liter|litre|ml", "毫升|升"),
    )
)


def _mixes_units(text: str) -> bool:
    """Whether a chain has several units of one kind, whose numbers are not the same measure."""
    return any(len({match.group().lower().rstrip("s") for match in units.finditer(text)}) > 1 for units in _UNITS) or (
        "$" in text and "cent" in text
    )


def _written(chain: Chain) -> str:
    rest = zip(chain.relations, chain.sides[1:], strict=True)
    return chain.sides[0].text + "".join(f" {relation} {side.text}" for relation, side in rest)


def _sign(match: re.Match[str]) -> str:
    return "≈" if match.group() in ("≈", "约等于") else "="


def _equations(text: str, relation: re.Pattern[str]) -> Iterator[list[str]]:
    """Neighbouring pieces around relations that are expressions: the end of the first one, the start of the last."""
    signs = list(islice(relation.finditer(text), MAX_SIGNS))
    number = 0
    while number < len(signs):
        left = _last_expression(text[max(0, signs[number].start() - _WINDOW) : signs[number].start()])
        if left is None:
            number += 1
            continue
        pieces = [left]
        while number < len(signs):
            after = signs[number].end()
            before_next = signs[number + 1].start() if number + 1 < len(signs) else len(text)
            whole = text[after:before_next].strip()
            if number + 1 < len(signs) and _is_expression(whole):
                pieces.append(_sign(signs[number]) + whole)
                number += 1
                continue
            right = _first_expression(text[after : min(before_next, after + _WINDOW)])
            if right is not None:
                pieces.append(_sign(signs[number]) + right)
            number += 1
            break
        if len(pieces) > 1:
            yield pieces


def _is_expression(text: str) -> bool:
    try:
        return not read(text).relations
    except NotArithmetic:
        return False


def _last_expression(text: str) -> str | None:
    """The longest end of a text that is an expression."""
    found, num_failures = None, 0
    for place in reversed(list(_PLACE.finditer(text))):
        before, piece = text[: place.start()], text[place.start() :].strip()
        # Not within a number or a word, nor behind a sign whose other side cannot be read.
        if _INSIDE.search(before) and piece[:1].isalnum():
            continue
        # A bracket that closes must have been opened.
        if _BEHIND_A_SIGN.search(before) or not _is_balanced(piece):
            continue
        if not _is_expression(piece):
            num_failures += 1
            if num_failures == MAX_FAILURES:
                break
        elif read(piece).num_operators or _AT_A_START.search(before):
            found = piece
    return found


MAX_FAILURES = 12
"""Places that begin no expression, before the search for an earlier one ends."""
_INSIDE = re.compile(r"[A-Za-z0-9_]$|\d[.,]$")
_BEHIND_A_SIGN = re.compile(r"[-+*/×÷·^√∑∫%−]\s*$")
_AT_A_START = re.compile(r"(?:^|[.,;:!?，。；：！？\n(（])\s*$")


def _is_balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in "([（") - (character in ")]）")
        if depth < 0:
            return False
    return depth == 0


_STOP = re.compile(
    r"[,;:。，；：、!?！？\n]|\.(?!\d)|\s(?:and|so|which|because|then|but|where|since|if|或|和|所以|因此)\b"
)


def _first_expression(text: str) -> str | None:
    """The longest start of a text that is an expression."""
    ends = [match.start() for match in _STOP.finditer(text)] + [len(text)]
    thousands = re.compile(r"\d,\d{3}(?!\d)")
    kept = [end for end in ends if not thousands.match(text, max(0, end - 1))]
    piece = text[: kept[0]].strip()
    if _is_expression(piece):
        return piece
    # An expression may also end at any space before words that are no unit.
    words = [match.start() for match in re.finditer(r"\s+", piece)]
    for end in reversed(words):
        if _is_expression(piece[:end]):
            return piece[:end].strip()
    return None


# Dates.


@dataclass(frozen=True, slots=True, kw_only=True)
class DateClaim:
    """That a date has a weekday, or lies so many days from another."""

    first: str
    second: str | None = None
    days: int | None = None
    weekday: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As arguments of the tool `date`."""
        given = {"date1": self.first, "date2": self.second, "days": self.days, "weekday": self.weekday}
        return {name: value for name, value in given.items() if value is not None}


_DAYS = re.compile(
    r"(?<![\d.-])(\d{1,6}(?:,\d{3})*)\s*(?:full\s+|whole\s+)?(days?|weeks?|天|日(?!期)|周(?![一二三四五六日年])|星期(?![一二三四五六日]))"
)
_INCLUSIVE = re.compile(r"inclusive|including both|both days|包括(?:首尾|两端|起止)|首尾(?:都|均)?(?:算|计)|含首尾")


_LEADS = re.compile(r"(?:[A-Z][a-z]+day|(?:星期|周|礼拜).)[\s,，、(（]*(?:the\s+|是|为)?")
"""All that stands between the beginning of a weekday and the date that it belongs to."""
_OTHER_DAY = re.compile(
    r"\b(?:not|every|each|next|last|from|to|until|by|instead of)\s+(?:an?\s+)?$|n['’]t\s+an?\s+$|[不非每下上][是个]?$"
)
"""What stands before a weekday that is not said of the date."""
_DENIED = re.compile(r"\bno\b|\bnot\b|n['’]t\b|\binvalid\b|不存在|没有|无效|并无")
"""Of a date that no calendar has: the sentence says so itself."""
_BOUND = re.compile(
    r"(?:\b(?:more|less|fewer) than|\bover|\bunder|\bat (?:least|most)|\bnearly|\balmost|超过|多于|不到|至少|近)\s*$",
    re.IGNORECASE,
)
"""What stands before a number of days that is a bound and no claim."""


def date_claims(text: str) -> list[DateClaim]:
    """Claims about full dates in one sentence: two dates and a number of days, or a date and its weekday."""
    found = dates.find(text)
    if not found:
        return []
    claims: list[DateClaim] = []
    spelled = [text[place.start : place.end] for place in found]
    claims += [DateClaim(first=spelled[number]) for number, place in enumerate(found) if place.value is None]
    if claims:
        return [] if _DENIED.search(text) else claims
    spans = [match for match in _DAYS.finditer(text) if not any(p.start <= match.start() < p.end for p in found)]
    spans = [match for match in spans if not _BOUND.search(text[: match.start()])]
    if len(found) == 2 and len(spans) == 1:
        num = int(spans[0][1].replace(",", "")) * (7 if spans[0][2].startswith(("week", "周", "星期")) else 1)
        num -= bool(_INCLUSIVE.search(text))
        claims.append(DateClaim(first=spelled[0], second=spelled[1], days=num))
    for place, number in dates.weekdays(text):
        # The weekday belongs to the date that it leads to, else to the one before it, else to the one that follows.
        leads = [one for at, one in zip(found, spelled, strict=True) if _LEADS.fullmatch(text[place : at.start])]
        before = [(at, one) for at, one in zip(found, spelled, strict=True) if at.end <= place]
        between = text[before[-1][0].end : place] if before else text[:place]
        if not leads and _OTHER_DAY.search(between):
            continue
        first = leads[0] if leads else before[-1][1] if before else spelled[0]
        claims.append(DateClaim(first=first, weekday=dates.WEEKDAYS[number]))
    return claims
