"""The whole run as one strict model: a recipe (what to learn), a cluster file (where it runs), key=value overrides.

Imports neither torch nor ray, so that bad input is refused before anything heavy starts.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
import tempfile
import tomllib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from envs.component import Component
from envs.types import Task
from rl import checkpoint, hub
from rl.errors import BadInput

RESOLVED_NAME = "run.json"
"""The resolved run, written into its directory."""


ABLATE = "ablate"
"""The table of a recipe that says how `tether ablate` varies it."""

_OWNED = re.compile(r"[\w.-]+/[\w.-]+")
"""What a model of the Hub is called."""

MIN_CONTEXT = 128
"""Fewer tokens hold not even the prompt with which the weights of engines are proven."""


class Section(BaseModel):
    """A table of the configuration; knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Run(Section):
    """Identity, length and place of the run."""

    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=100, ge=0)
    """Updates of the weights; the loop ends after so many."""
    max_seconds: float = Field(default=0.0, ge=0)
    """Wall-clock limit of the learning loop; 0: none. Schedules follow what runs out first."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints; 0: only at the end and on interruption."""
    keep_trajectories_every: int = Field(default=0, ge=0)
    """Steps between those whose trajectories are kept as Parquet; 0: none, 1: all."""
    directory: str = "runs"
    """Folder under which every run makes its own."""


class Lora(Section):
    """A low-rank adapter (LoRA) that is trained while the model it lies on stays as it is."""

    rank: int = Field(default=0, ge=0, le=512)
    """Of the matrices added to each target module; 0: no adapter, all weights are trained."""
    alpha: int = Field(default=0, ge=0)
    """What the adapter adds is multiplied with alpha / rank; 0: twice the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped while a loss is computed, and only then."""
    target_modules: list[str] = []
    """Names of linear layers, such as q_proj, in every layer of the model; none: all linear layers."""


class Model(Section):
    """The model to start from: a folder, or a function that makes one."""

    path: str = ""
    """A Hugging Face model folder; `package:NAME` is one shipped with tether, `hub:OWNER/NAME` one of the Hugging Face
    Hub, fetched when the run starts. Of an adapter in peft's format: the model with the adapter in it."""
    init: Component | None = None
    """Called with the folder to fill and `seed`; must leave a Hugging Face model and tokenizer there."""
    renderer: Component = Component(factory="rollout.renderer:load_renderer")
    """Called with the model folder and `max_context`: writes messages as tokens and reads calls from them."""
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _one_of_two(self) -> Model:
        if bool(self.path) == (self.init is not None):
            raise ValueError("model: give exactly one of model.path and model.init")
        return self


class EarlyDemonstrations(Section):
    """What is demonstrated before `source.demonstrations` takes over."""

    num: int = Field(ge=1)
    """Tasks."""
    demonstrations: Component
    """As `source.demonstrations`."""
    mask_errors: bool = False
    """As `source.mask_errors`."""


