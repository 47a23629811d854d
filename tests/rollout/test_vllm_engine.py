from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.engine import Sampling
from rollout.trajectory import Completion, Finish

PROMPT = [5 + (7 * i) % 290 for i in range(50)]


def huggingface_logprobs(model_path: Path, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray:
    """Log-probs of the completion's tokens by a plain forward pass."""
    import torch
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(model_path).float().eval()
    token_ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logprobs = model(token_ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    return logprobs.gather(1, token_ids[0, len(prompt) :, None])[:, 0].numpy()


def parity_error(model_path: Path, prompt: Sequence[int], completion: Completion) -> float:
    reference = huggingface_logprobs(model_path, prompt, completion.token_ids.tolist())
    return float(np.abs(reference - completion.logprobs).max())


def generate(engine: Any, loop: asyncio.AbstractEventLoop, prompt: Sequence[int], **options: Any) -> Completion:
    sampling = Sampling(**{"max_tokens": 16, **options})
    return loop.run_until_complete(engine.generate(prompt, sampling, f"request-{id(sampling)}-{options}"))


def test_tokens_go_in_and_tokens_come_out(vllm_engine, engine_loop):
    completion = generate(vllm_engine, engine_loop, PROMPT, max_tokens=16)
    assert completion.token_ids.dtype == np.int32 and completion.logprobs.dtype == np.float32
    assert completion.token_ids.shape == completion.logprobs.shape == (16,)
    assert completion.finish is Finish.LENGTH
    assert (completion.logprobs <= 0).all()


def test_sampled_logprobs_equal_a_hugging_face_forward_pass(vllm_engine, engine_loop, random_models):
    for temperature in (1.0, 0.7, 0.0):
        completion = generate(vllm_engine, engine_loop, PROMPT, temperature=temperature, max_tokens=48)
        assert parity_error(random_models["tied_a"], PROMPT, completion) < 1e-4


def test_alternatives_are_the_likeliest_tokens_by_a_hugging_face_forward_pass(vllm_engine, engine_loop, random_models):
    import torch
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(random_models["tied_a"]).float().eval()
    for temperature in (0.0, 1.0):
        completion = generate(vllm_engine, engine_loop, PROMPT, temperature=temperature, num_alternatives=4)
        found = completion.alternatives
        assert found is not None and found.token_ids.shape == (16, 4)
        whole = torch.tensor([[*PROMPT, *completion.token_ids.tolist()]])
        with torch.no_grad():
            logprobs = model(whole).logits.log_softmax(-1)[0, len(PROMPT) - 1 : -1]
        best = logprobs.topk(4)
        assert found.token_ids.tolist() == best.indices.tolist()
        assert np.abs(found.logprobs - best.values.numpy()).max() < 1e-4
        if not temperature:
            assert found.token_ids[:, 0].tolist() == completion.token_ids.tolist()
        assert parity_error(random_models["tied_a"], PROMPT, completion) < 1e-4
    assert generate(vllm_engine, engine_loop, PROMPT).alternatives is None


def test_completion_ends_with_the_stop_token(vllm_engine, engine_loop):
    free = generate(vllm_engine, engine_loop, PROMPT, temperature=0.0, max_tokens=8)
    stop = int(free.token_ids[3])
    stopped = generate(vllm_engine, engine_loop, PROMPT, temperature=0.0, max_tokens=8, stop_token_ids=(stop,))
    assert stopped.finish is Finish.STOP
    assert stopped.token_ids[-1] == stop
    assert len(stopped.token_ids) <= 4


def test_a_request_seed_makes_the_sample_repeatable(vllm_engine, engine_loop):
    first, second = (generate(vllm_engine, engine_loop, PROMPT, seed=3) for _ in range(2))
    assert first.token_ids.tolist() == second.token_ids.tolist()
    unseeded = [generate(vllm_engine, engine_loop, PROMPT).token_ids.tolist() for _ in range(3)]
    assert len({tuple(token_ids) for token_ids in unseeded}) == 3


def test_a_seed_gives_the_same_tokens_however_the_engine_splits_the_prompts(vllm_engine, engine_loop):
    # More prompt tokens at once than one step of the engine takes, time and again: some prompts are read in two parts.
    num, burst = 144, 48
    prompts = [[5 + (7 * i + number) % 290 for i in range(150)] for number in range(num)]

    async def sampled(number: int, name: str) -> list[int]:
        sampling = Sampling(max_tokens=8, seed=number)
        completion = await vllm_engine.generate(prompts[number], sampling, f"{name}-{number}")
        return completion.token_ids.tolist()

    async def together() -> list[list[int]]:
        bursts = [range(first, first + burst) for first in range(0, num, burst)]
        return [
            token_ids
            for numbers in bursts
            for token_ids in await asyncio.gather(*[sampled(number, "together") for number in numbers])
        ]

    async def alone() -> list[list[int]]:
        return [await sampled(number, "alone") for number in range(num)]

    found = engine_loop.run_until_complete(together())
    assert [len(token_ids) for token_ids in found] == [8] * num
    assert found == engine_loop.run_until_complete(alone())


def test_many_requests_are_sampled_at_the_same_time(vllm_engine, engine_loop, random_models):
    async def many() -> list[Completion]:
        sampling = Sampling(max_tokens=12)
        prompts = [[*PROMPT, 5 + i] for i in range(24)]
        return await asyncio.gather(
            *[vllm_engine.generate(prompt, sampling, f"many-{i}") for i, prompt in enumerate(prompts)]
        )

    completions = engine_loop.run_until_complete(many())
    for i in (0, 23):
        assert parity_error(random_models["tied_a"], [*PROMPT, 5 + i], completions[i]) < 1e-4


def test_a_prompt_without_room_for_a_token_is_refused(vllm_engine, engine_loop):
    with pytest.raises(ValueError, match="leaves no room"):
        generate(vllm_engine, engine_loop, [5] * 256)
    assert len(generate(vllm_engine, engine_loop, [5] * 250).token_ids) == 6


def test_log_lines_of_all_processes_go_to_the_given_file(vllm_engine, vllm_log):
    processes = {line.split()[2] for line in vllm_log.read_text().splitlines() if " vllm." in line}
    assert len(processes) >= 2
