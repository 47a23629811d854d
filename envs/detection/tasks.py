"""Tasks of detection, made on demand: task number i follows from split, languages, kinds, seed and i."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from envs.detection.env import make_task, offered
from envs.detection.prompts import Language
from envs.detection.sets.mixed import KINDS, MixedResponses, Split
from envs.detection.sets.types import Labelled
from envs.detection.toolbox import Toolbox
from envs.task_sequence import TaskSequence
from envs.types import Task, ToolSpec

KIND_WEIGHTS: Mapping[str, float] = {"arithmetic": 0.25, "dates": 0.25, "lengths": 0.2, "code": 0.05, "mixed": 0.25}
"""Share of each kind unless told otherwise. A program is run in a process of its own, which takes long."""

LANGUAGES: Mapping[str, tuple[Language, ...]] = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}


class DetectionTasks(TaskSequence):
    """Responses to be checked, whose truth is known."""

    def __init__(
        self,
        split: Split = "train",
        languages: Literal["en", "zh", "both"] = "both",
        kinds: Mapping[str, float] | None = None,
        seed: int = 0,
        num: int | None = None,
        short: bool = True,
    ) -> None:
        """Describe a sequence of tasks.

        Args:
            split: train and held-out responses share no calculation, date, demand or program, and no combination of
                the pieces that a sentence is put together from.
            languages: of question, response and instructions; `both`: alike often.
            kinds: weight of each kind; kinds not named do not occur. None: KIND_WEIGHTS.
            seed: another seed gives other tasks.
            num: length of the sequence; None: endless.
            short: short instructions and tools that fill in what they check, for a model with little room.

        Raises:
            ValueError: an unknown split, language or kind.
        """
        if split not in ("train", "heldout"):
            raise ValueError(f"split {split!r}: expected 'train' or 'heldout'")
        if languages not in LANGUAGES:
            raise ValueError(f"languages {languages!r}: expected one of {', '.join(LANGUAGES)}")
        weights = dict(KIND_WEIGHTS if kinds is None else kinds)
        if set(weights) - set(KINDS) or not sum(weights.values()) > 0 or min(weights.values()) < 0:
            raise ValueError(f"kinds {weights}: expected positive weights of {', '.join(KINDS)}")
        self.split: Split = split
        self.languages = languages
        self.seed = seed
        self.num = num
        self._short = short
        self._kinds = list(weights)
        self._weights = list(weights.values())

    def task(self, index: int) -> Task:
        """Task number `index`; its kind is that of the response."""
        kind, language, item = self._made(index)
        return make_task(
            item.item_id,
            item.question,
            item.response,
            tools=_tools(),
            language=language,
            hallucinated=item.hallucinated,
            kind=kind,
            short=self._short,
        )

    def item(self, index: int) -> Labelled:
        """The response of task number `index`, with the labels of its sentences."""
        return self._made(index)[2]

    def _made(self, index: int) -> tuple[str, Language, Labelled]:
        self.expect(index)
        name = f"{self.split}-{self.languages}-{self.seed}-{index}"
        choose = random.Random(name)
        kind = choose.choices(self._kinds, self._weights)[0]
        language = choose.choice(LANGUAGES[self.languages])
        return kind, language, MixedResponses(choose, self.split, language).make(kind, f"detection-{name}")


@lru_cache(maxsize=1)
def _tools() -> tuple[ToolSpec, ...]:
    """Of a toolbox without a search. Which sandbox runs programs does not show in them."""
    return offered(Toolbox())