class Source(Section):
    """Where trajectories come from: rollouts, demonstrations made on demand, a file of conversations or preferences."""

    tasks: Component | str = ""
    """A task file (JSONL or Parquet), or a factory called with `seed` whose product has `task(index)`."""
    env: Component = Component(factory="envs.toolworld:ToolWorldEnv")
    """Called with a task."""
    demonstrations: Component | None = None
    """A message-space policy, called with a task and `seed`; its turns become the training data."""
    conversations: str = ""
    """JSONL or Parquet with `messages` and `tools` in OpenAI form, one conversation a row."""
    preferences: str = ""
    """JSONL or Parquet with `prompt`, `chosen`, `rejected` (messages) and `tools` in OpenAI form, one pair a row."""
    mask_errors: bool = False
    """Keep the erroneous turns of demonstrations as context and out of the loss."""
    early: EarlyDemonstrations | None = None
    """Other demonstrations at the start of the run."""
    groups_per_step: int = Field(default=32, ge=1)
    group_size: int = Field(default=1, ge=1)
    """Trajectories of one task."""
    max_staleness: int = Field(default=0, ge=0)
    """Updates the weights may be ahead of those that sampled a trajectory; 0: sample, then learn."""
    num_workers: int = Field(default=1, ge=0)
    """Processes that make demonstrations ahead of the learner; 0: make them in the driver."""
    max_failure_share: float = Field(default=0.2, ge=0, le=1)
    """The run stops when a larger share of a step's episodes failed by the infrastructure."""

    @property
    def offline(self) -> bool:
        """Whether nothing is sampled from the policy."""
        return self.demonstrations is not None or bool(self.recorded)

    @property
    def recorded(self) -> str:
        """The file that is learned from, or ""."""
        return self.conversations or self.preferences

    def demonstrated(self, index: int) -> tuple[Component, bool]:
        """The demonstrator of task `index`, and whether its errors are out of the loss."""
        if self.early is not None and index < self.early.num:
            return self.early.demonstrations, self.early.mask_errors
        if self.demonstrations is None:
            raise ValueError("source.demonstrations: missing")
        return self.demonstrations, self.mask_errors

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.conversations and self.preferences:
            raise ValueError("source.preferences: stands alone, without source.conversations")
        if self.recorded and (self.tasks or self.demonstrations):
            name = "conversations" if self.conversations else "preferences"
            raise ValueError(f"source.{name}: stands alone, without source.tasks and source.demonstrations")
        if not self.recorded and not self.tasks:
            raise ValueError("source.tasks: missing; give a task file or a factory")
        if self.early and not self.demonstrations:
            raise ValueError("source.early: stands beside source.demonstrations, which takes over from it")
        return self


class Sampling(Section):
    """How the policy is sampled in training."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1)
    """Of one turn."""
    max_turns: int = Field(default=6, ge=1)


class Learner(Section):
    """How the weights are changed."""

    learning_rate: float = Field(default=1e-6, gt=0)
    adamw_learning_rate: float = Field(default=0.0, ge=0)
    """With Muon: of what AdamW trains beside it; 0: the same as learning_rate."""
    value_learning_rate: float = Field(default=0.0, ge=0)
    """Of a value head; 0: that of the rest."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.95], min_length=2, max_length=2)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Of Muon."""
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "linear", "warmup_stable_decay"] = "constant"
    warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    decay_fraction: float = Field(default=0.4, ge=0, le=1)
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    hold_fraction: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    minibatches: int = Field(default=1, ge=1)
    epochs: int = Field(default=1, ge=1)


class Evaluation(Section):
    """What is measured before, during and after training."""

    before: bool = False
    after: bool = False
    every: int = Field(default=0, ge=0)
    """Steps from one evaluation on the first set to the next during training; 0: none. Their time is not the loop's."""
    num_during: int = Field(default=200, ge=1)
    """Tasks of an evaluation during training: the first of the set."""
    tasks: list[str] = Field(default=["heldout"], min_length=1)
    """Names known to `tether eval` (heldout, real, detection) or task files; all but the first are set apart."""
    num: int = Field(default=600, ge=1)
    """Tasks of the first set."""
    num_others: int = Field(default=300, ge=1)
    """Tasks of each further set."""
    seed: int = Field(default=20_000, ge=0)
    """Of the evaluation's tasks and sampling; the same whatever the run's seed, so that runs can be paired."""
    temperatures: list[Annotated[float, Field(ge=0)]] = Field(default=[1.0, 0.0], min_length=1)
    max_turns: int = Field(default=0, ge=0)
    """Turns of an evaluated episode; 0: as many as in training."""
    env: Component | None = None
    """Of evaluated episodes; None: that of training."""
    deferrals: bool = True
    """Whether the indecisive actions are offered in evaluated episodes; without them only `finish` is."""

    def wanted(self) -> bool:
        """Whether anything is measured."""
        return self.before or self.after or self.every > 0


