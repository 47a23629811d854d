"""The hand-made trajectories of the reward tests, and what pairs are compared by."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.types import MalformedCall, Message, ToolCall
from rl.data.pairs import Found, Pair


@pytest.fixture(scope="session")
def build() -> Any:
    """The builder of tests/rewards/conftest.py: modules under tests/ are not importable by name."""
    path = Path(__file__).resolve().parents[2] / "rewards" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tests_rewards_builder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Builder


def said(messages: tuple[Message, ...]) -> str:
    """What the policy says on one side: name(values) of each call."""
    parts = []
    for message in messages:
        if message.role != "assistant":
            continue
        for call in message.calls:
            if isinstance(call, ToolCall):
                parts.append(f"{call.name}({', '.join(map(str, call.arguments.values()))})")
            else:
                assert isinstance(call, MalformedCall)
                parts.append(f"<{call.text}>")
        if not message.calls:
            parts.append(repr(message.content))
    return " ".join(parts)


@pytest.fixture(scope="session")
def table() -> Any:
    """The pairs of a rule as rows: chosen, rejected, kind of the rejected side, both scores."""

    def rows(found: Found) -> list[tuple[str, str, str | None, float, float]]:
        def row(pair: Pair) -> tuple[str, str, str | None, float, float]:
            scores = round(pair.chosen.score, 3), round(pair.rejected.score, 3)
            return said(pair.chosen.messages), said(pair.rejected.messages), pair.kind, *scores

        return [row(pair) for pair in found.pairs]

    return rows
