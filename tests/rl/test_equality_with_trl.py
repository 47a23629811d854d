"""Losses and gradients of SFT and DPO beside TRL's own, on the same model and batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from rl.algorithms import Algorithm
from rl.algorithms.dpo import DPO
from rl.algorithms.sft import SFT
from rl.models import Role, load_model
from rl.sample import Sample, pad

trl = pytest.importorskip("trl")
pytest.importorskip("datasets")

TOLERANCE = 1e-5
SETTINGS = {
    "per_device_train_batch_size": 8,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_length": None,
}


@pytest.fixture(scope="module")
def models(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A reference and a policy that has moved away from it."""
    folder = tmp_path_factory.mktemp("moved")
    moved = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    moved.save_pretrained(folder)
    return tiny_model_path, folder


@pytest.fixture(scope="module")
def processing() -> Any:
    """A tokenizer, which TRL asks for; the batches are token ids already."""
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "a": 2, "b": 3, "c": 4}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>")


def random_completions(num: int, seed: int) -> list[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(2, 300, rng.integers(2, 9)).tolist(), rng.integers(2, 300, rng.integers(1, 12)).tolist())
        for _ in range(num)
    ]


def ours(algorithm: Algorithm, samples: list[Sample], policy: Path, reference: Path) -> tuple[float, dict]:
    """Loss and gradients by name."""
    model = load_model(policy, Role(name="policy"), dtype=torch.float32)
    frozen = load_model(reference, Role(name="reference", trained=False), dtype=torch.float32)
    batch = pad(samples)
    with torch.no_grad():
        prepared = algorithm.prepare([batch], {"reference": lambda b: frozen(b.token_ids, b.loss_mask)})
    (batch,) = prepared.batches
    loss = algorithm.loss("policy", batch, model(batch.token_ids, batch.loss_mask)).total
    loss = loss / algorithm.denominator(samples)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in model.model.named_parameters()}


def theirs(trainer: Any, examples: list[dict[str, Any]]) -> tuple[float, dict]:
    """The same by a trainer of TRL."""
    trainer.model.train()
    trainer.model.zero_grad()
    inputs = trainer._prepare_inputs(trainer.data_collator(examples))
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: parameter.grad for name, parameter in trainer.model.named_parameters()}


def assert_equal(found: tuple[float, dict], expected: tuple[float, dict]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.abs().max() > 1e-4, f"{name} is learned by neither"
        torch.testing.assert_close(found[1][name], gradient, atol=TOLERANCE, rtol=TOLERANCE, msg=name)


def test_sft_equals_trl(models: tuple[Path, Path], processing: Any, make_group: Callable, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = random_completions(5, seed=0)
    examples = [
        {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion} for prompt, completion in rows
    ]
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(models[1], dtype=torch.float32),
        args=trl.SFTConfig(str(tmp_path), dataset_kwargs={"skip_prepare_dataset": True}, **SETTINGS),
        train_dataset=Dataset.from_list(examples),
        processing_class=processing,
    )
    samples = SFT().samples([make_group(prompt, (completion, 0.0)) for prompt, completion in rows])
    assert_equal(ours(SFT(), samples, models[1], models[0]), theirs(trainer, examples))


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        (DPO(beta=0.1), {"beta": 0.1, "loss_type": ["sigmoid"]}),
        (
            DPO(beta=0.3, sft_coefficient=0.7),
            {"beta": 0.3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
        ),
        (DPO(beta=2.0, length_normalised=True), {"beta": 2.0, "loss_type": ["sigmoid_norm"]}),
        (
            DPO(beta=0.3, label_smoothing=0.2, robust=True),
            {"beta": 0.3, "loss_type": ["robust"], "label_smoothing": 0.2},
        ),
    ],
    ids=["plain", "with SFT", "length-normalised", "robust"],
)
def test_dpo_equals_trl(
    models: tuple[Path, Path],
    processing: Any,
    make_pair: Callable,
    tmp_path: Path,
    algorithm: DPO,
    config: dict[str, Any],
) -> None:
    from datasets import Dataset

    rows = random_completions(4, seed=1)
    others = [completion for _, completion in random_completions(4, seed=2)]
    examples = [
        {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        for (prompt, chosen), rejected in zip(rows, others, strict=True)
    ]
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(models[1], dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(models[0], dtype=torch.float32),
        args=trl.DPOConfig(str(tmp_path), **config, **SETTINGS),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=processing,
    )
    groups = [make_pair(prompt, chosen, rejected) for (prompt, chosen), rejected in zip(rows, others, strict=True)]
    assert_equal(ours(algorithm, algorithm.samples(groups), models[1], models[0]), theirs(trainer, examples))