class LearnerGroup(Section):
    """How many processes learn, and on what."""

    num_ranks: int = Field(default=1, ge=1)
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    zero_stage: int = Field(default=0, ge=0, le=3)
    dtype: Literal["fp32", "bf16"] = "fp32"
    micro_batch_tokens: int = Field(default=8192, ge=1)
    recompute_activations: bool = False
    """Keep only what enters each layer for the backward pass (gradient checkpointing): less memory, more arithmetic."""
    backend: Literal["gloo", "nccl"] = "gloo"
    num_cpus_per_rank: float = Field(default=1, ge=0)
    num_gpus_per_rank: float = Field(default=0, ge=0)
    num_threads: int = Field(default=1, ge=1)
    """OpenMP threads of one rank."""


class RolloutPool(Section):
    """How many engines sample, and on what."""

    num_workers: int = Field(default=1, ge=1)
    engine: Component = Component(factory="rollout.vllm_engine:VllmEngine")
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    tensor_parallel_size: int = Field(default=1, ge=1)
    concurrency: int = Field(default=64, ge=1)
    """Episodes one worker runs at the same time."""
    kv_cache_gib: float = Field(default=0.0, ge=0)
    """Of one worker; 0: what gpu_memory_utilization leaves."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    max_context: int = Field(default=1024, ge=MIN_CONTEXT)
    """Tokens of prompt and episode together, of rollouts and demonstrations; a model that takes fewer keeps its own
    limit. What a file records is bounded by the model alone."""
    num_cpus_per_worker: float = Field(default=1, ge=0)
    num_gpus_per_worker: float = Field(default=0, ge=0)
    num_threads: int = Field(default=1, ge=1)
    """OpenMP threads of one worker."""


class RewardPool(Section):
    """How many processes score trajectories."""

    num_actors: int = Field(default=1, ge=1)
    num_cpus_per_actor: float = Field(default=0, ge=0)


class Weights(Section):
    """How new weights reach the engines."""

    transfer: Literal["memory", "directory"] = "memory"
    """`memory`: a file in this machine's shared memory. `directory`: a file under the run directory, which all
    machines must see."""


class Ray(Section):
    """The Ray cluster to run on."""

    num_cpus: int = Field(default=0, ge=0)
    """Of a local Ray started for this run; 0: the machine's cores."""
    join: bool = False
    """Join a running cluster, and refuse to start one."""
    wait_seconds: float = Field(default=0.0, ge=0)
    """How long to wait for an autoscaling cluster to grow to what is asked for."""


class Config(Section):
    """One run, resolved."""

    run: Run = Run()
    model: Model
    source: Source
    sampling: Sampling = Sampling()
    reward: Component = Component(factory="rewards.error_reward:ErrorReward")
    algorithm: Component
    learner: Learner = Learner()
    evaluation: Evaluation = Evaluation()
    learner_group: LearnerGroup = LearnerGroup()
    rollout_pool: RolloutPool = RolloutPool()
    reward_pool: RewardPool = RewardPool()
    weights: Weights = Weights()
    ray: Ray = Ray()
    resume: str = ""
    """A run directory to continue."""
    recipe: str = ""
    """Name of the recipe, for the run's directory."""
    first: Config | None = None
    """What is learned before, from this run's model; this run goes on with what it left. In a recipe, a table with the
    name of a `recipe` ("": none) and what shall differ from it; cluster, seed, model, sampling and evaluation are those
    of this run."""

    def samples(self) -> bool:
        """Whether anything is sampled from the policy."""
        return not self.source.offline or self.evaluation.wanted()

    def in_order(self) -> list[Config]:
        """The parts of the run, one after the other; the last is this one."""
        return [*(self.first.in_order() if self.first is not None else []), self]

    def resources(self) -> dict[str, float]:
        """CPUs and GPUs all actors of the run ask Ray for, in the part that asks for most."""
        if self.first is not None:
            needs = [self.first.resources(), self.model_copy(update={"first": None}).resources()]
            return {name: max(need[name] for need in needs) for name in needs[0]}
        ranks, pool = self.learner_group, self.rollout_pool
        cpus = ranks.num_ranks * ranks.num_cpus_per_rank
        gpus = ranks.num_ranks * ranks.num_gpus_per_rank
        if self.samples():
            cpus += pool.num_workers * pool.num_cpus_per_worker
            gpus += pool.num_workers * pool.num_gpus_per_worker
        if not self.source.offline:
            cpus += self.reward_pool.num_actors * self.reward_pool.num_cpus_per_actor
        return {"CPU": cpus, "GPU": gpus}


