"""A sentence embedding model as the matcher of detection: it finds what speaks of the same in other words."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from envs.detection.matching import Match, Support, judged, statements

BATCH_SIZE = 32
MAX_PASSAGES = 256
"""Sentences of the context that are compared."""


class EmbeddingMatcher:
    """An encoder in a Hugging Face or sentence-transformers folder; nothing is loaded from elsewhere.

    The passage with the highest cosine decides, like the most similar one does for `OverlapMatcher`: embeddings tell
    what a passage speaks of, but hardly a wrong number or a negation, so those are still read by rules.
    """

    def __init__(self, path: str | Path, threshold: float = 0.5, support: float = 0.75) -> None:
        """Load the model.

        Args:
            path: the folder. Token states are averaged, or the first one is taken where the folder's pooling says so.
            threshold: cosine from which a passage speaks of the same thing.
            support: cosine from which it says the same.

        Raises:
            ValueError: there is no such folder, it holds no model, or the cosines are no such pair.
        """
        if not -1 <= threshold <= support <= 1:
            raise ValueError(f"expected -1 <= threshold <= support <= 1, got {threshold} and {support}")
        if not (Path(path) / "config.json").is_file():
            raise ValueError(f"{path}: expected the folder of an embedding model with config.json")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            self._model = AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as an embedding model: {str(error).splitlines()[0]}") from error
        self._takes_first = _takes_first(Path(path))
        self._threshold, self._support = threshold, support

    def match(self, sentence: str, context: str) -> Match:
        """The judgement; never raises."""
        passages = statements(context)[:MAX_PASSAGES]
        if not passages or not sentence.strip():
            return Match(support=Support.UNRELATED, evidence="nothing to compare")
        wanted, *found = self.embed([sentence, *passages])
        cosines = torch.stack(found) @ wanted  # [passages]
        cosine, passage = float(cosines.max()), passages[int(cosines.argmax())]
        return judged(sentence, passage, context, cosine, threshold=self._threshold, support=self._support)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> list[torch.Tensor]:
        """Float32 [D] of length 1 for each text."""
        vectors: list[torch.Tensor] = []
        for start in range(0, len(texts), BATCH_SIZE):
            inputs = self._tokenizer(
                texts[start : start + BATCH_SIZE], return_tensors="pt", padding=True, truncation=True
            )
            # All of one kind; and not every model takes them.
            inputs.pop("token_type_ids", None)
            states = self._model(**inputs).last_hidden_state  # [B, T, D]
            mask = inputs["attention_mask"].unsqueeze(-1).float()  # [B, T, 1]
            pooled = states[:, 0] if self._takes_first else (states * mask).sum(1) / mask.sum(1)
            vectors += torch.nn.functional.normalize(pooled, dim=-1)
        return vectors


def _takes_first(path: Path) -> bool:
    """Whether the pooling of a sentence-transformers folder takes the first token's state in place of the mean."""
    for settings in path.glob("*_Pooling/config.json"):
        pooling = json.loads(settings.read_text())
        return bool(pooling.get("pooling_mode_cls_token")) or pooling.get("pooling_mode") == "cls"
    return False
