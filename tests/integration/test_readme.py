"""The README's examples, as they stand there."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from harness import SMALL_ENGINE, only_run

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)


def named(name: str) -> str:
    """The block that begins with the comment `# name`."""
    (text,) = [text for _, text in BLOCKS if text.startswith(f"# {name}\n")]
    return text


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder with the README's files, from which modules are imported."""
    for name in ("my_env.py", "my_reward.py", "my_recipe.toml"):
        (tmp_path / name).write_text(named(name))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_env", "my_reward"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["my_env.py", "my_reward.py", "my_recipe.toml"])
def test_an_example_is_short(name):
    assert len([line for line in named(name).splitlines() if line.strip()]) <= 31


def test_the_environment_passes_check_env(written):
    from envs.checks import check_env
    from envs.component import Component

    tasks = Component(factory="my_env:Tasks").build(seed=0)
    assert check_env(Component(factory="my_env:library"), [tasks.task(index) for index in range(5)]) == []


def test_the_recipe_names_parts_that_exist(written, tmp_path):
    from rl.config import check, load

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").touch()
    overrides = [f"model.path={model}", f"run.directory={tmp_path / 'runs'}"]
    check(load(str(written / "my_recipe.toml"), "one_gpu", overrides))


def test_the_conversation_can_be_learned_from(tmp_path):
    from rollout.recorded import read_recorded

    (text,) = [text for language, text in BLOCKS if language == "json"]
    assert len(text.splitlines()) <= 20
    path = tmp_path / "my_conversations.jsonl"
    path.write_text(json.dumps(json.loads(text)) + "\n")
    (recorded,) = read_recorded(path)
    assert [tool.name for tool in recorded.tools] == ["get_weather"]


def test_every_command_of_the_readme_exists():
    from rl.__main__ import COMMANDS

    shells = "\n".join(text for language, text in BLOCKS if language == "sh")
    assert {line.split()[1] for line in shells.splitlines() if line.startswith("tether ")} <= set(COMMANDS)
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", shells, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_recipe_is_toml():
    assert tomllib.loads(named("my_recipe.toml"))["source"]["env"] == {"factory": "my_env:library"}


@pytest.mark.slow
def test_the_three_examples_train_together(written, run_ok, start):
    words = ["run.steps=2", f"model.path={start}", *SMALL_ENGINE]
    run_ok("train", "./my_recipe.toml", "laptop", *words)
    assert (only_run(written) / "checkpoints" / "step-000002").is_dir()
