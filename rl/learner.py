"""One rank of learning: samples in, optimiser steps made, metrics out. Knows no algorithm and no engine by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rl import lora
from rl.algorithms import Algorithm, Loss, Models
from rl.checkpoint import ADAPTER_WEIGHTS, WEIGHTS, copy_model_files, copy_tokenizer, read_state
from rl.config import Lora
from rl.kept_logprobs import KeptModel, fingerprint
from rl.models import NO_ADAPTER, Outputs, Role, RoleModel, load_model
from rl.sample import Batch, Sample, collate, empty_batch, micro_batches, minibatches, shard, split
from rl.torch_engine import TorchEngine
from rl.train_engine import (
    LearnerConfig,
    TrainEngine,
    default_device,
    gather_over_ranks,
    num_ranks,
    own_rank,
    sum_over_ranks,
    wait_for_ranks,
)
from rl.weights import head_weights, policy_weights, read_weights, write_weights

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class Learner:
    """Holds the models of an algorithm's roles and updates the trained ones."""

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        model_path: str | Path,
        config: LearnerConfig,
        adapter: Lora = NO_ADAPTER,
        resume: Path | None = None,
        kept: Path | None = None,
    ) -> None:
        """Load every role from `model_path`; what is trained from the checkpoint folder `resume`, if given.

        With an adapter the trained roles learn that and their heads, and a reference is the policy without it. `kept`
        is the folder for the log-probs of roles that are kept; without it they are kept in memory.
        """
        torch.manual_seed(config.seed)
        self._algorithm = algorithm
        self._config = config
        self._adapter = adapter
        self._model_path = Path(model_path)
        self._policy = algorithm.roles[0].name
        self._engines: dict[str, TrainEngine] = {}
        self._frozen: dict[str, Callable[[Batch], Outputs]] = {}
        self._kept: list[KeptModel] = []
        self.version = 0
        """How many updates the weights have seen."""
        for role in algorithm.roles:
            if role.trained:
                self._engines[role.name] = self._trained_engine(role, resume)
            elif role.kept and not self._moves_in_step:
                self._frozen[role.name] = self._kept_model(role, kept)
            else:
                self._frozen[role.name] = self._frozen_model(role)
        if resume is not None:
            self.version = int(read_state(resume)["version"])

    def _trained_engine(self, role: Role, resume: Path | None) -> TrainEngine:
        path = self._model_path if resume is None or self._adapter.rank else resume
        module = load_model(
            path,
            role,
            dtype=torch.float32,
            adapter=self._adapter,
            recompute_activations=self._config.recompute_activations,
        )
        if resume is None:
            return build_engine(module, self._config)
        if self._adapter.rank and role.name == self._policy:
            lora.read_adapter(module.model, resume / ADAPTER_WEIGHTS)
        others = resume / "learner" / role.name / WEIGHTS
        if others.is_file():
            read_weights(module, others)
        engine = build_engine(module, self._config)
        engine.load(resume / "learner" / role.name)
        return engine

    @property
    def _moves_in_step(self) -> bool:
        """Whether the reference is a sharded policy: a rank that misses no log-probs must not leave it out."""
        return self._adapter.rank > 0 and self._config.zero_stage == 3

    def _frozen_model(self, role: Role) -> Callable[[Batch], Outputs]:
        if self._adapter.rank and not role.values:
            return self._without_adapter
        return _frozen_model(load_model(self._model_path, role, dtype=torch.float32), self._config)

    def _kept_model(self, role: Role, folder: Path | None) -> KeptModel:
        path = None
        if folder is not None:
            arithmetic = f"{self._config.dtype} low={_is_low(self._config)}"
            name = fingerprint(self._model_path, arithmetic) if own_rank() == 0 else ""
            path = folder / f"{role.name}-{gather_over_ranks(name)[0]}.sqlite"
            folder.mkdir(parents=True, exist_ok=True)
        model = KeptModel(partial(self._frozen_model, role), path)
        self._kept.append(model)
        return model

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._engines[self._policy].device

    def update(self, samples: Sequence[Sample], progress: float) -> dict[str, float]:
        """Learn from `samples`: epochs x minibatches optimiser steps at the rates of `progress` in [0, 1].

        Every rank is given all samples and takes its own share, so nothing needs to be agreed on.

        Raises:
            FloatingPointError: a loss or gradient is not finite. Nothing may be saved after that.
        """
        samples = [sample for sample in samples if sample.num_trained]
        if self._adapter.dropout:
            torch.manual_seed(self._dropout_seed())
        totals = _Totals()
        if samples:
            parts = minibatches(samples, self._config.minibatches, self._config.seed + self.version)
            prepared = self._prepare(parts, totals)
            denominators = [self._algorithm.denominator(part) for part in parts]
            for epoch in range(self._config.epochs):
                order = np.random.default_rng([self._config.seed, self.version, epoch]).permutation(len(parts))
                for index in order:
                    self._step(prepared[index], denominators[index], progress, totals)
        self.version += 1
        metrics = totals.over_ranks(self.device)
        metrics["train/samples"] = float(len(samples))
        metrics["train/tokens"] = float(sum(len(sample) for sample in samples))
        metrics["train/trained_tokens"] = float(sum(sample.num_trained for sample in samples))
        return metrics

    def _prepare(self, parts: list[list[Sample]], totals: _Totals) -> list[list[Batch]]:
        """This rank's micro-batches of every minibatch, with the streams the algorithm adds."""
        batches = [self._own_batches(part) for part in parts]
        with torch.no_grad():
            prepared = self._algorithm.prepare([batch for part in batches for batch in part], self._models())
        for model in self._kept:
            model.settle()
        totals.finished |= {f"train/{name}": value for name, value in prepared.metrics.items()}
        rest = iter(prepared.batches)
        return [[next(rest) for _ in part] for part in batches]

    def _own_batches(self, samples: Sequence[Sample]) -> list[Batch]:
        """This rank's micro-batches, as many as on the busiest rank: sharded engines move in step."""
        limit = self._config.micro_batch_tokens
        shards = shard(samples, num_ranks())
        most = max(len(split(part, limit)) for part in shards)
        batches = collate(shards[own_rank()], limit)
        batches += [empty_batch(samples[0].streams)] * (most - len(batches))
        return [batch.to(self.device) for batch in batches]

    def _dropout_seed(self) -> int:
        """Another one for every update and rank, so that a resumed run drops what the whole one would have."""
        return int(np.random.SeedSequence([self._config.seed, self.version, own_rank()]).generate_state(1)[0])

    def _without_adapter(self, batch: Batch) -> Outputs:
        """What the policy was before it learned."""
        engine = self._engines[self._policy]
        with torch.no_grad(), lora.without_adapter(engine.module.model):
            return engine.forward(batch)

    def _models(self) -> Models:
        return {**self._frozen, **{name: engine.forward for name, engine in self._engines.items()}}

    def _step(self, batches: list[Batch], denominator: float, progress: float, totals: _Totals) -> None:
        for name, engine in self._engines.items():
            prefix = "" if name == self._policy else f"{name}_"
            value_only = self.version < engine.module.role.value_warmup_updates
            for batch in batches:
                loss = self._algorithm.loss(name, batch, engine.forward(batch, value_only=value_only))
                total = loss.total / denominator
                if not torch.isfinite(total):
                    raise FloatingPointError(f"loss of role {name} is {total.item()} in update {self.version}")
                engine.backward(total)
                totals.add_loss(prefix, loss, denominator)
            totals.add_step(prefix, engine.step(progress))

    @torch.no_grad()
    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probability of every token of each sequence under the policy; 0 for the first, float32 [L]."""
        samples = []
        for token_ids in sequences:
            loss_mask = np.ones(len(token_ids), dtype=bool)
            loss_mask[0] = False
            samples.append(Sample(token_ids=np.asarray(token_ids, dtype=np.int32), loss_mask=loss_mask))
        lengths = [len(sample) for sample in samples]
        found: dict[int, np.ndarray] = {}
        chunks = micro_batches(lengths, self._config.micro_batch_tokens)
        for chunk, batch in zip(chunks, collate(samples, self._config.micro_batch_tokens), strict=True):
            rows = self._engines[self._policy].forward(batch.to(self.device))["logprobs"].cpu().numpy()
            found |= {index: rows[row, : lengths[index]] for row, index in enumerate(chunk)}
        return [found[index] for index in range(len(samples))]

    def export(self, folder: Path, *, dtype: str = "") -> Path:
        """Write the policy's weights into `folder`: safetensors with Hugging Face names, or the adapter as peft does.

        Every rank must call it; when it returns, they are there.

        Args:
            folder: made if it is missing.
            dtype: fp32 or bf16; "" keeps the weights as they are held.

        Returns:
            What engines load: the file with the weights, or the folder with the adapter.
        """
        engine, first = self._engines[self._policy], own_rank() == 0
        weights = policy_weights(engine.named_weights())
        path = folder / (ADAPTER_WEIGHTS if self._adapter.rank else WEIGHTS)
        if self._adapter.rank:
            weights = lora.peft_names(weights)
            if first:
                lora.write_adapter_config(engine.module.model, folder, self._model_path)
        write_weights(weights, path, dtype=_DTYPES[dtype] if dtype else None, write=first)
        wait_for_ranks()
        return folder if self._adapter.rank else path

    def save(self, partial: Path) -> None:
        """Write this rank's share of a checkpoint into the folder of `checkpoint.begin`. Every rank must call it."""
        first = own_rank() == 0
        if first and self._adapter.rank:
            copy_tokenizer(self._model_path, partial)
        elif first:
            dtype = next(self._engines[self._policy].module.parameters()).dtype
            copy_model_files(self._model_path, partial, dtype=_DTYPE_NAMES[dtype])
        self.export(partial)
        for name, engine in self._engines.items():
            folder = partial / "learner" / name
            folder.mkdir(parents=True, exist_ok=True)
            weights = engine.named_weights()
            # The policy's language model or adapter lies in the checkpoint itself; of another role all is kept here.
            others = list(head_weights(weights) if name == self._policy else weights)
            if others:
                write_weights(others, folder / WEIGHTS, write=first)
            engine.save(folder)


