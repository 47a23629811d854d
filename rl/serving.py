"""A model behind a rollout pool, for commands that sample and do not learn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from rl import config as configs
from rl import parts
from rl.cluster import connected
from rl.config import Config
from rl.console import all_started, make_console
from rl.errors import BadInput, RunFailed
from rl.interruption import Interruption
from rl.logging import to_files
from rollout.engine import EngineFailed
from rollout.pool import RolloutPool
from rollout.renderer import prove_prefix_property

T = TypeVar("T")


def with_pool(config: Config, directory: Path, work: Callable[[RolloutPool], Awaitable[T]]) -> T:
    """Start the engines of `config` with its model, do `work` with them, and stop them again.

    Args:
        config: of `rl.config.for_model`.
        directory: gets the logs.
        work: what is done.

    Raises:
        BadInput: too few resources, or a chat template that rollouts cannot use.
        RunFailed: no engine could be started.
        KeyboardInterrupt: the work was interrupted.
    """
    to_files(directory / "logs")
    model_path, adapter = configs.base_and_adapter(configs.model_path(config.model.path))
    try:
        prove_prefix_property(parts.build_renderer(config, model_path))
    except ValueError as error:
        raise BadInput(f"model {model_path}: {error}") from error
    pool_config = parts.pool_config(config, model_path, directory, adapter)
    required = {
        "CPU": config.rollout_pool.num_workers * config.rollout_pool.num_cpus_per_worker,
        "GPU": config.rollout_pool.num_workers * config.rollout_pool.num_gpus_per_worker,
    }

    async def run() -> T:
        interruption = Interruption()
        try:
            with interruption.watched():
                pool = RolloutPool(pool_config, parts.episode_settings(config))
                try:
                    await all_started(make_console(), {"engine": pool.start()})
                    return await work(pool)
                finally:
                    await pool.close()
        except asyncio.CancelledError:
            if interruption.requested:
                raise KeyboardInterrupt from None
            raise

    with connected(config.ray, required, directory / "logs"):
        try:
            return asyncio.run(run())
        except EngineFailed as error:
            raise RunFailed(str(error).strip().splitlines()[-1]) from error
