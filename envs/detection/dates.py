"""Dates in text, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

_MONTHS = re.findall(r"\w+", "January February March April May June July August September October November December")
_MONTH = "|".join(f"{name}|{name[:3]}\\.?" if name != "May" else name for name in _MONTHS) + r"|Sept\.?"
_YEAR = r"(?:1[0-9]{3}|2[0-9]{3})"
_DATE = re.compile(
    rf"""(?<![A-Za-z\d.-])(?P<y1>{_YEAR})[-/.](?P<m1>\d{{1,2}})[-/.](?P<d1>\d{{1,2}})(?![\d-])
      | (?<!\d)(?P<y2>{_YEAR})\s*年\s*(?P<m2>\d{{1,2}})\s*月\s*(?P<d2>\d{{1,2}})\s*[日号]
      | (?<![A-Za-z])(?P<n3>{_MONTH})\s+(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y3>{_YEAR})(?!\d)
      | (?<![A-Za-z\d.-])(?P<d4>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<n4>{_MONTH}),?\s+(?P<y4>{_YEAR})(?!\d)""",
    re.VERBOSE,
)

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CHINESE_WEEKDAYS = "一二三四五六日"
_WEEKDAY = re.compile(
    rf"(?<![A-Za-z])(?P<english>{'|'.join(WEEKDAYS)})(?![A-Za-z])|(?:星期|周|礼拜)(?P<chinese>[一二三四五六日天])"
)


class NoDate(ValueError):
    """Text that is no date, or a date that no calendar has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDate:
    """A date in a text."""

    start: int
    end: int
    value: date | None
    """None: it has the form of a date, and no calendar has it, such as 2023-02-29."""


def find(text: str) -> list[FoundDate]:
    """Full dates (year, month and day) in a text."""
    return [FoundDate(start=match.start(), end=match.end(), value=_value(match)) for match in _DATE.finditer(text)]


def parse(text: str) -> date:
    """The date that a text is.

    Raises:
        NoDate: it is none.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise NoDate(f"{text!r} is no date: expected one such as 2024-03-01, March 1, 2024 or 2024年3月1日")
    value = _value(match)
    if value is None:
        raise NoDate(f"there is no {text.strip()}")
    return value


def weekdays(text: str) -> Iterator[tuple[int, int]]:
    """Weekdays named in a text: the place of each and its number, Monday being 0."""
    for match in _WEEKDAY.finditer(text):
        if match["english"]:
            yield match.start(), WEEKDAYS.index(match["english"])
        else:
            yield match.start(), _CHINESE_WEEKDAYS.index(match["chinese"].replace("天", "日"))


def weekday_number(text: str) -> int | None:
    """The number of the weekday that a text names; None if it names none."""
    return next((number for _, number in weekdays(text)), None)


def _value(match: re.Match[str]) -> date | None:
    form = next(form for form in "1234" if match[f"y{form}"])
    month = int(match[f"m{form}"]) if form in "12" else _month_number(match[f"n{form}"])
    try:
        return date(int(match[f"y{form}"]), month, int(match[f"d{form}"]))
    except ValueError:
        return None


def _month_number(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, start=1) if month[:3] == name[:3])
