"""How much of a text, or of a tool, is known: requests by their n-grams of words, tools by name and signature."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from envs.schema import signature
from envs.toolworld.catalogue import spoken
from envs.types import Task, ToolSpec
from rewards.matching import normalise

NGRAM = 5
"""Words of an n-gram: requests to tools are short."""

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")
"""A word; in scripts without spaces, a letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """A known text that is near to another one."""

    name: str
    containment: float
    """Share of the other text's n-grams that stand in it: 1 for a text that is part of it."""
    similarity: float
    """Jaccard's index of both sets of n-grams: 1 for the same text."""
    exact: bool
    """Whether both are the same but for case, white space and punctuation."""


class TextIndex:
    """Texts by their n-grams; finds the nearest one exactly, as MinHash would by estimate.

    A text of less than n words is one n-gram: it is near to its like alone.
    """

    def __init__(self, ngram: int = NGRAM) -> None:
        self._ngram = ngram
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = {}
        """Numbers of the texts that hold an n-gram."""
        self._exact: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str) -> None:
        """Make a text known."""
        tokens = _TOKEN.findall(normalise(text))
        number = len(self._names)
        grams = self._grams(tokens)
        self._names.append(name)
        self._sizes.append(len(grams))
        self._exact.setdefault(" ".join(tokens), number)
        for gram in grams:
            self._holders.setdefault(gram, []).append(number)

    def nearest(self, text: str) -> Nearest | None:
        """The text of the greatest containment, the shortest and first of several; None: none holds any of `text`."""
        return self._best(text, lambda common, union: (common, -union))

    def most_similar(self, text: str) -> Nearest | None:
        """The text of the greatest similarity, the first of several; None: none holds any of `text`."""
        return self._best(text, lambda common, union: (common / union,))

    def _best(self, text: str, rank: Callable[[int, int], tuple[float, ...]]) -> Nearest | None:
        """The text whose n-grams in common with `text`, and in either, rank highest."""
        tokens = _TOKEN.findall(normalise(text))
        same = self._exact.get(" ".join(tokens)) if tokens else None
        if same is not None:
            return Nearest(name=self._names[same], containment=1.0, similarity=1.0, exact=True)
        grams = self._grams(tokens)
        shared = Counter(number for gram in grams for number in self._holders.get(gram, ()))
        if not shared:
            return None
        union = {number: len(grams) + self._sizes[number] - common for number, common in shared.items()}
        number = max(sorted(shared), key=lambda one: rank(shared[one], union[one]))
        return Nearest(
            name=self._names[number],
            containment=shared[number] / len(grams),
            similarity=shared[number] / union[number],
            exact=False,
        )

    def _grams(self, tokens: list[str]) -> set[str]:
        if len(tokens) <= self._ngram:
            return {" ".join(tokens)} if tokens else set()
        return {" ".join(tokens[start : start + self._ngram]) for start in range(len(tokens) - self._ngram + 1)}


class ToolIndex:
    """Tools by name, in any spelling, and by signature: name, parameters, types, and what is required."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self.names: set[str] = set()
        self.signatures: set[str] = set()
        for tool in tools:
            self.names.add(plain_name(tool.name))
            self.signatures.add(plain_signature(tool))


def plain_name(name: str) -> str:
    """The words of a name, however it is spelt."""
    return normalise(spoken(name.replace(".", "_")))


def plain_signature(tool: ToolSpec) -> str:
    """A signature in which the order of the parameters does not count."""
    _, _, parameters = signature(tool).partition("(")
    return f"{plain_name(tool.name)}({', '.join(sorted(parameters.removesuffix(')').split(', ')))})"


def request_of(task: Task) -> str:
    """What the user says before the first turn."""
    return "\n".join(message.content for message in task.prompt if message.role == "user")
