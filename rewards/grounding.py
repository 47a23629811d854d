"""Whether a value can have come from what the policy had read: a deterministic form of Relign's truthfulness judge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from envs.types import Json, ToolStatus
from rewards.matching import normalise
from rollout.trajectory import Trajectory

_WORDS = re.compile(r"[^\W_]+")
_NUMBERS = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?%?")
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_SMALL_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_NUMBER_WORDS = {word: float(value) for value, word in enumerate(_SMALL_NUMBERS)} | {
    "a dozen": 12.0,
    "thirty": 30.0,
    "forty": 40.0,
    "fifty": 50.0,
    "a hundred": 100.0,
    "a thousand": 1000.0,
}
_RELATIVE_DATE = re.compile(
    r"\b(today|tonight|tomorrow|yesterday|weekend|next|last|"
    r"(mon|tues|wednes|thurs|fri|satur|sun)day)\b"
)
_LONG_TEXT = 5
"""From so many words on a value is taken for a text the policy composed: half of its words must be known."""


class Context:
    """What the policy has read: the prompt and, turn by turn, the results of calls that succeeded.

    Messages of refused calls are left out: they may quote the very value that was made up.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        plain = normalise(" \n ".join(texts))
        self._plain = plain
        tokens = _WORDS.findall(plain)
        self._words = set(tokens)
        self._spaced = f" {' '.join(tokens)} "
        self._found_numbers: set[float] | None = None

    def holds(self, value: Json) -> bool:
        """Whether every leaf of `value` occurs, or follows by normalisation."""
        if isinstance(value, Mapping):
            return all(map(self.holds, value.values()))
        if isinstance(value, (list, tuple)):
            return all(map(self.holds, value))
        if value is None or isinstance(value, bool):
            # No text can be searched for these: whether they are right is for the reference to say.
            return True
        if isinstance(value, (int, float)):
            try:
                return float(value) in self._numbers()
            except OverflowError:
                return str(value) in self._words
        return self._holds_text(str(value))

    def _holds_text(self, value: str) -> bool:
        text = normalise(value)
        words = _WORDS.findall(text)
        if not words:
            return not text or text in self._plain
        if f" {' '.join(words)} " in self._spaced:
            return True
        date = _ISO_DATE.match(text)
        if date is not None and self._holds_date(*map(int, date.groups())):
            return True
        if len(words) == 1 and _NUMBERS.fullmatch(text):
            return _as_number(text) in self._numbers()
        known = sum(word in self._words for word in words)
        return known == len(words) or (len(words) >= _LONG_TEXT and 2 * known >= len(words))

    def _holds_date(self, year: int, month: int, day: int) -> bool:
        if _RELATIVE_DATE.search(self._plain):
            return True
        if not 1 <= month <= 12:
            return False
        days = (f"{day}", f"{day:02d}", f"{day}st", f"{day}nd", f"{day}rd", f"{day}th")
        months = (_MONTHS[month - 1], _MONTHS[month - 1][:3])
        spoken = {form for d in days for m in months for form in (f"{m} {d}", f"{d} {m}", f"{d} of {m}")}
        if any(f" {form} " in self._spaced for form in spoken):
            named_years = {word for word in self._words if re.fullmatch(r"(19|20)\d\d", word)}
            return not named_years or str(year) in named_years
        numeric = [(m, d) for m in (f"{month}", f"{month:02d}") for d in (f"{day}", f"{day:02d}")]
        forms = {f"{year} {m} {d}" for m, d in numeric}
        forms |= {f"{a} {b} {y}" for m, d in numeric for a, b in ((m, d), (d, m)) for y in (year, f"{year % 100:02d}")}
        return any(f" {form} " in self._spaced for form in forms)

    def _numbers(self) -> set[float]:
        if self._found_numbers is None:
            found = {_as_number(text) for text in _NUMBERS.findall(self._plain)}
            found |= {float(word) for word in self._words if word.isdecimal() and len(word) < 300}
            found |= {_as_number(text[:-1]) for text in _NUMBERS.findall(self._plain) if text.endswith("%")}
            found |= {number for word, number in _NUMBER_WORDS.items() if f" {word} " in self._spaced}
            self._found_numbers = found
        return self._found_numbers


def _as_number(text: str) -> float:
    text = text.replace(",", "")
    return round(float(text[:-1]) / 100, 12) if text.endswith("%") else float(text)


def context_before(trajectory: Trajectory, turn: int) -> Context:
    """What the policy had read when it wrote turn `turn`."""
    texts = [message.content for message in trajectory.task.prompt]
    for earlier in trajectory.turns[:turn]:
        texts.extend(result.content for result in earlier.results if result.status == ToolStatus.OK)
    return Context(texts)


def schema_grounds(value: Json, schema: Json, *, defaults: bool) -> bool:
    """Whether the parameter's own schema gives `value`.

    Args:
        value: the value of the argument.
        schema: the schema of the parameter.
        defaults: whether its default and examples count, and not only what limits the choice (enum, const).
    """
    if not isinstance(schema, Mapping):
        return False
    given = [*_listed(schema.get("enum")), schema.get("const")]
    if defaults:
        given += [schema.get("default"), *_listed(schema.get("examples")), schema.get("example")]
    wanted = _spelling(value)
    return any(item is not None and _spelling(item) == wanted for item in given)


def _listed(value: Json) -> list[Json]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _spelling(value: Json) -> str:
    return normalise(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def ungrounded_words(answer: str, context: Context) -> list[str]:
    """The numbers, dates and ids of an answer (words with a digit) that `context` does not hold."""
    found = []
    for word in answer.split():
        word = word.strip(".,;:!?()[]{}\"'")
        if any(letter.isdigit() for letter in word) and not context.holds(word):
            found.append(word)
    return found
