"""Dates and times of day in a text, in the many ways of writing them. Reads normalised text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import cached_property

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH = {name[:length]: number for number, name in enumerate(_MONTHS, start=1) for length in (3, len(name))} | {
    "sept": 9
}
_MONTH_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,? ?(?:of )?((?:19|20)\d\d))?"
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})[-/. ](\d{1,2})[-/. ](\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d\d)(?!\d)")
_DAY_MONTH = re.compile(rf"(?<!\d){_DAY} ?(?:of )?({_MONTH_NAMES})\b\.?{_YEAR}")
_MONTH_DAY = re.compile(rf"\b({_MONTH_NAMES})\b\.? ?(?:the )?{_DAY}(?!\d){_YEAR}")
_YEAR_MONTH_DAY = re.compile(rf"(?<!\d)((?:19|20)\d\d),? ({_MONTH_NAMES})\b\.? ?(?:the )?{_DAY}(?!\d)")
_TWO_NUMBERS = re.compile(r"(?<![\d/.-])(\d{1,2})/(\d{1,2})(?![\d/.-])")
_YEARS = re.compile(r"(?<![\d.,])((?:19|20)\d\d)(?![\d,])")
_CJK = re.compile(r"(?<=\d)[\u5e74\u6708\u65e5\u53f7]")

_UNITS = r"(?:hour|day|night|week|weekend|month|quarter|year|season|semester|term)s?"
_FEW = r"(?:\d+|an?|few|couple of|two|three|four|five|six|seven|ten)"
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|weekend"
RELATIVE = re.compile(
    rf"\b(?:today|tonight|tomorrow|yesterday|{_WEEKDAY})\b"
    rf"|\b(?:next|last|this|coming|upcoming|following|past|previous) (?:\w+ )?(?:{_UNITS}|{_MONTH_NAMES})\b"
    rf"|\b{_FEW}[ -]{_UNITS}\b"
    r"|\u4eca\u5929|\u660e\u5929|\u6628\u5929|\u4e0b\u5468|\u5468\u672b|\u73b0\u5728"
)
"""Words from which a date follows for those who know the present one."""

_TIME = re.compile(r"(?<![\d:])(\d{1,2})(?::(\d\d))?(?::\d\d(?:\.\d+)?)? ?(?:(am|pm|a\.m\.|p\.m\.)|o.?clock)?(?![\d:])")
_PART_OF_DAY = re.compile(r"(?<![\d:])(\d{1,2})(?::(\d\d))? (?:in the |this |at )?(morning|afternoon|evening|night)\b")
_ZONE = re.compile(r"(?<=[\dm]) ?(?:z|utc|gmt|[+-]\d\d:?\d\d)$")
_BETWEEN = re.compile(r"(?<=\d)(?:t|,? at |,? )(?=\d{1,2}(?::\d\d| ?[ap]m))")
"""Stands between the date and the time of a moment."""
_MIDNIGHT = re.compile(r"(?:00:00(?::00(?:\.0+)?)?|12(?::00)? ?am)")
_DIGIT = re.compile(r"\d")
_LONGEST = 40
"""Characters of a date with a time, written out."""
_SOON = re.compile(r"\b(?:in|after|within) (?:an?|\w+) (?:minute|hour|second)s?\b|\bnow\b")

YearlessDate = tuple[int | None, int, int]
"""Year, month, day; None: the year is not said."""


class Moments:
    """The dates and times of day that a text names."""

    def __init__(self, text: str) -> None:
        self._given = text

    @cached_property
    def _text(self) -> str:
        return _CJK.sub("-", self._given)

    @cached_property
    def _dates(self) -> frozenset[YearlessDate]:
        short = {
            (None, month, day)
            for one, other in _TWO_NUMBERS.findall(self._text)
            for month, day in ((int(one), int(other)), (int(other), int(one)))
        }
        return frozenset(short.union(_dates(self._text)))

    @cached_property
    def _years(self) -> frozenset[int]:
        return frozenset(map(int, _YEARS.findall(self._text)))

    @cached_property
    def _times(self) -> frozenset[tuple[int, int]]:
        return frozenset(_times(self._text))

    @cached_property
    def _is_relative(self) -> bool:
        return RELATIVE.search(self._text) is not None

    @cached_property
    def _is_soon(self) -> bool:
        return _SOON.search(self._text) is not None

    def holds(self, value: str) -> bool | None:
        """Whether a date, a time or both follow from the text; None: `value` is neither.

        A time that was not asked for but midnight is a completion, and no claim.
        """
        if len(value) > _LONGEST or not _DIGIT.search(value):
            return None
        only_time = _TIME.fullmatch(value)
        if only_time is not None and (only_time[2] or only_time[3]):
            return self._holds_time(value)
        between = _BETWEEN.search(value)
        written, time = (value, "") if between is None else (value[: between.start()], value[between.end() :])
        dates = list(_dates(written.strip(), whole=True))
        if not dates:
            return None
        time = _ZONE.sub("", time)
        return any(map(self._holds_date, dates)) and (
            not time or _MIDNIGHT.fullmatch(time) is not None or self._holds_time(time)
        )

    def _holds_date(self, wanted: YearlessDate) -> bool:
        year, month, day = wanted
        for named_year, named_month, named_day in self._dates:
            if (named_month, named_day) != (month, day):
                continue
            if year is None or named_year == year:
                return True
            if named_year is None and (not self._years or year in self._years or self._is_relative):
                return True
        return self._is_relative and self._is_near(wanted)

    def _is_near(self, wanted: YearlessDate) -> bool:
        """Whether a date lies within a year of one that the text names; every date does if it names none."""
        named = [found for one in self._dates if (found := _day(one)) is not None]
        day = _day(wanted)
        if not named or day is None:
            return True
        return any(abs((day - other).days) <= 366 for other in named)

    def _holds_time(self, value: str) -> bool:
        return self._is_soon or any(time in self._times for time in _times(value))


def same_date(one: str, other: str) -> bool:
    """Whether two texts are the same day, each written in one of the ways; not if a text may mean two days."""
    days, others = set(_dates(one, whole=True)), set(_dates(other, whole=True))
    return days == others and len(days) == 1 and all(year is not None for year, _, _ in days)


def _day(value: YearlessDate) -> date | None:
    year, month, day = value
    try:
        return None if year is None else date(year, month, day)
    except ValueError:
        return None


def _dates(text: str, *, whole: bool = False) -> Iterator[YearlessDate]:
    """The dates of a text; of numbers that may be day or month, both ways. `whole`: the text is one date."""
    for year, month, day in _found(_YEAR_FIRST, text, whole):
        yield from _valid(int(year), int(month), int(day))
    for one, other, year in _found(_YEAR_LAST, text, whole):
        full = int(year) + (2000 if len(year) == 2 else 0)
        yield from _valid(full, int(one), int(other))
        yield from _valid(full, int(other), int(one))
    for day, month, year in _found(_DAY_MONTH, text, whole):
        yield from _valid(int(year) if year else None, _MONTH[month], int(day))
    for month, day, year in _found(_MONTH_DAY, text, whole):
        yield from _valid(int(year) if year else None, _MONTH[month], int(day))
    for year, month, day in _found(_YEAR_MONTH_DAY, text, whole):
        yield from _valid(int(year), _MONTH[month], int(day))


def _found(pattern: re.Pattern[str], text: str, whole: bool) -> Iterator[tuple[str, ...]]:
    if whole:
        match = pattern.fullmatch(text)
        if match is not None:
            yield match.groups()
    else:
        for match in pattern.finditer(text):
            yield match.groups()


def _valid(year: int | None, month: int, day: int) -> Iterator[YearlessDate]:
    if 1 <= month <= 12 and 1 <= day <= 31:
        yield year, month, day


def _times(text: str) -> Iterator[tuple[int, int]]:
    """(hour, minute) of the times of day in a text; without am or pm, both."""
    if re.search(r"\bnoon\b", text):
        yield 12, 0
    if re.search(r"\bmidnight\b", text):
        yield 0, 0
    for hours, minutes, half in _PART_OF_DAY.findall(text):
        yield from _hour(int(hours), int(minutes or 0), "am" if half == "morning" else "pm")
    for match in _TIME.finditer(text):
        hours, minutes, half = match.groups()
        if minutes or half or "clock" in match[0]:
            yield from _hour(int(hours), int(minutes or 0), (half or "").replace(".", ""))


def _hour(hour: int, minute: int, half: str) -> Iterator[tuple[int, int]]:
    if minute > 59 or hour > 24:
        return
    if half == "pm":
        yield (hour % 12 + 12, minute)
    elif half == "am":
        yield (hour % 12, minute)
    else:
        yield (hour % 24, minute)
