"""The parts of a run, built from its configuration. Nothing is started here."""

from __future__ import annotations

import shutil
from pathlib import Path

from envs.component import Component
from rewards.actor import RewardPool
from rl import checkpoint, lora
from rl import config as configs
from rl.algorithms import Algorithm, ReadsTokens
from rl.checkpoint import WEIGHTS
from rl.config import Config
from rl.console import make_console
from rl.errors import BadInput
from rl.learner_group import RankConfig
from rl.sample import ScoredGroup
from rl.sources import (
    DemonstrationMaker,
    DemonstrationSource,
    GroupSource,
    RecordedSource,
    RolloutSource,
    build_tasks,
    preference,
)
from rl.train_engine import LearnerConfig
from rollout.demonstrations import read_demonstrations
from rollout.engine import Sampling
from rollout.pool import CANARY_TOLERANCE, PoolConfig, RolloutPool
from rollout.preferences import read_pairs
from rollout.renderer import Renderer, context_length
from rollout.worker import EpisodeSettings


def make_model(config: Config, directory: Path) -> Path:
    """The folder of the model to start from; `model.init` fills one in the run directory, once.

    Raises:
        BadInput: the model that was made has no such modules as `model.lora` is for.
    """
    init = config.model.init
    if init is None:
        return _whole_model(configs.model_path(config.model.path), directory / "base", made=bool(config.resume))
    folder = directory / "init"
    if not (folder / WEIGHTS).is_file():
        init.build(folder, seed=config.run.seed)
    configs.check_target_modules(config.model.lora, folder)
    return folder


def _whole_model(path: Path, folder: Path, *, made: bool) -> Path:
    """The model folder `path`; if that is an adapter's, the folder `folder` with both in one.

    A new adapter then learns what comes on top, and the model without it is what the run started from.
    """
    if not checkpoint.is_adapter(path):
        return path
    if not (made and folder.is_dir()):
        shutil.rmtree(folder, ignore_errors=True)
        lora.merge(path, folder)
    return folder


def learner_config(config: Config) -> LearnerConfig:
    """How the learners optimise, and on what engine.

    Raises:
        BadInput: settings that do not go together.
    """
    learner, group = config.learner, config.learner_group
    try:
        return LearnerConfig(
            learning_rate=learner.learning_rate,
            adamw_learning_rate=learner.adamw_learning_rate,
            value_learning_rate=learner.value_learning_rate,
            optimizer=learner.optimizer,
            betas=(learner.betas[0], learner.betas[1]),
            momentum=learner.momentum,
            weight_decay=learner.weight_decay,
            schedule=learner.schedule,
            warmup_fraction=learner.warmup_fraction,
            decay_fraction=learner.decay_fraction,
            final_fraction=learner.final_fraction,
            hold_fraction=learner.hold_fraction,
            max_grad_norm=learner.max_grad_norm,
            minibatches=learner.minibatches,
            epochs=learner.epochs,
            engine=group.engine,
            zero_stage=group.zero_stage,
            dtype=group.dtype,
            micro_batch_tokens=group.micro_batch_tokens,
            recompute_activations=group.recompute_activations,
            seed=config.run.seed,
        )
    except ValueError as error:
        raise BadInput(f"learner: {error}") from error


def rank_config(config: Config) -> RankConfig:
    """How many processes learn, and what each is given.

    Raises:
        BadInput: settings that do not go together.
    """
    group = config.learner_group
    try:
        return RankConfig(
            num_ranks=group.num_ranks,
            backend=group.backend,
            num_cpus_per_rank=group.num_cpus_per_rank,
            num_gpus_per_rank=group.num_gpus_per_rank,
            num_threads=group.num_threads,
        )
    except ValueError as error:
        raise BadInput(f"learner_group: {error}") from error


def needs_pool(config: Config) -> bool:
    """Whether anything is sampled from the policy."""
    return config.samples()


def renderer_component(config: Config, model_path: Path) -> Component:
    """The renderer of a run, with the limit of context that it shares with the engine.

    One limit, so that an episode ends before the engine would refuse it.
    """
    limit = config.rollout_pool.max_context
    own = {"max_context": min(context_length(model_path) or limit, limit)}
    return Component(factory=config.model.renderer.factory, options=own | config.model.renderer.options)


def build_renderer(config: Config, model_path: Path) -> Renderer:
    """The renderer of a run.

    Raises:
        BadInput: the model has no tokenizer or chat template that it can work with.
    """
    return _renderer(renderer_component(config, model_path), model_path)


def _recorded_renderer(config: Config, model_path: Path) -> Renderer:
    """The renderer of recorded files, which no engine bounds."""
    limit = context_length(model_path) or config.rollout_pool.max_context
    renderer = config.model.renderer
    own = Component(factory=renderer.factory, options={"max_context": limit} | renderer.options)
    return _renderer(own, model_path)


