"""A tiny Qwen2 model and its tokenizer from nothing, primed so that it can learn tool use in minutes on a CPU.

Not for training on tasks: that is the SFT recipe's work. Three things make a model of one to three million
parameters learnable: a tokenizer in which a value is the same tokens in request, schema and call; heads that
look back one, two and three positions from the start; and a minute of copying random strings.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention

from envs.actions import ACTIONS
from envs.component import Component
from envs.env import Env
from envs.types import Message, Task
from rl.checkpoint import WEIGHTS
from rl.console import track
from rl.weights import follow_umask
from rollout.demonstrations import DemonstrationPolicy
from rollout.renderer import ChatTemplateRenderer, special_pattern

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)

TEMPLATE_PATH = Path(__file__).resolve().parent.parent / "rollout" / "tiny_template.jinja"

SPLIT = r"[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,2}|\p{Han}|[^A-Za-z0-9\p{Han}]+"
"""Words, camelCase parts, two digits, a Chinese character, or a run of anything else: so that a value is the same
tokens wherever it stands, and the punctuation of JSON between two words is one token."""

CORPUS: Mapping[str, Any] = {
    "tasks": {
        "factory": "envs.toolworld:ToolWorldTasks",
        "options": {"split": "train", "catalogue": "mixed", "real_share": 0.5},
    },
    "env": {"factory": "envs.toolworld:ToolWorldEnv"},
    "demonstrations": {"factory": "envs.toolworld:Demonstrator"},
}
"""What the tokenizer is made for unless told otherwise. Half of the tasks are on real API documents, so that the words
of real APIs get a fair share of the tokens."""


def build(
    directory: str | Path,
    *,
    seed: int = 0,
    hidden_size: int = 160,
    num_layers: int = 4,
    num_heads: int = 5,
    num_kv_heads: int = 1,
    intermediate_size: int = 480,
    vocab_size: int = 4096,
    max_context: int = 1024,
    num_texts: int = 6000,
    priming_steps: int = 400,
    corpus: Mapping[str, Any] = CORPUS,
) -> Path:
    """Make the primed model and its tokenizer and save both in `directory`, in Hugging Face form.

    Args:
        directory: the folder.
        seed: of the tokenizer's texts and of the weights.
        hidden_size: of the model.
        num_layers: of the model.
        num_heads: of attention.
        num_kv_heads: of attention.
        intermediate_size: of the model.
        vocab_size: most tokens of the tokenizer.
        max_context: tokens.
        num_texts: demonstrations that the tokenizer is made for.
        priming_steps: updates of copying.
        corpus: `tasks`, `env` and `demonstrations`, as in a recipe's `source`: what the tokenizer is made for.

    Raises:
        ValueError: the corpus lacks one of them, or has an unknown entry.
    """
    tokenizer = train_tokenizer(texts_of(corpus, num_texts, seed), vocab_size)
    model = make_model(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        intermediate_size=intermediate_size,
        max_context=max_context,
        pad_token_id=SPECIAL_TOKENS.index(END_OF_TEXT),
        eos_token_id=SPECIAL_TOKENS.index(END_OF_TURN),
        seed=seed,
    )
    prime(model, steps=priming_steps, seed=seed)
    path = Path(directory)
    model.save_pretrained(path)
    follow_umask(path / WEIGHTS)
    tokenizer.save_pretrained(path)
    return path


def texts_of(corpus: Mapping[str, Any], num_texts: int, seed: int) -> Iterator[str]:
    """Demonstrated tasks as the model will read and write them, cut at the special tokens.

    Args:
        corpus: as of `build`.
        num_texts: demonstrations.
        seed: of tasks and demonstrators.

    Raises:
        ValueError: as `build`.
    """
    if set(corpus) != set(CORPUS):
        raise ValueError(f"corpus {sorted(corpus)}: expected {', '.join(CORPUS)}")
    parts = {name: Component.model_validate(dict(value)) for name, value in corpus.items()}
    tasks = parts["tasks"].build(seed=seed)
    renderer = ChatTemplateRenderer(_wrapped(_byte_level_bpe()))
    special = special_pattern(renderer.tokenizer)
    for index in track(range(num_texts), "texts for the tokenizer", total=num_texts):
        task = tasks.task(index)
        demonstrator = parts["demonstrations"].build(task, seed=index)
        messages = asyncio.run(_conversation(task, parts["env"].build(task), demonstrator))
        yield from filter(None, special.split(renderer.render(messages, task.tools + ACTIONS)))


async def _conversation(task: Task, env: Env, demonstrator: DemonstrationPolicy) -> list[Message]:
    messages, tools, step = list(await env.open()), task.tools + ACTIONS, None
    while step is None or not step.done:
        message, _ = demonstrator.reply(messages, tools, step)
        step = await env.step(message)
        tools = step.tools or tools
        messages += [message, *step.messages]
    await env.close()
    return messages


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the ChatML and Hermes special tokens and the tiny chat template."""
    tokenizer = _byte_level_bpe()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer)


