from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from envs.detection.matching import Support
from rl.nli import NliMatcher


def save_model(path: Path, tokenizer: Any, classes: list[str], winner: int) -> Path:
    """A classifier that always says the class number `winner`."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config)
    with torch.no_grad():
        # Every state is the same, so that the head alone decides.
        model.model.norm.weight.zero_()
        model.model.norm.weight[0] = 1.0
        model.model.embed_tokens.weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.score.weight.zero_()
        model.score.weight[winner, 0] = 5.0
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("winner", "support"), [(0, Support.CONTRADICTED), (1, Support.UNRELATED), (2, Support.SUPPORTED)]
)
def test_classes_of_the_model_decide(tmp_path, tokenizer, winner, support):
    path = save_model(tmp_path / "nli", tokenizer, ["contradiction", "neutral", "entailment"], winner)
    found = NliMatcher(path).match("The tower is in Paris.", "The tower is in Paris. It is tall.")
    assert found.support is support and "The tower is in Paris." in found.evidence
    assert NliMatcher(path).match("x", "").support is Support.UNRELATED


def test_a_folder_that_is_no_such_model_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="no such folder"):
        NliMatcher(tmp_path / "none")
    path = save_model(tmp_path / "other", tokenizer, ["positive", "negative"], 0)
    with pytest.raises(ValueError, match="expected entailment and contradiction"):
        NliMatcher(path)