CLUSTER_KEYS = frozenset({"run.directory", "learner_group", "rollout_pool", "reward_pool", "weights", "ray"})
"""What a cluster file says; everything else belongs to the recipe."""


def load(recipe: str, cluster: str = "laptop", overrides: Sequence[str] = ()) -> Config:
    """Resolve a run from a recipe, a cluster file and `key=value` overrides, which win.

    Args:
        recipe: a TOML file, or the name of a shipped recipe.
        cluster: a TOML file, or the name of a shipped cluster file.
        overrides: such as `learner.learning_rate=1e-6`; values are TOML, and what is not TOML is a string.

    Raises:
        BadInput: with one line that names the file or override, the key and what was expected.
    """
    tables = _read_tables(recipe, cluster)
    for override in overrides:
        table = _parse_override(override)
        _check_names(table, override)
        _merge(tables, table)
    return _validate(_resolved(tables, recipe, cluster))


def load_resumed(run_directory: Path, cluster: str = "", overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run was started with, to go on with it.

    Args:
        run_directory: of the run.
        cluster: a cluster file in place of the one it was started with; "": the same.
        overrides: as of `load`; they win.

    Raises:
        BadInput: as `load`, or there is no such run.
    """
    tables = read_resolved(run_directory).model_dump(mode="json", exclude_none=True)
    if cluster:
        path = find(cluster, "cluster")
        table = read_table(path)
        _check_names(table, str(path))
        _merge(tables, table)
    for override in [*overrides, f"resume={json.dumps(str(run_directory))}"]:
        table = _parse_override(override)
        _check_names(table, override)
        _merge(tables, table)
    return _validate(tables)


def _read_tables(recipe: str, cluster: str) -> dict[str, Any]:
    """What the defaults, a recipe and a cluster file say together."""
    tables = _default_parts()
    for path, is_cluster in ((find(recipe, "recipe"), False), (find(cluster, "cluster"), True)):
        table = read_table(path)
        # Of `tether ablate`, which reads it itself.
        if not is_cluster and table.pop(ABLATE, None) is not None and not table:
            raise BadInput(f"{path}: says only what `tether ablate` compares; expected a recipe with a run of its own")
        _check_names(table, str(path))
        for key in _leaves(table):
            if _is_cluster_key(key) != is_cluster:
                other = "a recipe" if is_cluster else "a cluster file"
                raise BadInput(f"{path}: {key} belongs into {other}")
        _merge(tables, table)
    return tables


def _resolved(tables: dict[str, Any], recipe: str, cluster: str, later: tuple[str, ...] = ()) -> dict[str, Any]:
    """`tables` with the name of their recipe, and with the run that comes first read from its own.

    Args:
        tables: of one run.
        recipe: what they were read from.
        cluster: the same for all parts.
        later: the recipes that come after this one.
    """
    tables = {**tables, "recipe": Path(recipe).stem}
    own = tables.get("first")
    if not isinstance(own, Mapping):
        return tables
    name = own.get("recipe")
    if not isinstance(name, str):
        raise BadInput("first.recipe: missing; expected the recipe that is run first")
    if not name:
        return {key: value for key, value in tables.items() if key != "first"}
    if name in (recipe, *later):
        raise BadInput(f"first.recipe: {name} would come before itself")
    first = _read_tables(name, cluster)
    for key in {key.split(".")[0] for key in CLUSTER_KEYS} - {"run"}:
        if key in tables:
            first[key] = tables[key]
    run = {"seed": Run().seed, "directory": Run().directory} | tables.get("run", {})
    first["run"] = first.get("run", {}) | {key: run[key] for key in ("seed", "directory")}
    evaluation = {**tables.get("evaluation", {}), "after": False}
    # What is measured before learning and after it is measured in the same way.
    evaluation.setdefault("env", tables.get("source", {}).get("env"))
    first |= {"model": tables.get("model"), "evaluation": evaluation, "sampling": tables.get("sampling", {})}
    first = copy.deepcopy(first)
    _merge(first, {key: value for key, value in own.items() if key != "recipe"})
    return {**tables, "first": _resolved(first, name, cluster, (recipe, *later))}


def for_model(model: str, cluster: str = "laptop", overrides: Sequence[str] = ()) -> Config:
    """A configuration that only serves a model: for commands that sample and do not learn.

    Raises:
        BadInput: as `load`; or `model` is no model folder, and no run with a checkpoint.
    """
    folder = find_model(model)
    tables = _default_parts()
    tables |= {
        "model": {"path": str(folder)},
        "algorithm": {"factory": "rl.algorithms.sft:SFT"},
        "recipe": folder.name,
    }
    tables["source"]["tasks"] = {"factory": "envs.toolworld:ToolWorldTasks"}
    path = find(cluster, "cluster")
    for table, where in [
        (read_table(path), str(path)),
        *[(_parse_override(override), override) for override in overrides],
    ]:
        _check_names(table, where)
        _merge(tables, table)
    config = _validate(tables)
    check_model(config.model)
    check_directory(Path(config.run.directory))
    return config


def find_model(name: str) -> Path:
    """The folder that a MODEL on the command line means: a model folder, the newest checkpoint of a run, a shipped
    model, or one of the Hugging Face Hub, which is fetched if need be.

    Raises:
        BadInput: there is none.
    """
    folder = hub.cached(name) or hub.fetch(name) if hub.is_hub(name) else model_path(name)
    if not (folder / RESOLVED_NAME).is_file():
        return folder
    found = checkpoint.latest(folder / "checkpoints")
    if found is not None:
        return found
    if (folder / "first" / RESOLVED_NAME).is_file():
        return find_model(str(folder / "first"))
    raise BadInput(f"{name}: the run holds no checkpoint")


def read_resolved(run_directory: Path) -> Config:
    """The configuration a run was started with.

    Raises:
        BadInput: there is none.
    """
    path = run_directory / RESOLVED_NAME
    try:
        return _validate(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{run_directory}: expected a run directory with {RESOLVED_NAME}: {error}") from error


def write_resolved(config: Config, run_directory: Path) -> None:
    """Write the configuration beside the run's checkpoints. JSON says that a program wrote it."""
    text = json.dumps(config.model_dump(mode="json"), indent=2)
    (run_directory / RESOLVED_NAME).write_text(text + "\n")


def find(name: str, kind: Literal["recipe", "cluster"]) -> Path:
    """The file that `name` means: a path if it has a slash or ends in .toml, else a shipped name.

    Raises:
        BadInput: there is no such file.
    """
    if "/" in name or name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise BadInput(f"{kind} {name}: no such file")
        return path
    folder = shipped(kind)
    path = folder / f"{name}.toml"
    if path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.toml"))
    raise BadInput(f"{kind} {name!r} is not shipped{_nearest(name, known)} (shipped: {', '.join(known)})")


def shipped(kind: Literal["recipe", "cluster"]) -> Path:
    """The folder of the shipped files."""
    package = resources.files("rl") / "recipes" if kind == "recipe" else resources.files("clusters")
    return Path(str(package))


def model_path(name: str) -> Path:
    """The folder that `model.path` means: `package:NAME` is one shipped with tether, `hub:OWNER/NAME` one that was
    fetched from the Hugging Face Hub.
    """
    if hub.is_hub(name):
        return hub.cached(name) or Path(name)
    if name.startswith("package:"):
        return Path(str(resources.files("rl") / "shipped" / name.removeprefix("package:")))
    return Path(name).expanduser()


Left = Literal["model", "data", "directory"]
"""What a check may leave out, because only the machine of the run has it: the model's folder, the file that is learned
from, the run directory."""


def check(config: Config, *, left_out: Collection[Left] = ()) -> None:
    """Check every part on the driver but the algorithm, the cheap ones first; starts nothing, imports no torch.

    Tasks, reward and demonstrator are built here: what their options are worth shows only there.

    Args:
        config: the run, or a part of it.
        left_out: is not looked at.

    Raises:
        BadInput: with one line.
    """
    if config.resume:
        _check_same_adapter(config, read_resolved(Path(config.resume)))
    elif "directory" not in left_out:
        check_directory(Path(config.run.directory))
    _check_lengths(config)
    if config.model.lora.rank and config.samples():
        check_adapter_engine(config.rollout_pool)
    if "model" not in left_out:
        check_model(config.model)
        _check_target_modules(config.model)
    _check_source(config, with_data="data" not in left_out)
    if not config.source.offline:
        _check_part("reward", config.reward)
        with _building("reward", config.reward):
            config.reward.build()
    _check_evaluation(config.evaluation)


def check_algorithm(config: Config) -> None:
    """Check the algorithm, its options, and that it can learn from the source; apart, because algorithms import torch.

    Raises:
        BadInput: with one line.
    """
    _check_part("algorithm", config.algorithm)
    with _building("algorithm", config.algorithm):
        wanted = config.algorithm.build().learns_from
    source = config.source
    if not source.offline or wanted == "anything" or (wanted == "scores" and source.preferences):
        return
    expected = "rollouts" if wanted == "rollouts" else "rollouts or source.preferences"
    given = source.recorded or "source.demonstrations"
    raise BadInput(f"algorithm: {config.algorithm.factory} learns from {wanted}; expected {expected}, got {given}")


def check_model(model: Model) -> None:
    """Refuse a model folder that is not one.

    Raises:
        BadInput: the folder, its configuration or its tokenizer is missing.
    """
    _check_part("model.renderer", model.renderer, "model_path", max_context=0)
    if model.init is not None:
        _check_part("model.init", model.init, "directory", seed=0)
        return
    path = model_path(model.path)
    if not path.is_dir():
        near = (
            f"; for a model of the Hugging Face Hub write {hub.PREFIX}{model.path}"
            if _OWNED.fullmatch(model.path)
            else ""
        )
        raise BadInput(f"model.path: {path}: no such folder{near}")
    path, _ = base_and_adapter(path)
    for names in (("config.json",), ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        if not any((path / name).is_file() for name in names):
            raise BadInput(f"model.path: {path} is no model folder: {names[0]} is missing")
    try:
        readable = isinstance(json.loads((path / "config.json").read_text()), dict)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"model.path: {path / 'config.json'}: not JSON that can be read: {error}") from error
    if not readable:
        raise BadInput(f"model.path: {path / 'config.json'}: expected a JSON object")
    if not any(path.glob("*.safetensors")):
        raise BadInput(f"model.path: {path} is no model folder: there is no *.safetensors file with weights")


def base_and_adapter(folder: Path) -> tuple[Path, Path | None]:
    """The folder of the whole model, and that of the adapter on it where `folder` holds one.

    Raises:
        BadInput: the adapter is incomplete, or its base is not there.
    """
    try:
        return checkpoint.base_and_adapter(folder)
    except ValueError as error:
        raise BadInput(f"model.path: {error}") from error


def check_target_modules(lora: Lora, folder: Path) -> None:
    """Refuse an adapter for modules that the model in `folder` does not have.

    Raises:
        BadInput: with the nearest known name.
    """
    if not lora.rank:
        return
    known = sorted(checkpoint.layer_matrices(folder))
    for name in lora.target_modules:
        if name not in known:
            raise BadInput(
                f"model.lora.target_modules: {name!r} is no linear layer of {folder}{_nearest(name, known)} "
                f"(its layers: {', '.join(known)})"
            )


def check_adapter_engine(pool: RolloutPool) -> None:
    """Refuse engines that cannot serve an adapter.

    Raises:
        BadInput: with the reason.
    """
    if pool.dtype == "fp32" and pool.num_gpus_per_worker:
        raise BadInput("rollout_pool.dtype: fp32: on accelerators vLLM serves adapters in bf16 and fp16 only")


def check_directory(directory: Path) -> None:
    """Refuse a run directory that cannot be written, and a relative one in a submitted job; leaves nothing there.

    Raises:
        BadInput: with the reason.
    """
    if in_submitted_job() and not directory.is_absolute():
        raise BadInput(
            f"run.directory: {directory} is relative, and a submitted job runs in Ray's temporary copy; "
            "name an absolute directory that outlives it"
        )
    places = (directory, *directory.absolute().parents)
    try:
        with tempfile.TemporaryDirectory(dir=next(place for place in places if place.exists())):
            pass
    except OSError as error:
        raise BadInput(f"run.directory: cannot write to {directory}: {error.strerror or error}") from error


def in_submitted_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ or "RAY_JOB_ID" in os.environ


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the configuration."""
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = _section_of(field.annotation)
        if inner is not None and inner is not section:
            yield from known_keys(inner, f"{prefix}{name}.")


def _check_part(key: str, component: Component, *args: str, **kwargs: Any) -> None:
    try:
        component.check(*args, **kwargs)
    except ValueError as error:
        raise BadInput(f"{key}: {error}") from error


@contextmanager
def _building(key: str, component: Component) -> Iterator[None]:
    """The boundary to parts that may be the user's own: whatever building them raises is one line."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = lines[0] if isinstance(error, ValueError) else f"{type(error).__name__}: {lines[0]}"
        raise BadInput(f"{key}: factory {component.factory!r}: {reason}") from error


def _check_lengths(config: Config) -> None:
    tokens, context = config.sampling.max_tokens, config.rollout_pool.max_context
    if tokens >= context:
        raise BadInput(f"sampling.max_tokens: {tokens} do not fit into rollout_pool.max_context {context}")


def _check_target_modules(model: Model) -> None:
    if model.init is None:
        check_target_modules(model.lora, base_and_adapter(model_path(model.path))[0])


def _check_same_adapter(config: Config, begun: Config) -> None:
    """The weights and optimiser states of a run are those of its adapter."""
    for part, before in zip(reversed(config.in_order()), reversed(begun.in_order()), strict=False):
        then = before.model.lora.model_dump()
        for name, value in part.model.lora.model_dump().items():
            if name != "dropout" and value != then[name]:
                raise BadInput(f"model.lora.{name}: {value!r}, but the run to resume began with {then[name]!r}")


def _check_source(config: Config, *, with_data: bool) -> None:
    source, seed = config.source, config.run.seed
    _check_part("source.env", source.env, "task")
    if config.evaluation.env is not None:
        _check_part("evaluation.env", config.evaluation.env, "task")
    if source.recorded:
        if with_data:
            _check_recorded(source)
        return
    task = _first_task(source.tasks, seed)
    demonstrators = {"source.demonstrations": source.demonstrations}
    if source.early is not None:
        demonstrators["source.early.demonstrations"] = source.early.demonstrations
    for key, demonstrator in demonstrators.items():
        if demonstrator is not None:
            _check_part(key, demonstrator, "task", seed=seed)
            with _building(key, demonstrator):
                demonstrator.build(task, seed=seed)


def _first_task(tasks: Component | str, seed: int) -> Task:
    if isinstance(tasks, str):
        return _read_tasks(tasks)[0]
    _check_part("source.tasks", tasks, seed=seed)
    with _building("source.tasks", tasks):
        task = tasks.build(seed=seed).task(0)
        if not isinstance(task, Task):
            raise TypeError(f"task(0) is of {type(task).__name__}, expected envs.types.Task")
    return task


def _check_recorded(source: Source) -> None:
    from rollout.preferences import read_preferences
    from rollout.recorded import read_recorded

    name = "conversations" if source.conversations else "preferences"
    read = read_recorded if source.conversations else read_preferences
    try:
        if not sum(1 for _ in read(source.recorded)):
            raise ValueError(f"{source.recorded}: the file holds no {name}")
    except ValueError as error:
        raise BadInput(f"source.{name}: {error}") from error


def _check_evaluation(evaluation: Evaluation) -> None:
    from rl.task_sets import task_set

    for name in evaluation.tasks:
        try:
            task_set(name, 1, evaluation.seed)
        except ValueError as error:
            raise BadInput(f"evaluation.tasks: {error}") from error


def _read_tasks(name: str) -> list[Task]:
    from envs.tasks import read_tasks

    try:
        tasks = read_tasks(name)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not tasks:
        raise BadInput(f"{name}: the file holds no tasks")
    return tasks


def _default_parts(section: type[BaseModel] = Config) -> dict[str, Any]:
    """The default components as tables, so that an override may set one of their options."""
    tables: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if isinstance(field.default, Component):
            tables[name] = field.default.model_dump()
        elif inner not in (None, Component, section) and (parts := _default_parts(inner)):
            tables[name] = parts
    return tables


def read_table(path: Path) -> dict[str, Any]:
    """A TOML file as it stands.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: {error}") from error


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, value = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise BadInput(f"{override!r}: expected key=value, such as learner.learning_rate=1e-6")
    try:
        return tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        pass
    try:
        return tomllib.loads(f"{key} = {json.dumps(value)}")
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{override!r}: {key!r} is no dotted key") from error


def _merge(base: dict[str, Any], table: Mapping[str, Any], in_options: bool = False) -> None:
    """Merge `table` into `base`; a new factory brings its own options."""
    if "factory" in table and not in_options and table["factory"] != base.get("factory"):
        base.clear()
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = base.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = base[key] = {}
            _merge(inner, value, in_options or key == "options")
        else:
            base[key] = value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _is_cluster_key(key: str) -> bool:
    while key.startswith("first."):
        key = key.removeprefix("first.")
    return key in CLUSTER_KEYS or key.split(".")[0] in CLUSTER_KEYS


def _check_names(table: Mapping[str, Any], where: str) -> None:
    """Refuse the first unknown key, with the nearest known name."""
    key = _unknown(table, Config, "")
    if key is not None:
        raise BadInput(f"{where}: unknown key {key}{_nearest(key, list(known_keys()))}")


def _unknown(table: Mapping[str, Any], section: type[BaseModel], prefix: str) -> str | None:
    for key, value in table.items():
        field = section.model_fields.get(key)
        if field is None:
            return prefix + next(_leaves({key: value}), key)
        inner = _section_of(field.annotation)
        if inner is not None and isinstance(value, Mapping):
            unknown = _unknown(value, inner, f"{prefix}{key}.")
            if unknown is not None:
                return unknown
    return None


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The model class in a field's annotation, also inside a union."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _section_of(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        # A right name in the wrong table, or without one.
        last = name.rsplit(".", 1)[-1]
        by_last = {key.rsplit(".", 1)[-1]: key for key in known}
        near = [by_last[match] for match in difflib.get_close_matches(last, list(by_last), n=1)]
    return f"; did you mean {near[0]}?" if near else ""


def _validate(tables: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(part for part in first["loc"] if isinstance(part, str) and part not in ("str", "Component"))
        message = first["msg"].removeprefix("Value error, ")
        came = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
        raise BadInput(f"{key}: {message}{came}" if key and not message.startswith(key) else message) from error
