"""What is kept of a run's episodes: the fate of each one, and in some steps the episodes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rewards.types import Score
from rl.config import Config
from rl.sample import ScoredGroup
from rollout.store import Fate, Ledger, write_scores, write_trajectories
from rollout.trajectory import Trajectory

LEDGER = "ledger.jsonl"


class Records:
    """Writes into the run directory. Of demonstrations nothing is kept: they follow from the seed."""

    def __init__(self, config: Config, directory: Path, *, step: int) -> None:
        """Open the records.

        Args:
            config: of the run.
            directory: of the run.
            step: steps that were made; what an interrupted run wrote of later ones no longer counts.
        """
        self._every = config.run.keep_trajectories_every
        self._env = config.source.env.factory
        self._scheme = config.reward.factory
        self._directory = directory
        self._ledger = None if config.source.offline else Ledger(directory / LEDGER)
        if self._ledger is not None and len(self._ledger):
            self._ledger.resume(step + 1)

    def write(self, step: int, groups: Sequence[ScoredGroup]) -> None:
        """Record the groups of step number `step`, counted from 1."""
        if self._ledger is not None:
            fates: dict[Fate, list[str]] = {fate: [] for fate in Fate}
            for group in groups:
                for trajectory, score in zip(group.trajectories, group.scores, strict=True):
                    fates[fate_of(trajectory, score)].append(trajectory.trajectory_id)
            for fate, names in fates.items():
                self._ledger.record(names, fate, step)
        if self._every and step % self._every == 0:
            self._keep(step, groups)

    def _keep(self, step: int, groups: Sequence[ScoredGroup]) -> None:
        trajectories = [trajectory for group in groups for trajectory in group.trajectories]
        write_trajectories(self._directory, step, trajectories, env=self._env)
        rows = [
            score_row(trajectory, score, self._scheme)
            for group in groups
            if group.scores
            for trajectory, score in zip(group.trajectories, group.scores, strict=True)
        ]
        if rows:
            write_scores(self._directory, step, rows)


def fate_of(trajectory: Trajectory, score: Score) -> Fate:
    """What becomes of a scored trajectory."""
    if trajectory.ending.is_failure:
        return Fate.FAILED
    return Fate.DROPPED if score.unscored else Fate.TRAINED


def score_row(trajectory: Trajectory, score: Score, scheme: str) -> dict[str, Any]:
    """One row of the scores that are kept."""
    return {
        "trajectory_id": trajectory.trajectory_id,
        "scheme": scheme,
        "total": score.total,
        "per_turn": score.per_turn.tolist(),
        "errors": [{**asdict(error), "kind": str(error.kind)} for error in score.errors],
    }
