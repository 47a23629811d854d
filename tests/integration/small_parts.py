"""Parts for the integration tests, importable by Ray workers: a small model from nothing, and a small real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rl.tiny import build
from rollout.engine import Sampling
from rollout.trajectory import Completion, Finish


def small_model(directory: Path, *, seed: int) -> None:
    """A model that is made in seconds and knows nothing."""
    build(
        directory,
        seed=seed,
        hidden_size=64,
        num_layers=1,
        num_heads=2,
        intermediate_size=96,
        vocab_size=600,
        num_texts=30,
        priming_steps=1,
    )


class SmallEngine:
    """Samples token by token from a Hugging Face model. `deaf`: loads change the version and not the weights."""

    def __init__(self, model_path: str, *, version: int, deaf: bool = False, adapter: str = "", **_: object) -> None:
        # A folder with an adapter names the model it lies on.
        self._model = AutoModelForCausalLM.from_pretrained(adapter or model_path, dtype=torch.float32)
        self.version = version
        self._deaf = deaf

    @torch.no_grad()
    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        generator = torch.Generator().manual_seed(sampling.seed if sampling.seed is not None else hash(request_id))
        ids, logprobs = list(prompt_ids), []
        cache = None
        for _ in range(sampling.max_tokens):
            await asyncio.sleep(0)
            new = torch.tensor([ids[-1:] if cache else ids])
            output = self._model(new, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            row = torch.log_softmax(output.logits[0, -1].float(), dim=-1)
            if sampling.temperature:
                hot = torch.softmax(output.logits[0, -1].float() / sampling.temperature, dim=-1)
                token = int(torch.multinomial(hot, 1, generator=generator))
            else:
                token = int(row.argmax())
            ids.append(token)
            logprobs.append(float(row[token]))
            if token in sampling.stop_token_ids:
                break
        stopped = ids[-1] in sampling.stop_token_ids
        return Completion(
            token_ids=np.asarray(ids[len(prompt_ids) :], dtype=np.int32),
            logprobs=np.asarray(logprobs, dtype=np.float32),
            finish=Finish.STOP if stopped else Finish.LENGTH,
            policy_version=self.version,
        )

    async def load(self, version: int, weights: str) -> None:
        self.version = version
        if self._deaf:
            return
        if Path(weights).is_dir():
            self._model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
        else:
            self._model.load_state_dict(load_file(weights), strict=False)

    async def close(self) -> None:
        pass
