from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from envs.detection.matching import Support
from rl.detecting import Settings, toolbox_options
from rl.embedding import EmbeddingMatcher

CONTEXT = "Is it tall? The tower is in Paris. It was completed in 1889."


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any) -> Path:
    """An encoder of random weights: texts of the same tokens are the same, others are not."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=1.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_nearest_passage_decides_and_rules_read_its_numbers_and_negations(folder):
    matcher = EmbeddingMatcher(folder, threshold=0.0, support=0.95)
    found = matcher.match("The tower is in Paris.", CONTEXT)
    assert found.support is Support.SUPPORTED and found.evidence == "The tower is in Paris."
    assert matcher.match("It was completed in 1887.", CONTEXT).support is Support.CONTRADICTED
    assert matcher.match("The tower is not in Paris.", CONTEXT).support is Support.CONTRADICTED
    assert (
        EmbeddingMatcher(folder, threshold=0.999, support=1.0).match("Bananas.", CONTEXT).support is Support.UNRELATED
    )
    assert matcher.match("It is tall.", "Is it tall?").support is Support.UNRELATED
    assert matcher.match(" ", CONTEXT).support is Support.UNRELATED


def test_padding_and_batches_change_no_embedding(folder):
    matcher = EmbeddingMatcher(folder)
    texts = [f"{number} " * (1 + number % 7) for number in range(40)]
    together = matcher.embed(texts)
    for text, found in zip(texts, together, strict=True):
        torch.testing.assert_close(found, matcher.embed([text])[0], atol=1e-5, rtol=1e-4)
        assert float(found.norm()) == pytest.approx(1.0)


def test_the_pooling_of_the_folder_is_followed(folder):
    mean = EmbeddingMatcher(folder).embed(["The tower"])[0]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first = EmbeddingMatcher(folder).embed(["The tower"])[0]
    assert not torch.allclose(mean, first)


def test_the_folder_says_which_kind_of_model_it_holds(folder, tmp_path):
    def factory() -> Any:
        return toolbox_options(Settings(match=str(folder)))["matcher"]["factory"]  # type: ignore[index,call-overload]

    assert factory() == "rl.embedding:EmbeddingMatcher"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    assert factory() == "rl.nli:NliMatcher"
    with pytest.raises(ValueError, match="expected the URL of an endpoint, or a model folder"):
        toolbox_options(Settings(match=str(tmp_path / "nowhere")))


def test_what_is_no_embedding_model_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        EmbeddingMatcher(tmp_path)
    with pytest.raises(ValueError, match="threshold <= support"):
        EmbeddingMatcher(folder, threshold=0.9, support=0.1)
