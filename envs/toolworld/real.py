"""Real API documents as a catalogue: Seal-Tools for training, ToolEyes held out. See data/NOTICE."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from envs.toolworld.catalogue import Split, WorldTool, result_fields, spoken
from envs.types import ToolSpec


class DocumentCatalogue:
    """A list of tools. Their results are simulated like those of all tools of the world."""

    def __init__(self, tools: Sequence[WorldTool]) -> None:
        """Keep the tools.

        Raises:
            ValueError: none of them needs an argument.
        """
        self.tools = tools
        self._askable = [tool for tool in self.tools if tool.spec.required]
        if not self._askable:
            raise ValueError("expected tools that require an argument, found none")
        self._by_word: dict[str, list[WorldTool]] = {}
        self._by_start: dict[str, list[WorldTool]] = {}
        for tool in self.tools:
            words = tool.phrase.split()
            self._by_start.setdefault(words[0], []).append(tool)
            for word in sorted(set(words[1:])):
                self._by_word.setdefault(word, []).append(tool)

    def sample(self, rng: random.Random) -> WorldTool:
        """Any tool that needs an argument."""
        return rng.choice(self._askable)

    def neighbour(self, rng: random.Random, tool: WorldTool, *, same_start: bool) -> WorldTool:
        """A tool that shares a word of its name with `tool`; any tool where there is none."""
        first, *others = tool.phrase.split()
        near = self._by_start[first] if same_start else []
        if not same_start and others and rng.random() < 0.7:
            near = self._by_word[rng.choice(others)]
        other = rng.choice(near if len(near) > 1 else self.tools)
        # The same words in another order would serve the same request.
        return self.sample(rng) if set(other.phrase.split()) == set(tool.phrase.split()) else other


class RealCatalogue(DocumentCatalogue):
    """The API documents of one split."""

    def __init__(self, split: Split) -> None:
        super().__init__(_load(split))


def world_tool(spec: ToolSpec) -> WorldTool:
    """A document of which no results are known: they follow from its name."""
    return WorldTool(spec=spec, phrase=spoken(spec.name.replace(".", " ")), results=result_fields(spec.name))


@lru_cache(maxsize=2)
def _load(split: Split) -> tuple[WorldTool, ...]:
    path = resources.files("envs.toolworld") / "data" / f"{split}.jsonl.gz"
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    return tuple(
        WorldTool(
            spec=ToolSpec.from_json(record),
            phrase=spoken(record["name"]),
            results=record["results"] or result_fields(record["name"]),
        )
        for record in records
    )
