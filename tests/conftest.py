from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = Path(__file__).resolve().parent.parent / "rollout" / "tiny_template.jinja"

LINES = [
    "book_flight(city: string, days: integer, class?: economy|business, date: date)",
    "get_weather(city: string, days?: integer)",
    "Please book a flight to Oslo on 2026-03-01 for 3 days.",
    '{"name": "book_flight", "arguments": {"city": "Oslo", "days": 3}}',
    '{"name": "finish", "arguments": {"answer": "done"}}',
    "system user assistant tool",
]


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer of a few lines, with the tiny model's special tokens and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            "</tool_response>",
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(LINES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=1024
    )
    tokenizer.chat_template = TEMPLATE.read_text()
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Shared: do not change it; `make_tokenizer` of the folder's conftest gives one of your own."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def renderer(tokenizer: Any) -> Any:
    from rollout.renderer import ChatTemplateRenderer

    return ChatTemplateRenderer(tokenizer, max_context=1024)


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder of public benchmark data: TETHER_DATA, or ../shared/data beside the repository."""
    repository = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("TETHER_DATA", repository / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark data: {folder} is no folder")
    return folder
