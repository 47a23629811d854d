"""Tiny models, samples and trajectories for the tests of learning."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from envs.types import Message, Outcome, Task
from rewards.types import Score
from rl.sample import Sample, ScoredGroup
from rollout.trajectory import UNKNOWN_VERSION, Ending, Trajectory, Turn

VOCABULARY = 300


def save_tiny_model(folder: Path, *, tied: bool = True) -> Path:
    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def untied_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="session")
def make_samples() -> Callable[..., list[Sample]]:
    """Samples of random lengths with the streams an algorithm's `samples` would give."""

    def make(num: int, seed: int = 0, streams: tuple[str, ...] = ("weights",)) -> list[Sample]:
        rng = np.random.default_rng(seed)
        samples = []
        for index in range(num):
            length = int(rng.integers(5, 40))
            loss_mask = rng.random(length) < 0.4
            loss_mask[0], loss_mask[-1] = False, True
            samples.append(
                Sample(
                    token_ids=rng.integers(0, VOCABULARY, length).astype(np.int32),
                    loss_mask=loss_mask,
                    streams={name: np.where(loss_mask, rng.random(length), 0.0).astype(np.float32) for name in streams},
                    group=str(index),
                    oldest_version=0,
                )
            )
        return samples

    return make


@pytest.fixture(scope="session")
def make_trajectory() -> Callable[..., Trajectory]:
    """Two turns in ten tokens: observation 0:3, turn 3:5, observation 5:7, turn 7:10."""

    def make(*, version: int = 0, ending: Ending = Ending.COMPLETED, train: tuple[bool, bool] = (True, True)):
        mask = np.zeros(10, dtype=bool)
        mask[3:5] = mask[7:10] = True
        message = Message(role="assistant")
        return Trajectory(
            trajectory_id="t",
            group_id="g",
            task=Task(task_id="task", prompt=(Message(role="user", content="hello"),), tools=()),
            tools=(),
            turns=(
                Turn(message=message, results=(), start=3, end=5, train=train[0]),
                Turn(message=message, results=(), start=7, end=10, train=train[1]),
            ),
            token_ids=np.arange(10, dtype=np.int32),
            action_mask=mask,
            logprobs=np.where(mask, -1.0, np.nan).astype(np.float32),
            oldest_version=version,
            newest_version=version,
            ending=ending,
            outcome=Outcome(),
        )

    return make


def make_side(prompt: Sequence[int], completion: Sequence[int], *, train: bool = True) -> Trajectory:
    """One recorded turn after a prompt."""
    token_ids = np.array([*prompt, *completion], dtype=np.int32)
    turn = Turn(message=Message(role="assistant"), results=(), start=len(prompt), end=len(token_ids), train=train)
    return Trajectory(
        trajectory_id="t",
        group_id="g",
        task=Task(task_id="task", prompt=(Message(role="user", content="hello"),), tools=()),
        tools=(),
        turns=(turn,),
        token_ids=token_ids,
        action_mask=np.arange(len(token_ids)) >= len(prompt),
        logprobs=np.full(len(token_ids), np.nan, dtype=np.float32),
        oldest_version=UNKNOWN_VERSION,
        newest_version=UNKNOWN_VERSION,
        ending=Ending.COMPLETED,
        outcome=Outcome(),
    )


@pytest.fixture(scope="session")
def make_group() -> Callable[..., ScoredGroup]:
    """Recorded turns after one prompt, and what each is worth."""

    def make(prompt: Sequence[int], *completions: tuple[Sequence[int], float], train: bool = True, weight: float = 1.0):
        return ScoredGroup(
            trajectories=tuple(make_side(prompt, completion, train=train) for completion, _ in completions),
            scores=tuple(Score(per_turn=np.array([total], dtype=np.float32)) for _, total in completions),
            weight=weight,
        )

    return make


@pytest.fixture(scope="session")
def make_pair(make_group: Callable[..., ScoredGroup]) -> Callable[..., ScoredGroup]:
    """A preference: prompt, chosen tokens, rejected tokens, weight."""

    def make(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int], weight: float = 1.0):
        return make_group(prompt, (rejected, 0.0), (chosen, 1.0), weight=weight)

    return make


@pytest.fixture(scope="session")
def random_pairs(make_pair: Callable[..., ScoredGroup]) -> Callable[..., list[ScoredGroup]]:
    """Preferences of random lengths and weights."""

    def make(num: int, seed: int = 0) -> list[ScoredGroup]:
        rng = np.random.default_rng(seed)

        def tokens() -> list[int]:
            return rng.integers(1, VOCABULARY, rng.integers(1, 12)).tolist()

        return [
            make_pair([5, *tokens()], [*tokens(), 7], [*tokens(), 8], float(rng.random() + 0.5)) for _ in range(num)
        ]

    return make
