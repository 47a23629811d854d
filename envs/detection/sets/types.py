"""A response whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSentence:
    """A piece of a response with its label."""

    start: int
    end: int
    label: int
    """1: a hallucination; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A response with its labels."""

    item_id: str
    response: str
    question: str = ""
    hallucinated: bool | None = None
    """None: only its sentences are labelled."""
    sentences: tuple[LabelledSentence, ...] = ()
    """Those that have a label."""


def of_claims(item_id: str, claims: list[tuple[str, bool | None]], *, question: str = "") -> Labelled:
    """Claims one a line as a response, as HaluAgent takes FacTool's (B6, Protocol); a label of None is no label.

    Args:
        item_id: its name.
        claims: text and whether it is false.
        question: what was asked.
    """
    lines: list[str] = []
    labelled: list[LabelledSentence] = []
    position = 0
    for text, is_false in claims:
        line = " ".join(text.split())
        if is_false is not None:
            labelled.append(LabelledSentence(start=position, end=position + len(line), label=int(is_false)))
        lines.append(line)
        position += len(line) + 1
    return Labelled(item_id=item_id, question=question, response="\n".join(lines), sentences=tuple(labelled))
