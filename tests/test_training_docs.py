"""docs/training.md: the examples run as they stand, the tables name the options that there are."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\w+\.\w+)\n", text))}
"""Blocks that begin with the name of a file."""
PREFERENCE = next(text for language, text in BLOCKS if language == "json")


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the examples' files and something like the model that they name."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    model = tmp_path / "models" / "Qwen2.5-1.5B-Instruct"
    tokenizer.save_pretrained(model)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    pair = json.loads(PREFERENCE)
    (tmp_path / "my_preferences.jsonl").write_text(json.dumps(pair) + "\n")
    talk = {"messages": [*pair["prompt"], *pair["chosen"]], "tools": pair["tools"]}
    (tmp_path / "my_conversations.jsonl").write_text(json.dumps(talk) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(first: str) -> list[str]:
    """The names in the first column of a table, whose header begins with `first`."""
    lines = PAGE[PAGE.index(f"\n| {first} |") + 1 :].splitlines()[2:]
    rows = lines[: next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_recipe_passes_every_check(folder: Path, name: str) -> None:
    from rl.config import check, check_algorithm, load

    config = load(name, "laptop")
    for part in config.in_order():
        check(part)
        check_algorithm(part)


def test_the_example_is_short() -> None:
    assert len(PREFERENCE.splitlines()) <= 20


def test_the_preference_is_learned_from(folder: Path, renderer: Any) -> None:
    from rl.config import load
    from rl.sources import preference
    from rollout.preferences import read_pairs

    config = load("my_dpo.toml", "laptop")
    (pair,) = read_pairs(config.source.preferences, renderer)
    chosen, rejected = config.algorithm.build().samples([preference(pair)])
    learned = [renderer.decode(sample.token_ids[sample.loss_mask].tolist()) for sample in (chosen, rejected)]
    assert "hours" not in learned[0] and "hours" in learned[1]
    assert not any("Will it rain" in text for text in learned)
    assert chosen.streams["preference"].max() > 0 > rejected.streams["preference"].min()


def test_every_option_is_described() -> None:
    from rl.algorithms.dpo import DPO
    from rl.key_tokens import KeyTokens
    from rollout.preferences import PAIR_FIELDS

    assert options("option of DPO") == [field.name for field in fields(DPO)]
    assert options("option of key tokens") == [field.name for field in fields(KeyTokens)]
    assert sorted(options("field of a preference")) == sorted(PAIR_FIELDS)


def test_every_algorithm_is_named_and_every_named_option_exists() -> None:
    from envs.component import Component
    from rl.algorithms.grpo import GRPO
    from rl.algorithms.ppo import PPO
    from rl.algorithms.rloo import RLOO

    named = set(re.findall(r"`(rl\.algorithms\.\w+:\w+)`", PAGE))
    modules = {path.stem for path in (ROOT / "rl" / "algorithms").glob("*.py")}
    assert {name.split(":")[0].split(".")[-1] for name in named} == modules - {
        "__init__",
        "surrogate",
        "group_relative",
    }
    for name in named:
        Component(factory=name).check()
    shared = {"clip_low", "clip_high", "kl_coefficient", "entropy_coefficient", "importance_cap", "credit"}
    for algorithm in (PPO, GRPO, RLOO):
        assert shared <= {field.name for field in fields(algorithm)}
    assert {"returns", "normalise_std"} <= {field.name for field in fields(GRPO)}
    assert "returns" in {field.name for field in fields(RLOO)}
