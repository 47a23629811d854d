"""Whether a context supports a sentence: without a model, by terms, numbers, dates and negation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from envs.detection import dates
from envs.detection.arithmetic import shown
from envs.detection.claims import numbers
from envs.detection.http import post
from envs.detection.sentences import split
from envs.types import ToolError


class Support(StrEnum):
    """What a context says about a sentence."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNRELATED = "unrelated"
    """It does not say enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A judgement, and what it rests on."""

    support: Support
    evidence: str


class Matcher(Protocol):
    """Judges a sentence by a context: these rules, a model, an endpoint."""

    def match(self, sentence: str, context: str) -> Match:
        """The judgement.

        Raises:
            ToolError: none could be had.
        """
        ...


_MAX_CONTEXT = 100_000
"""Characters that are compared."""

_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or but of in on at to for from by with as is are was were be been being it its this that these
        those he she they his her their there which who whom what when where has have had do does did will would can
        could may also than then so such into about over after before between during no not""",
    )
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|false|incorrect|untrue|\w+n['’]t)\b|[不没未无非](?![同少多断久])|并非"
)
_TERM = re.compile(r"[A-Za-z]+(?:['’\-][A-Za-z]+)*|[\u4e00-\u9fff]+")
_SUFFIX = re.compile(r"(?:'s|ies|es|s|ed|ing|ly)$")


def terms(text: str) -> list[str]:
    """Words that carry meaning, without endings; of Chinese, every pair of neighbouring characters."""
    found: list[str] = []
    for word in _TERM.findall(text):
        if word[0] >= "\u4e00":
            found += [word[at : at + 2] for at in range(len(word) - 1)] or [word]
        elif word.lower() not in _STOP_WORDS:
            stem = _SUFFIX.sub("", word.lower())
            found.append(stem if len(stem) > 2 else word.lower())
    return found


class EndpointMatcher:
    """An HTTP endpoint: POST {"sentence", "context"} -> {"support", "evidence"?}, `support` being one of Support."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        """Ask `url`, waiting for at most `timeout` seconds."""
        self._url = url
        self._timeout = timeout

    def match(self, sentence: str, context: str) -> Match:
        """The judgement of the endpoint."""
        answer = post(self._url, {"sentence": sentence, "context": context}, timeout=self._timeout)
        support, evidence = answer.get("support"), answer.get("evidence")
        if support not in list(Support):
            expected = ", ".join(Support)
            raise ToolError(f"the matching endpoint gave support {str(support)[:50]!r}, expected one of {expected}")
        if not isinstance(evidence, str):
            evidence = f"{support} by {self._url}"
        return Match(support=Support(support), evidence=evidence)


class OverlapMatcher:
    """The most similar sentence of the context decides: as similar as `threshold` it speaks of the same.

    Then a number or date that it does not have, where it has another one, or a negation on one side alone, contradicts;
    else it supports if all but a few of the terms are there.
    """

    def __init__(self, threshold: float = 0.5, support: float = 0.75) -> None:
        """Judge by these shares of the sentence's terms.

        Args:
            threshold: from which a passage speaks of the same thing.
            support: from which it says the same.
        """
        if not 0 < threshold <= support <= 1:
            raise ValueError(f"expected 0 < threshold <= support <= 1, got {threshold} and {support}")
        self._threshold = threshold
        self._support = support

    def match(self, sentence: str, context: str) -> Match:
        """The judgement; never raises."""
        wanted, passages = set(terms(sentence)), statements(context)
        if not wanted or not passages:
            return Match(support=Support.UNRELATED, evidence="nothing to compare")
        shares = [len(wanted & set(terms(passage))) / len(wanted) for passage in passages]
        share = max(shares)
        passage = passages[shares.index(share)]
        return judged(sentence, passage, context, share, threshold=self._threshold, support=self._support)


def statements(context: str) -> list[str]:
    """The sentences of a context that state something; questions do not."""
    return [piece.text for piece in split(context[:_MAX_CONTEXT]) if not piece.text.endswith(("?", "？"))]


def judged(sentence: str, passage: str, context: str, nearness: float, *, threshold: float, support: float) -> Match:
    """What the nearest passage says of a sentence: the same, another number, date or negation, or not enough.

    Args:
        sentence: what is claimed.
        passage: the sentence of `context` that is nearest to it.
        context: numbers and dates that stand elsewhere in it contradict nothing.
        nearness: of the passage, in the measure of the thresholds.
        threshold: from which it speaks of the same thing.
        support: from which it says the same.
    """
    if nearness < threshold:
        return Match(support=Support.UNRELATED, evidence=f"no passage speaks of it; the nearest: {passage}")
    problem = _number_problem(sentence, passage, context) or _negation_problem(sentence, passage)
    if problem:
        return Match(support=Support.CONTRADICTED, evidence=f"{problem}: {passage}")
    if nearness < support:
        return Match(support=Support.UNRELATED, evidence=f"a passage says only part of it: {passage}")
    return Match(support=Support.SUPPORTED, evidence=passage)


def _number_problem(sentence: str, passage: str, context: str) -> str:
    claimed, said = _quantities(sentence), set(_quantities(passage))
    if not claimed or not said - set(claimed):
        return ""
    known = said | set(_quantities(context))
    missing = next((value for value in claimed if value not in known), None)
    return "" if missing is None else f"{missing} is not what is said"


def _quantities(text: str) -> Sequence[str]:
    """Dates, and the numbers outside of them, each written in one way."""
    found = dates.find(text)
    rest = text
    for place in reversed(found):
        rest = f"{rest[: place.start]} {rest[place.end :]}"
    return [str(place.value) for place in found if place.value] + [_plain(number) for number in numbers(rest)]


def _plain(number: str) -> str:
    from fractions import Fraction

    return shown(Fraction(number))


def _negation_problem(sentence: str, passage: str) -> str:
    wanted = set(terms(sentence))
    clauses = [(len(wanted & set(terms(clause))), clause) for clause in _CLAUSE_END.split(passage)]
    most = max(num for num, _ in clauses)
    # A long passage may deny something else in passing.
    near = " ".join(clause for num, clause in clauses if 2 * num > most) or passage
    claimed, said = (len(_NEGATION.findall(text.lower())) % 2 for text in (sentence, near))
    return "one of them is negated" if claimed != said else ""


_CLAUSE_END = re.compile(r"[，,；;：:()（）]")
