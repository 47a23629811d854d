"""How well hallucinations are found: HaluAgent's metrics (B7) with one denominator for every system.

A response or sentence counts as positive if it is a hallucination. What failed and what was left undecided counts as
wrong: the denominator is the number of items, whatever a system says of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from envs.detection.sets.types import Labelled
from envs.types import Json
from rl.statistics import as_list, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One item: its truth, what was said of it, and whether the system failed on it."""

    truth: bool
    said: bool | None
    failed: bool = False


def rates(decisions: Iterable[Decision]) -> dict[str, Json]:
    """Counts, and the rates of them with Wilson's 95 % intervals.

    Returns:
        `n`, `positives`, `failed`, `undecided`; `accuracy`, `precision`, `recall`, `f1`, each 0..1 or None of nothing;
        `decided`, the share that was decided, and `accuracy_decided` of that; `intervals` of all but f1.
    """
    found = list(decisions)
    num = len(found)
    right = sum(one.said is one.truth for one in found)
    decided = sum(one.said is not None for one in found)
    positives = sum(one.truth for one in found)
    flagged = sum(one.said is True for one in found)
    true_positives = sum(one.truth and one.said is True for one in found)
    parts = {
        "accuracy": (right, num),
        "precision": (true_positives, flagged),
        "recall": (true_positives, positives),
        "decided": (decided, num),
        "accuracy_decided": (right, decided),
    }
    return {
        "n": num,
        "positives": positives,
        "failed": sum(one.failed for one in found),
        "undecided": sum(one.said is None and not one.failed for one in found),
        **{name: _share(*counts) for name, counts in parts.items()},
        "f1": _share(2 * true_positives, flagged + positives),
        "intervals": {name: as_list(wilson(*counts)) for name, counts in parts.items()},
    }


def _share(num_hits: int, num: int) -> float | None:
    return num_hits / num if num else None


def of_responses(items: Sequence[Labelled], lines: Sequence[Mapping[str, Json]]) -> list[Decision]:
    """The verdicts on responses with a known truth."""
    return [
        Decision(truth=item.hallucinated, said=line["hallucinated"], failed="failed" in line)
        for item, line in _paired(items, lines)
        if item.hallucinated is not None
    ]


def of_sentences(items: Sequence[Labelled], lines: Sequence[Mapping[str, Json]]) -> list[Decision]:
    """The labels of labelled sentences: of several found in one place, an error counts."""
    return [
        Decision(truth=sentence.label == 1, said=_said(sentence.start, sentence.end, line), failed="failed" in line)
        for item, line in _paired(items, lines)
        for sentence in item.sentences
    ]


def _said(start: int, end: int, line: Mapping[str, Json]) -> bool | None:
    if "failed" in line:
        return None
    labels = [row["label"] for row in line["sentences"] if row["span"][0] < end and row["span"][1] > start]
    known = [label for label in labels if label is not None]
    return any(known) if known else None


def disagreements(items: Sequence[Labelled], lines: Sequence[Mapping[str, Json]]) -> Iterator[dict[str, Json]]:
    """Decided items and sentences whose label is another one than the truth."""
    for item, line in _paired(items, lines):
        for sentence in item.sentences:
            said = _said(sentence.start, sentence.end, line)
            if said is not None and said != bool(sentence.label):
                text = item.response[sentence.start : sentence.end]
                yield {
                    "id": item.item_id,
                    "text": text,
                    "truth": bool(sentence.label),
                    "said": said,
                    **_why(line, text),
                }
        if item.hallucinated is not None and line["hallucinated"] not in (None, item.hallucinated):
            yield {"id": item.item_id, "truth": item.hallucinated, "said": line["hallucinated"], **_why(line, None)}


def _why(line: Mapping[str, Json], text: str | None) -> dict[str, Json]:
    """The evidence of a sentence, or of the errors that were found in a response."""
    rows = [
        row for row in line["sentences"] if row["evidence"] and (row["text"] in text if text else row["label"] == 1)
    ]
    return {"evidence": [row["evidence"] for row in rows[:3]]}


def _paired(
    items: Sequence[Labelled], lines: Sequence[Mapping[str, Json]]
) -> Iterator[tuple[Labelled, Mapping[str, Json]]]:
    for item, line in zip(items, lines, strict=True):
        if line["id"] != item.item_id:
            raise ValueError(f"line of {line['id']!r} in the place of {item.item_id!r}")
        yield item, line
