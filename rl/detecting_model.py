"""Responses checked by a model of our own, on the rollout pool: records -> episodes under way -> lines in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from envs.component import Component
from envs.types import Json
from rl.detecting import (
    ENGINE_FAILED,
    MAX_TURNS,
    Detector,
    Record,
    Settings,
    in_order,
    line_of,
    refused,
    toolbox_options,
)
from rollout.engine import Sampling
from rollout.pool import RolloutPool
from rollout.worker import EpisodeSettings


def episode_settings(settings: Settings, *, temperature: float = 0.0, seed: int = 0) -> EpisodeSettings:
    """How a model checks.

    Args:
        settings: tools and tokens of a turn.
        temperature: 0 is greedy.
        seed: of sampling.
    """
    return EpisodeSettings(
        env=Component(factory="envs.detection.env:DetectionEnv", options=toolbox_options(settings)),
        sampling=Sampling(temperature=temperature, max_tokens=settings.max_tokens, seed=seed if temperature else None),
        max_turns=MAX_TURNS,
    )


async def pool_lines(
    records: Iterable[Record], settings: Settings, pool: RolloutPool, *, at_once: int
) -> AsyncGenerator[dict[str, Json], None]:
    """Check records and give their lines in order.

    Args:
        records: read only as far as they are needed.
        settings: with which tools.
        pool: serves the model.
        at_once: responses under way.

    Raises:
        EngineFailed: no engine is left and none can be started.
    """
    # Nothing of it runs here but the making of tasks.
    detector = Detector(settings)
    episodes = episode_settings(settings)

    async def work(record: Record) -> dict[str, Json]:
        too_long = refused(record)
        if too_long is not None:
            return too_long
        (trajectory,) = await pool.run(detector.task(record), group_id=str(record.record_id), settings=episodes)
        return line_of(record.record_id, trajectory, ENGINE_FAILED)

    async for line in in_order(records, work, at_once):
        yield line