def _byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE_PATH.read_text(),
        # For the model type qwen2, AutoTokenizer replaces whatever class is named here by Qwen2Tokenizer, which would
        # split text by Qwen2's own rule instead of SPLIT. Only a folder that names code of its own is spared;
        # code that nobody trusted is then not looked for.
        auto_map={"AutoTokenizer": [None, "tokenizer.TinyTokenizer"]},
    )


def make_model(
    *,
    vocab_size: int,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    intermediate_size: int,
    max_context: int,
    pad_token_id: int,
    eos_token_id: int,
    seed: int,
) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 model with tied embeddings and previous-token heads in its first layer."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        tie_word_embeddings=True,
        pad_token_id=pad_token_id,
        eos_token_id=eos_token_id,
        bos_token_id=None,
        use_sliding_window=False,
    )
    model = Qwen2ForCausalLM(config)
    look_back(model, margin=5.0)
    return model


@torch.no_grad()
def look_back(model: Qwen2ForCausalLM, margin: float) -> None:
    """Set query and key biases of layer 0 so that its heads attend 1, 2 and 3 positions back.

    With key bias (a, 0) in every rotary pair and query bias a (cos dw, -sin dw), the biases' share of the
    attention logit is a**2 sum_w cos(w (i - j - d)) / sqrt(head size), which peaks at distance d.

    Args:
        model: changed in place.
        margin: logit at distance d minus the logit one position beside it.
    """
    config = model.config
    num_heads, num_groups = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    head_size = config.hidden_size // num_heads
    attention = cast(Qwen2Attention, model.model.layers[0].self_attn)
    frequencies = model.model.rotary_emb.inv_freq.float()  # [head_size / 2]
    amplitude = math.sqrt(margin * math.sqrt(head_size) / (1 - torch.cos(frequencies)).sum().item())
    query = cast(Tensor, attention.q_proj.bias).view(num_heads, 2, head_size // 2)
    key = cast(Tensor, attention.k_proj.bias).view(num_groups, 2, head_size // 2)
    for head, distance in enumerate((1, 2, 3)[: num_heads - 1]):
        key[head // (num_heads // num_groups), 0] = amplitude
        query[head, 0] = amplitude * torch.cos(distance * frequencies)
        query[head, 1] = -amplitude * torch.sin(distance * frequencies)


def copy_batch(generator: torch.Generator, *, rows: int, length: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Random token strings that repeat spans of themselves.

    Returns:
        token_ids int64 [rows, length], and copied bool [rows, length]: true where a token repeats an earlier
        span and is not the first of its repetition.
    """
    token_ids = torch.randint(len(SPECIAL_TOKENS), vocab_size, (rows, length), generator=generator)
    copied = torch.zeros(rows, length, dtype=torch.bool)
    for row in range(rows):
        position = length // 2
        while position < length - 2:
            span = int(torch.randint(3, 12, (), generator=generator))
            span = min(span, length - position)
            source = int(torch.randint(0, position - span, (), generator=generator))
            token_ids[row, position : position + span] = token_ids[row, source : source + span]
            copied[row, position + 1 : position + span] = True
            position += span
    return token_ids, copied


def prime(model: Qwen2ForCausalLM, *, steps: int, seed: int, rows: int = 16, length: int = 96) -> float:
    """Teach the model to copy, on random strings.

    Returns:
        The share of copied tokens that the last batch's predictions got right.
    """
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    accuracy = 0.0
    for step in track(range(steps), "learning to copy", total=steps):
        token_ids, copied = copy_batch(generator, rows=rows, length=length, vocab_size=model.config.vocab_size)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=token_ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1][copied[:, 1:]]).float()
        targets = token_ids[:, 1:][copied[:, 1:]]
        loss = functional.cross_entropy(logits, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        accuracy = (logits.argmax(-1) == targets).float().mean().item()
        if step % 50 == 0:
            logger.info("priming step %d of %d: loss %.2f, copied %.0f %%", step, steps, loss, 100 * accuracy)
    return accuracy
