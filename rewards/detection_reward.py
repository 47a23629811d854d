"""The reward of detection: the verdict at the end, and what errors of calls cost on the way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.types import ToolStatus
from rewards.classify import judge
from rewards.error_reward import PRESETS, Preset, calls_with_errors, row_of
from rewards.replies import unscored
from rewards.types import Score
from rollout.trajectory import Trajectory

_TABLE: Mapping[str, float] = {"right": 1.0, "wrong": -1.0, "none": -1.5, "fruitless": -0.3}
"""A right and a wrong verdict, an episode without one, and a call of a tool that had nothing to check there."""


class DetectionReward:
    """Rewards on the turns that earned them.

    - The last turn earns `right` or `wrong` by the verdict of the episode, `none` if there is none.
    - A call with an error costs the row of TL-Training's table that it falls into (`rewards.error_reward`).
    - A call that the tool refused, as there was nothing for it to check in that sentence, costs `fruitless`.

    The score tells what each error costs, shared evenly by the errors of a call. Unscored: failures of the
    infrastructure, and tasks whose truth is not known.
    """

    def __init__(
        self,
        preset: Preset = "tl_monotone",
        severity: Mapping[str, float] | None = None,
        verdict: Mapping[str, float] | None = None,
        scale: float = 0.5,
    ) -> None:
        """Choose the tables.

        Args:
            preset: of the table of errors.
            severity: rows of it that differ from the preset.
            verdict: entries that differ: `right`, `wrong`, `none`, `fruitless`.
            scale: errors of calls cost so much of what the table says.

        Raises:
            ValueError: an unknown preset, row or entry.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
        for name, given, known in (("severity", severity, PRESETS[preset]), ("verdict", verdict, _TABLE)):
            unknown = sorted(set(given or {}) - set(known))
            if unknown:
                raise ValueError(f"{name} {unknown}: expected entries of {', '.join(known)}")
        table = {**PRESETS[preset], **(severity or {})}
        self.severity: Mapping[str, float] = {row: scale * value for row, value in table.items()}
        self.verdict: Mapping[str, float] = {**_TABLE, **(verdict or {})}

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        if trajectory.ending.is_failure:
            return unscored(trajectory, f"infrastructure: {trajectory.ending}")
        if not trajectory.turns:
            return unscored(trajectory, "no turn")
        if trajectory.task.answer is None:
            return unscored(trajectory, "the truth is not known")
        found = judge(trajectory)
        per_turn = np.zeros(len(trajectory.turns), dtype=np.float32)
        parts: dict[str, float] = {}
        costs: dict[int, float] = {}

        def earn(turn: int, part: str, value: float) -> None:
            per_turn[turn] += value
            parts[part] = parts.get(part, 0.0) + value

        for turn, errors in calls_with_errors(found.errors):
            row = row_of(errors, self.severity)
            if row is not None:
                earn(turn, row, self.severity[row])
                costs |= {id(error): self.severity[row] / len(errors) for error in errors}
        for turn, one in enumerate(trajectory.turns):
            num = sum(result.status is ToolStatus.FAILED for result in one.results)
            if num:
                earn(turn, "fruitless", num * self.verdict["fruitless"])
        verdict = verdict_of(trajectory)
        earn(len(trajectory.turns) - 1, verdict, self.verdict[verdict])
        told = tuple(costs.get(id(error), 0.0) for error in found.errors)
        return Score(per_turn=per_turn, errors=found.errors, costs=told, parts=parts)


def verdict_of(trajectory: Trajectory) -> str:
    """`right`, `wrong`, or `none` if the episode ended without a verdict, or with none of yes and no."""
    facts = trajectory.outcome.facts
    if not trajectory.outcome.finished or facts.get("hallucinated") is None:
        return "none"
    return "right" if facts.get("success") else "wrong"
