"""The numbers a text gives: written, spelled, scaled ("8.5 million"), ordinal, and in other units of what it measures.

Reads normalised text (`rewards.matching.normalise`), and knows no context: whether a number is the right one is not
decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
)  # fmt: skip
_SPELLED: Mapping[str, float] = {
    **{word: value for value, word in enumerate(_SMALL)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
    **{f"{ten} {one}": 10 * t + o for t, ten in enumerate(_TENS, start=2) for o, one in enumerate(_SMALL[:10]) if o},
    "couple": 2,
    "couple of": 2,
    "pair of": 2,
    "half": 0.5,
    "half a": 0.5,
    "half an": 0.5,
}
_SCALES: Mapping[str, float] = {
    "dozen": 12,
    "hundred": 1e2,
    "thousand": 1e3,
    "k": 1e3,
    "lakh": 1e5,
    "million": 1e6,
    "mn": 1e6,
    "crore": 1e7,
    "billion": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "time": {
        "millisecond ms": 1e-3, "second sec s": 1, "minute min": 60, "hour hr h": 3600, "day night": 86400,
        "week wk": 7 * 86400, "fortnight": 14 * 86400,
    },
    "calendar": {"month": 1, "quarter": 3, "year yr": 12, "decade": 120, "century": 1200},
    "length": {
        "nanometer nanometre nm": 1e-9, "millimeter millimetre mm": 1e-3, "centimeter centimetre cm": 1e-2,
        "meter metre m": 1, "kilometer kilometre km": 1e3, "inch in": 0.0254, "foot feet ft": 0.3048,
        "yard yd": 0.9144, "mile mi": 1609.344,
    },
    "mass": {
        "milligram mg": 1e-6, "gram g": 1e-3, "kilogram kilo kg": 1, "pound lb": 0.45359237, "ounce oz": 0.028349523125,
        "tonne ton": 1e3,
    },
    "volume": {
        "milliliter millilitre ml": 1e-3, "cc": 1e-3, "liter litre l": 1, "cubic meter": 1e3, "cubic metre": 1e3,
        "cubic centimeter": 1e-3, "cubic centimetre": 1e-3,
    },
}  # fmt: skip
_PREFIXES: Mapping[str, tuple[float, ...]] = {
    "p": (1e-12,), "pico": (1e-12,), "n": (1e-9,), "nano": (1e-9,), "\u03bc": (1e-6,), "u": (1e-6,), "micro": (1e-6,),
    "m": (1e-3, 1e6), "milli": (1e-3,), "k": (1e3,), "kilo": (1e3,), "mega": (1e6,), "g": (1e9,), "giga": (1e9,),
}  # fmt: skip
"""Of the units of physics. In folded text milli and mega are one letter."""
_BASES = (
    "f", "farad", "h", "henry", "henrie", "hz", "hertz", "ohm", "v", "volt", "a", "amp", "ampere", "w", "watt", "j",
    "joule", "c", "coulomb", "n", "newton", "pa", "pascal", "t", "tesla", "ev",
)  # fmt: skip
_UNIT: Mapping[str, tuple[str, float]] = {
    name: (dimension, factor)
    for dimension, units in _UNITS.items()
    for names, factor in units.items()
    for name in ([names] if names.startswith("cubic") else names.split())
}

_FACTORS: Mapping[str, tuple[float, ...]] = {
    dimension: tuple(dict.fromkeys(units.values())) for dimension, units in _UNITS.items()
}


def _any_of(words: Iterator[str] | Mapping[str, object] | tuple[str, ...]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_LETTERS = re.compile(r"[a-z]+")
_WORD = re.compile(rf"\b({_any_of(_SPELLED)})\b")
_FIRST_WORDS = frozenset(name.split()[0] for name in _SPELLED)
_ONE = re.compile(
    r"\b(?:an?|every|each|per|this|next|last|past|previous|coming|following) "
    rf"(?=(?:{_any_of(_SCALES)}|(?:{_any_of(_UNIT)})(?:e?s)?)\b)"
)
_HYPHEN = re.compile(r"(?<=[a-z0-9])-(?=[a-z])")
_NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?")
_TAIL = re.compile(
    rf"""[ ]?(?:
        (?P<percent>%|percent\b|per[ ]cent\b)
        |[x*\u00d7\u00b7][ ]?10[ ]?\^?[ ]?\(?(?P<power>[+-]?\d+)
        |(?P<scale>{_any_of(_SCALES)})s?\b
        |(?P<unit>{_any_of(_UNIT)})(?:e?s)?(?![a-z])
        |(?P<prefix>{_any_of(_PREFIXES)})(?:{_any_of(_BASES)})s?\b
        |/[ ]?(?P<divisor>\d{{1,3}})(?![\w/])
    )""",
    re.VERBOSE,
)
"""What may stand behind a number and change what it says."""
_ORDINAL = re.compile(rf"\bthe (second)\b|\b({_any_of(tuple(word for word in _ORDINALS if word != 'second'))})\b")
_TOGETHER = re.compile(r",? ?(?:and )?")
_NEGATIVE = re.compile(
    r"\b(?:minus|negative|below|west|south|loss|lost|losing|debt|withdrawn?|withdrew|decreased?|drop(?:ped)?|fell)\b"
    r"|\d ?\u00b0? ?[ws]\b"
)


def numbers_in(text: str) -> frozenset[float]:
    """Every number that `text` gives, as `rounded` writes it."""
    words = set(_LETTERS.findall(text))
    found: set[float] = set()
    if not words.isdisjoint(_ORDINALS):
        found.update(1.0 + _ORDINALS.index(one or other) for one, other in _ORDINAL.findall(text))
    found.update(_written(_with_digits(text, words)))
    if found and _NEGATIVE.search(text):
        found.update([-number for number in found])
    return frozenset(map(rounded, found))


def _written(text: str) -> Iterator[float]:
    """The numbers that stand in a text as digits, with what follows from what stands behind each."""
    before: tuple[str, int, float] | None = None
    for match in _NUMBER.finditer(text):
        value = float(match[0].replace(",", ""))
        yield value
        tail = _TAIL.match(text, match.end())
        if tail is None:
            continue
        if tail["percent"]:
            yield value / 100
        elif tail["power"]:
            yield value * float(f"1e{tail['power']}")
        elif tail["scale"]:
            yield value * _SCALES[tail["scale"]]
        elif tail["prefix"]:
            yield from (value * factor for factor in _PREFIXES[tail["prefix"]])
        elif tail["divisor"]:
            if int(tail["divisor"]):
                yield value / int(tail["divisor"])
        else:
            dimension, factor = _UNIT[tail["unit"]]
            measure = value * factor
            yield from (measure / other for other in _FACTORS[dimension])
            if (
                before is not None
                and before[0] == dimension
                and _TOGETHER.fullmatch(text, before[1], match.start()) is not None
            ):
                measure += before[2]  # "5 ft 10 in"
                yield from (measure / other for other in _FACTORS[dimension])
            before = dimension, tail.end(), measure


def rounded(number: float) -> float:
    """The number to ten significant digits, if it has a fraction: those of an integer may be an id."""
    return number if number.is_integer() and abs(number) < 1e15 else float(f"{number:.10g}")


def _with_digits(text: str, words: set[str]) -> str:
    """Spelled numbers as digits, and units that stand alone with their one: "next week" as "1 week"."""
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    if not words.isdisjoint(_FIRST_WORDS):
        text = _WORD.sub(lambda match: f"{_SPELLED[match[1]]:g}", text)
    return _ONE.sub("1 ", text)
