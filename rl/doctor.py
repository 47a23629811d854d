"""What can be found out about a run before it starts: devices, memory, chat template, parser, an example."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from rl.checkpoint import layer_matrices, weight_shapes
from rl.config import Config, Lora
from rl.console import track
from rl.parts import build_renderer, needs_pool
from rl.report.summary import provenance
from rollout.demonstrations import demonstrate
from rollout.renderer import Renderer, prove_prefix_property
from rollout.trajectory import Ending, Trajectory

NUM_EXAMPLES = 50
"""Demonstrations that are rendered and read back."""

_GIB = float(1 << 30)
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_LIBRARIES_GIB = 0.7
"""What a process with torch takes before it holds a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    detail: str
    ok: bool = True


def versions() -> Iterator[Finding]:
    """Versions of what is installed."""
    found = provenance()["versions"]
    yield Finding(name="versions", detail=", ".join(f"{name} {version}" for name, version in found.items()))


def devices(config: Config) -> Iterator[Finding]:
    """Cores and accelerators, and what the run asks of Ray."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    yield Finding(name="devices", detail=f"{cores} cores, {', '.join(gpus) or 'no accelerator'}")
    asked = {name: amount for name, amount in config.resources().items() if amount}
    yield Finding(name="asked of Ray", detail=", ".join(f"{amount:g} {name}" for name, amount in asked.items()))


def memory(config: Config, model_path: Path) -> Iterator[Finding]:
    """Whether weights, optimiser state and KV cache of every part of the run fit; activations are not counted."""
    for part in config.in_order():
        yield _memory_of_part(part, model_path, "memory" if part is config else f"memory, first {part.recipe}")


def _memory_of_part(config: Config, model_path: Path, name: str) -> Finding:
    num_parameters = count_parameters(model_path)
    num_added = count_added(config.model.lora, model_path)
    learner = learner_gib(config, num_parameters, num_added)
    ranks = config.learner_group.num_ranks
    added = f" and {num_added / 1e6:.2f} M of an adapter" if num_added else ""
    parts = [f"{num_parameters / 1e6:.2f} M parameters{added}", f"{ranks} x {learner:.2f} GiB learner"]
    total = ranks * learner
    if needs_pool(config):
        pool = config.rollout_pool
        engine = num_parameters * _BYTES[pool.dtype] / _GIB + pool.kv_cache_gib + _LIBRARIES_GIB
        parts.append(f"{pool.num_workers} x {engine:.2f} GiB engine")
        total += pool.num_workers * engine
    if config.learner_group.num_gpus_per_rank:
        free = torch.cuda.get_device_properties(0).total_memory / _GIB if torch.cuda.is_available() else 0.0
        fits, where = learner <= free, f"{free:.1f} GiB on the accelerator"
    else:
        free = psutil.virtual_memory().available / _GIB
        fits, where = total <= free, f"{free:.1f} GiB are free"
    return Finding(name=name, detail=f"{', '.join(parts)}; {where}", ok=fits)


def learner_gib(config: Config, num_parameters: int, num_added: int = 0) -> float:
    """Weights, gradients and optimiser state of one rank's models, sharded as the ZeRO stage says.

    Models that are only read, such as a reference, are whole on every rank.

    Args:
        config: of the run.
        num_parameters: of the model.
        num_added: of the adapter that is trained in its place, if one is.
    """
    group = config.learner_group
    weights, gradients, states = 4.0, 4.0, 8.0
    if group.dtype == "bf16":
        weights += 2.0
    ranks = group.num_ranks
    states /= ranks if group.zero_stage >= 1 else 1
    gradients /= ranks if group.zero_stage >= 2 else 1
    weights /= ranks if group.zero_stage >= 3 else 1
    roles = config.algorithm.build().roles
    trained = sum(role.trained for role in roles)
    frozen = 2.0 if group.dtype == "bf16" and group.zero_stage else 4.0
    learned = trained * (weights + gradients + states)
    if num_added:
        # The frozen weights are sharded like the others; without its adapter the policy is the reference.
        held = trained * frozen / (ranks if group.zero_stage >= 3 else 1)
        return (num_parameters * held + num_added * learned) / _GIB + _LIBRARIES_GIB
    read = (len(roles) - trained) * frozen
    return num_parameters * (learned + read) / _GIB + _LIBRARIES_GIB


def count_parameters(model_path: Path) -> int:
    """Parameters in the model's safetensors files, read from their headers."""
    return sum(math.prod(shape) for shape in weight_shapes(model_path).values())


