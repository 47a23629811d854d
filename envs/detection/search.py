"""Search for what is known: BM25 over a corpus on this machine by default, or any HTTP endpoint."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envs.detection.http import post
from envs.detection.matching import terms
from envs.types import Json, ToolError

MAX_PASSAGE_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a corpus."""

    title: str
    text: str


class Search(Protocol):
    """Finds passages."""

    def search(self, query: str, num: int) -> list[Passage]:
        """At most `num` passages, best first.

        Raises:
            ToolError: the search could not be made.
        """
        ...


class CorpusSearch:
    """BM25 over passages in memory; Chinese by pairs of characters. The same query gives the same passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Index the passages.

        Raises:
            ValueError: there are none.
        """
        import bm25s

        if not passages:
            raise ValueError("a corpus without passages")
        self._passages = list(passages)
        self._index = bm25s.BM25()
        self._index.index([terms(f"{one.title} {one.text}") or [""] for one in passages], show_progress=False)

    def search(self, query: str, num: int) -> list[Passage]:
        """At most `num` passages that share a term with the query, best first."""
        wanted = terms(query)
        if not wanted:
            return []
        num = min(num, len(self._passages))
        found, scores = self._index.retrieve([wanted], k=num, show_progress=False)
        return [self._passages[int(at)] for at, score in zip(found[0], scores[0], strict=True) if score > 0]


class EndpointSearch:
    """An HTTP endpoint: POST {"query", "num"} -> {"passages": [{"title", "text"}]}."""

    def __init__(self, url: str, *, timeout: float = 20.0) -> None:
        """Ask `url`, waiting for at most `timeout` seconds."""
        self._url = url
        self._timeout = timeout

    def search(self, query: str, num: int) -> list[Passage]:
        """At most `num` passages, in the order of the endpoint."""
        answer = post(self._url, {"query": query, "num": num}, timeout=self._timeout)
        passages = answer.get("passages")
        if not isinstance(passages, list):
            raise ToolError("the search endpoint gave no passages")
        return [_passage(one) for one in passages[:num]]


def _passage(value: Json) -> Passage:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ToolError("the search endpoint gave a passage without text")
    return Passage(title=str(value.get("title") or ""), text=value["text"][:MAX_PASSAGE_CHARACTERS])


def read_corpus(path: Path) -> list[Passage]:
    """Passages of a JSONL file, plain or .gz: {"text", "title"?} a line.

    Raises:
        ValueError: it cannot be read; the message names file, line and fault.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    found: list[Passage] = []
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                    raise ValueError(f'{path}:{number}: expected {{"text": string, "title"?: string}}')
                found.append(_passage(record))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{number}: not JSON ({error})") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected UTF-8 JSON lines") from error
    return found
