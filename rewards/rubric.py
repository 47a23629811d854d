"""A weighted sum of rewards, itself a reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.component import Component
from rewards.types import Reward, Score
from rollout.trajectory import Trajectory


class Rubric:
    """Adds the scores of several rewards, turn by turn.

    Unscored if any of its rewards is. The errors, and what they cost, are those of the first reward that reports some.
    """

    def __init__(self, rewards: Sequence[Mapping[str, Any]]) -> None:
        """Build the rewards.

        Args:
            rewards: tables with `factory`, `options`, `weight` (1.0 by default) and `name` (the factory's own by
                default), as they stand in a recipe.

        Raises:
            ValueError: no reward, two of one name, or a reward that cannot be built.
        """
        if not rewards:
            raise ValueError("rewards: expected at least one")
        self._rewards: dict[str, tuple[float, Reward]] = {}
        for table in rewards:
            fields = dict(table)
            weight = float(fields.pop("weight", 1.0))
            component = Component.model_validate({k: v for k, v in fields.items() if k != "name"})
            name = str(fields.get("name") or component.factory.partition(":")[2])
            if name in self._rewards:
                raise ValueError(f"rewards: two are named {name!r}; give them a name each")
            component.check()
            self._rewards[name] = (weight, component.build())

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        per_turn = np.zeros(len(trajectory.turns), dtype=np.float32)
        parts: dict[str, float] = {}
        errors: Sequence = ()
        costs: tuple[float, ...] = ()
        reasons = []
        for name, (weight, reward) in self._rewards.items():
            score = reward(trajectory)
            if score.unscored:
                reasons.append(f"{name}: {score.unscored}")
                continue
            per_turn += weight * score.per_turn
            parts |= {f"{name}/{part}": weight * value for part, value in score.parts.items()}
            if not errors:
                errors, costs = score.errors, tuple(weight * cost for cost in score.costs)
        if reasons:
            return Score(per_turn=np.zeros_like(per_turn), errors=tuple(errors), unscored="; ".join(reasons))
        return Score(per_turn=per_turn, errors=tuple(errors), costs=costs, parts=parts)