def count_added(lora: Lora, model_path: Path) -> int:
    """Parameters of an adapter on that model: two matrices of its rank beside each target module's."""
    layers = layer_matrices(model_path)
    names = lora.target_modules or list(layers)
    return lora.rank * sum(sum(shape) for name in names for shape in layers[name])


def template(renderer: Renderer) -> Iterator[Finding]:
    """Whether the chat template only appends over tool turns, and whether the parser reads what it writes."""
    try:
        prove_prefix_property(renderer)
    except ValueError as error:
        yield Finding(name="chat template", detail=str(error), ok=False)
        return
    stop = renderer.decode(renderer.stop_token_ids[:1])
    yield Finding(
        name="chat template",
        detail=f"append-only over tool turns, turns read back as written, stop token {stop!r}",
    )


def stop_token(renderer: Renderer, model_path: Path) -> Iterator[Finding]:
    """Whether the model's own end of sequence is the template's end of turn, as generation elsewhere assumes."""
    path = model_path / "generation_config.json"
    settings = json.loads((path if path.is_file() else model_path / "config.json").read_text())
    ends = settings.get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    agree = set(renderer.stop_token_ids) & set(listed)
    yield Finding(
        name="stop token",
        detail=f"the template ends a turn with {list(renderer.stop_token_ids)}, the model with {listed}",
        ok=bool(agree),
    )


def examples(renderer: Renderer) -> list[Trajectory]:
    """Demonstrations of the tool world as the model would see them; every turn was read back by the parser.

    Raises:
        ValueError: the parser reads another message than was written.
    """
    tasks = ToolWorldTasks(seed=0)

    async def one(index: int) -> Trajectory:
        task = tasks.task(index)
        return await demonstrate(
            task,
            ToolWorldEnv,
            Demonstrator(task),
            renderer,
            trajectory_id=f"example-{index}",
            group_id=f"example-{index}",
            max_turns=8,
            mask_errors=True,
        )

    async def all_of_them() -> list[Trajectory]:
        numbers = track(range(NUM_EXAMPLES), "demonstrations", total=NUM_EXAMPLES)
        return [await one(index) for index in numbers]

    return asyncio.run(all_of_them())


def lengths(trajectories: list[Trajectory], renderer: Renderer, config: Config) -> Iterator[Finding]:
    """Whether episodes fit into the context, and turns into the token limit."""
    tokens = [len(trajectory.token_ids) for trajectory in trajectories]
    turns = [turn.end - turn.start for trajectory in trajectories for turn in trajectory.turns]
    cut = sum(trajectory.ending is Ending.MAX_TOKENS for trajectory in trajectories)
    longest = max(turns, default=0)
    fits = not cut and longest <= config.sampling.max_tokens
    yield Finding(
        name="lengths",
        detail=f"episodes of {min(tokens)} to {max(tokens)} tokens in a context of {renderer.max_context}, {cut} cut; "
        f"turns of at most {longest} tokens, sampling.max_tokens is {config.sampling.max_tokens}",
        ok=fits,
    )


def examine(config: Config, model_path: Path) -> tuple[list[Finding], Trajectory | None, Renderer]:
    """All findings, an example if the parser reads one, and the renderer to show it with."""
    renderer = build_renderer(config, model_path)
    found = [*versions(), *devices(config), *memory(config, model_path), *template(renderer)]
    found += stop_token(renderer, model_path)
    try:
        trajectories = examples(renderer)
    except ValueError as error:
        found.append(Finding(name="parser", detail=str(error), ok=False))
        return found, None, renderer
    found.append(Finding(name="parser", detail=f"{NUM_EXAMPLES} demonstrations read back as they were written"))
    found += lengths(trajectories, renderer, config)
    return found, max(trajectories, key=lambda one: min(len(one.turns), 2)), renderer