def _renderer(component: Component, model_path: Path) -> Renderer:
    try:
        return component.build(str(model_path))
    except ValueError as error:
        raise BadInput(f"model {model_path}: {error}") from error


def build_algorithm(config: Config, model_path: Path) -> Algorithm:
    """The algorithm as the driver needs it, to make samples."""
    algorithm = config.algorithm.build()
    if isinstance(algorithm, ReadsTokens):
        return algorithm.with_renderer(build_renderer(config, model_path))
    return algorithm


def pool_config(config: Config, model_path: Path, directory: Path, adapter: Path | None = None) -> PoolConfig:
    """What the rollout pool starts: engines with the pool's settings, logging into the run directory.

    Args:
        config: of the run.
        model_path: of the whole model.
        directory: of the run.
        adapter: what the engines serve on that model from the start.
    """
    pool = config.rollout_pool
    renderer = renderer_component(config, model_path)
    settings = {
        "dtype": pool.dtype,
        "max_context": renderer.options["max_context"],
        "max_num_seqs": pool.concurrency,
        "kv_cache_gib": pool.kv_cache_gib or None,
        "gpu_memory_utilization": pool.gpu_memory_utilization,
        "tensor_parallel_size": pool.tensor_parallel_size,
        "seed": config.run.seed,
        "log_file": str((directory / "logs" / "engine.log").absolute()),
    }
    if adapter is not None:
        configs.check_adapter_engine(pool)
        rank, modules = checkpoint.adapter_shape(adapter)
        settings |= {"lora_rank": rank, "lora_modules": modules, "adapter": str(adapter.absolute())}
    elif config.model.lora.rank:
        modules = config.model.lora.target_modules or sorted(checkpoint.layer_matrices(model_path))
        settings |= {"lora_rank": config.model.lora.rank, "lora_modules": modules}
    return PoolConfig(
        model_path=str(model_path.absolute()),
        engine=Component(factory=pool.engine.factory, options=settings | pool.engine.options),
        renderer=renderer,
        num_workers=pool.num_workers,
        concurrency=pool.concurrency,
        num_cpus=pool.num_cpus_per_worker,
        num_gpus=pool.num_gpus_per_worker,
        environment={"OMP_NUM_THREADS": str(pool.num_threads)},
        canary_tolerance=max(CANARY_TOLERANCE[pool.dtype], CANARY_TOLERANCE[config.learner_group.dtype]),
    )


def episode_settings(config: Config) -> EpisodeSettings:
    """How episodes are run in training."""
    sampling = config.sampling
    return EpisodeSettings(
        env=config.source.env,
        sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens),
        max_turns=sampling.max_turns,
    )


def build_source(config: Config, model_path: Path, pool: RolloutPool | None, position: int) -> GroupSource:
    """The source that the recipe names, going on at group number `position`.

    Raises:
        BadInput: a file of conversations or preferences that cannot be read or holds nothing to learn from.
    """
    source, seed = config.source, config.run.seed
    if source.conversations or source.preferences:
        try:
            groups = _recorded_groups(config, _recorded_renderer(config, model_path))
        except ValueError as error:
            raise BadInput(str(error)) from error
        return RecordedSource(groups, seed=seed, start=position)
    if source.demonstrations is not None:
        maker = DemonstrationMaker(
            source=source,
            model_path=str(model_path),
            renderer=renderer_component(config, model_path),
            max_turns=config.sampling.max_turns,
            seed=seed,
        )
        return DemonstrationSource(
            maker, groups_per_step=source.groups_per_step, num_workers=source.num_workers, start=position
        )
    assert pool is not None
    return RolloutSource(
        tasks=build_tasks(source.tasks, seed),
        pool=pool,
        rewards=RewardPool(
            config.reward_pool.num_actors, config.reward, {"num_cpus": config.reward_pool.num_cpus_per_actor}
        ),
        group_size=source.group_size,
        num_slots=(source.max_staleness + 1) * source.groups_per_step,
        start=position,
    )


def _recorded_groups(config: Config, renderer: Renderer) -> list[ScoredGroup]:
    source = config.source
    if source.conversations:
        trajectories = read_demonstrations(source.conversations, renderer)
        return [ScoredGroup(trajectories=(trajectory,)) for trajectory in trajectories]
    pairs = list(read_pairs(source.preferences, renderer))
    groups = [preference(pair) for pair in pairs if pair.fits]
    if len(groups) < len(pairs):
        left_out = f"{len(pairs) - len(groups)} of {len(pairs)} pairs do not fit into {renderer.max_context} tokens"
        if not groups:
            raise ValueError(f"{source.preferences}: {left_out}")
        make_console(stderr=True).print(f"{source.preferences}: {left_out} and are left out", markup=False)
    return groups