def build_engine(module: RoleModel, config: LearnerConfig) -> TrainEngine:
    """The engine that `config` names."""
    if config.engine == "torch":
        return TorchEngine(module, config)
    # DeepSpeed costs seconds to import and is not installed everywhere.
    from rl.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(module, config)


def _frozen_model(module: RoleModel, config: LearnerConfig) -> Callable[[Batch], Outputs]:
    """A model that is only read, on this rank's device, in the arithmetic of the trained one."""
    device = default_device()
    module.to(device, torch.bfloat16 if _is_low(config) else torch.float32)

    def forward(batch: Batch) -> Outputs:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bf16"):
            return module(batch.token_ids, batch.loss_mask)

    return forward


def _is_low(config: LearnerConfig) -> bool:
    """Whether a frozen model is held in bf16, as the engine holds the trained one."""
    return config.engine == "deepspeed" and config.dtype == "bf16" and config.zero_stage > 0


class _Totals:
    """Sums of an update's metrics, until they are divided and summed over the ranks."""

    def __init__(self) -> None:
        self.finished: dict[str, float] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: dict[str, list[float]] = {}

    def add_loss(self, prefix: str, loss: Loss, denominator: float) -> None:
        """Add one micro-batch's sums."""
        for name, value in loss.metrics.items():
            key = f"train/{prefix}{name}"
            self._sums[key] = self._sums.get(key, 0.0) + value.detach().double() / denominator

    def add_step(self, prefix: str, metrics: Mapping[str, float]) -> None:
        """Add what one optimiser step reported, which is the same on all ranks."""
        for name, value in metrics.items():
            self._steps.setdefault(f"train/{prefix}{name}", []).append(value)

    def over_ranks(self, device: torch.device) -> dict[str, float]:
        """Means over the optimiser steps, sums over the ranks."""
        means = {key: float(np.mean(values)) for key, values in self._steps.items()}
        sums: dict[str, float] = {}
        if self._sums:
            num_steps = max(len(values) for values in self._steps.values())
            names = sorted(self._sums)
            vector = torch.stack([self._sums[name] for name in names]).to(device) / num_steps
            sums = dict(zip(names, sum_over_ranks(vector).tolist(), strict=True))
        return {**sums, **means, **self.finished}
