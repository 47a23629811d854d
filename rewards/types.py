"""The records of judgement: kinds of error, errors, scores, and the reward protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from envs.record import record
from rollout.trajectory import Trajectory


class ErrorKind(StrEnum):
    """The one taxonomy of tool errors. Relign's and TL-Training's classes map onto it (rewards.classify)."""

    MALFORMED = "malformed"
    UNKNOWN_TOOL = "unknown_tool"
    IRRELEVANT_TOOL = "irrelevant_tool"
    WRONG_TOOL = "wrong_tool"
    DUPLICATE_CALL = "duplicate_call"
    MISSING_ARGUMENT = "missing_argument"
    UNKNOWN_ARGUMENT = "unknown_argument"
    REDUNDANT_ARGUMENT = "redundant_argument"
    BAD_TYPE = "bad_type"
    BAD_ENUM = "bad_enum"
    BAD_FORMAT = "bad_format"
    WRONG_VALUE = "wrong_value"
    UNGROUNDED_VALUE = "ungrounded_value"
    MISSING_CALL = "missing_call"
    EXTRA_CALL = "extra_call"
    MISSED_DEFERRAL = "missed_deferral"
    NEEDLESS_DEFERRAL = "needless_deferral"
    UNGROUNDED_ANSWER = "ungrounded_answer"


HALLUCINATIONS = frozenset(
    {
        ErrorKind.UNKNOWN_TOOL,
        ErrorKind.IRRELEVANT_TOOL,
        ErrorKind.WRONG_TOOL,
        ErrorKind.MISSING_ARGUMENT,
        ErrorKind.UNKNOWN_ARGUMENT,
        ErrorKind.REDUNDANT_ARGUMENT,
        ErrorKind.BAD_TYPE,
        ErrorKind.BAD_ENUM,
        ErrorKind.BAD_FORMAT,
        ErrorKind.WRONG_VALUE,
        ErrorKind.UNGROUNDED_VALUE,
        ErrorKind.MISSED_DEFERRAL,
    }
)
"""The kinds that make a task count in `hallucination_rate`."""


@record
class CallError:
    """One error of the policy and where it stands."""

    turn: int
    """Index of the turn; for a missing call, the last turn."""
    call: int | None
    """Index of the call within the turn; None for a call that was never made."""
    kind: ErrorKind
    argument: str | None = None
    """JSON pointer of the argument, such as "/city"."""
    detail: str = ""
    start: int | None = None
    end: int | None = None
    """Token span in the trajectory of what is wrong: the call, its name, a key or a value (`rewards.spans`); the turn
    where no more is known; None where there are no tokens, or the call was never made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a trajectory was worth. K turns."""

    per_turn: np.ndarray
    """float32 [K]: the reward earned by each turn."""
    errors: tuple[CallError, ...] = ()
    costs: tuple[float, ...] = ()
    """What each of `errors` adds to the reward of its turn, which holds it already; empty: it is not told apart."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named addends of the total, for the report."""
    unscored: str = ""
    """Why there is no score; "" when there is one. An unscored trajectory is never trained on."""

    def __post_init__(self) -> None:
        if self.costs and len(self.costs) != len(self.errors):
            raise ValueError(f"{len(self.errors)} errors but {len(self.costs)} costs")

    @property
    def total(self) -> float:
        """Sum over turns; NaN if unscored."""
        return float("nan") if self.unscored else float(self.per_turn.sum())


class Reward(Protocol):
    """A pure function of a trajectory."""

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory; per_turn is as long as its turns."""
        ...
