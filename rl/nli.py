"""A model of natural language inference as the matcher of detection: entailment supports, contradiction contradicts."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from envs.detection.matching import Match, Support
from envs.detection.sentences import split

MAX_PASSAGES = 32
"""Sentences of the context that are compared."""


class NliMatcher:
    """A sequence classifier of premise and hypothesis in a Hugging Face folder; nothing is loaded from elsewhere.

    Every sentence of the context is a premise. The surest contradiction or entailment above `threshold` decides.
    """

    def __init__(self, path: str | Path, threshold: float = 0.5) -> None:
        """Load the model.

        Args:
            path: the folder.
            threshold: probability from which a class counts.

        Raises:
            ValueError: there is no such folder, or its classes are others than entailment and contradiction.
        """
        if not Path(path).is_dir():
            raise ValueError(f"{path}: no such folder; expected a model of natural language inference")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            self._model = AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as a classifier: {str(error).splitlines()[0]}") from error
        self._threshold = threshold
        self._classes: dict[Support, int] = {}
        for number, name in self._model.config.id2label.items():
            for support, start in ((Support.SUPPORTED, "entail"), (Support.CONTRADICTED, "contra")):
                if str(name).lower().startswith(start):
                    self._classes[support] = int(number)
        if len(self._classes) < 2:
            names = ", ".join(map(str, self._model.config.id2label.values()))
            raise ValueError(f"{path}: classes {names}; expected entailment and contradiction among them")

    def match(self, sentence: str, context: str) -> Match:
        """The judgement of the model."""
        premises = [piece.text for piece in split(context)][:MAX_PASSAGES]
        if not premises or not sentence.strip():
            return Match(support=Support.UNRELATED, evidence="nothing to compare")
        inputs = self._tokenizer(
            premises, [sentence] * len(premises), return_tensors="pt", padding=True, truncation="only_first"
        )
        with torch.inference_mode():
            probabilities = self._model(**inputs).logits.softmax(dim=-1)  # [premises, classes]
        surest = {
            support: (float(probabilities[:, column].max()), premises[int(probabilities[:, column].argmax())])
            for support, column in self._classes.items()
        }
        support = max(surest, key=lambda one: surest[one][0])
        probability, premise = surest[support]
        if probability < self._threshold:
            return Match(support=Support.UNRELATED, evidence=f"no passage decides; the nearest: {premise}")
        return Match(support=support, evidence=f"{premise} ({probability:.2f})")
