"""README.md and docs/formats.md: the examples run as they stand, the tables say what the code says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs.component import Component
from envs.types import Task
from rewards.classify import RELIGN_CLASSES, TL_CLASSES
from rewards.error_reward import PRESETS
from rewards.schemes import SCHEMES
from rewards.types import HALLUCINATIONS, ErrorKind
from rollout.engine import Sampling
from rollout.episode import run_episode
from rollout.scripted_engine import ScriptedEngine
from rollout.store import score_schema, trajectory_schema, write_scores, write_trajectories
from rollout.trajectory import Trajectory

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
FORMATS = (ROOT / "docs" / "formats.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\w+\.\w+)\n", text))}
"""Blocks that begin with the name of a file."""
COMMANDS = [line.partition(" #")[0] for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the examples' files and something like the model that they name."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    model = tmp_path / "models" / "Qwen2.5-1.5B-Instruct"
    tokenizer.save_pretrained(model)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    conversation = json.loads(block("json"))
    (tmp_path / "my_conversations.jsonl").write_text(json.dumps(conversation) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def block(language: str) -> str:
    (text,) = [text for found, text in BLOCKS if found == language]
    return text


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the rows of the table whose header begins with `first`."""
    lines = text[text.index(f"\n| {first} |") + 1 :].splitlines()
    end = next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:end]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


async def play(renderer: Any, task: Task, *turns: str) -> Trajectory:
    return await run_episode(
        task,
        Component(factory="my_env:library").build,
        ScriptedEngine(list(turns), renderer),
        renderer,
        Sampling(max_tokens=200),
        trajectory_id="trajectory",
        group_id="group",
        max_turns=4,
    )


def test_no_example_is_longer_than_thirty_lines_of_code():
    for name, text in FILES.items():
        assert len([line for line in text.splitlines()[1:] if line.strip()]) <= 30, name
    assert len(block("json").splitlines()) <= 20


@pytest.mark.parametrize("name", ["my_recipe.toml", "my_sft.toml"])
def test_a_recipe_passes_every_check(folder, name):
    from rl.config import check, load

    check(load(name, "laptop"))


async def test_the_environment_asks_for_what_is_missing_and_the_reward_sees_it(folder, renderer):
    from rl.config import load

    tasks = Component(factory="my_env:Tasks").build(seed=0)
    task = next(task for index in range(4) if (task := tasks.task(index)).kind == "missing_argument")
    title = task.facts["user"]["title"]
    right = await play(
        renderer,
        task,
        call("talk_to_user", question="which title?", missing=["title"]),
        call("find_book", title=title),
        call("finish", answer=task.answer),
    )
    guessed = await play(renderer, task, call("find_book", title="Ulysses"), call("finish", answer="nowhere"))
    reward = load("my_recipe.toml", "laptop").reward.build()
    assert right.outcome.finished and reward(right).errors == ()
    assert "there is no book Ulysses" in guessed.turns[0].results[0].content
    assert ErrorKind.MISSED_DEFERRAL in {error.kind for error in reward(guessed).errors}
    assert reward(right).total > reward(guessed).total
    assert {"Brevity/brevity", "ErrorReward/right_deferral"} <= set(reward(right).parts)


def test_the_environment_passes_check_env(folder):
    from envs.checks import check_env

    tasks = Component(factory="my_env:Tasks").build(seed=0)
    assert check_env(Component(factory="my_env:library"), [tasks.task(index) for index in range(4)]) == []


def test_the_conversation_is_learned_from(folder, renderer):
    from rl.algorithms.sft import SFT
    from rl.config import load
    from rl.sample import ScoredGroup
    from rollout.demonstrations import read_demonstrations

    path = load("my_sft.toml", "laptop").source.conversations
    (trajectory,) = read_demonstrations(path, renderer)
    (sample,) = SFT().samples([ScoredGroup(trajectories=(trajectory,))])
    learned = renderer.decode(sample.token_ids[sample.loss_mask].tolist())
    assert "get_weather" in learned and "umbrella" in learned
    assert "Will it rain" not in learned and '"rain"' not in learned


async def test_a_run_is_read_without_tether(folder, renderer):
    from rl.records import score_row

    tasks = Component(factory="my_env:Tasks").build(seed=0)
    trajectory = await play(renderer, tasks.task(0), call("no_such_tool"), call("finish", answer="A3"))
    score = Component(factory="rewards.error_reward:ErrorReward").build()(trajectory)
    write_trajectories(folder / "run", 3, [trajectory])
    write_scores(folder / "run", 3, [score_row(trajectory, score, "scheme")])
    assert not re.search(r"\b(envs|rollout|rewards|rl)\b", re.sub("run.*", "", FILES["read_run.py"]))
    found = subprocess.run([sys.executable, "read_run.py", "run"], capture_output=True, text=True, check=True)
    assert "unknown_tool" in found.stdout and "single" in found.stdout


def test_the_commands_can_be_parsed():
    from rl.__main__ import build_parser
    from rl.config import find

    lines = [shlex.split(line) for line in COMMANDS]
    for words in [line for line in lines if line[:1] == ["tether"]]:
        arguments = build_parser().parse_args(words[1:])
        if words[1] in ("train", "doctor"):
            if not arguments.recipe.endswith(".toml"):
                find(arguments.recipe, "recipe")
            for cluster in [word for word in arguments.rest if "=" not in word]:
                find(cluster, "cluster")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {words[1] for words in lines if words[:1] == ["make"]} <= set(targets)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_the_table_of_errors_is_the_taxonomy():
    found: dict[str, tuple[bool, str, str]] = {}
    for kinds, _, relign, tl in table(README, "kind of error"):
        for name, star in re.findall(r"`(\w+)`( \*)?", kinds):
            found[name] = (bool(star), relign, tl)
    assert found == {
        str(kind): (kind in HALLUCINATIONS, RELIGN_CLASSES.get(kind, ""), TL_CLASSES.get(kind, ""))
        for kind in ErrorKind
    }


def test_the_table_of_rewards_is_the_code_s():
    rows = [(name, released, monotone) for cell, released, monotone, _ in table(README, "row") for name in names(cell)]
    for column, preset in ((1, "tl_released"), (2, "tl_monotone")):
        assert {row[0]: float(row[column]) for row in rows} == dict(PRESETS[preset])


def test_every_rate_is_defined():
    from rl.evaluate import FORMAT_ONLY, RATES, RELIGN_RATE
    from rl.set_metrics import GUARDS, RELIGN

    assert {name for row in table(README, "rate") for name in names(row[0])} == {*RATES, RELIGN_RATE}
    of_sets = {*(f"relign.{name}" for name in RELIGN), *(f"guards.{name}" for name in GUARDS), FORMAT_ONLY}
    assert {name for row in table(FORMATS, "metric of a set") for name in names(row[0])} == of_sets


def test_every_scheme_is_described():
    assert {name for row in table(README, "scheme") for name in names(row[0])} == set(SCHEMES)


def test_recorded_calls_are_scored_as_the_page_says(folder):
    from rl.__main__ import main

    given, scored = [text for language, text in BLOCKS if language == "jsonl"]
    (command,) = [shlex.split(line) for line in COMMANDS if line.startswith("tether score ")]
    (folder / command[2]).write_text(given)
    assert main(command[1:]) == 0
    assert (folder / command[4]).read_text() == scored


def test_every_field_of_a_score_is_described():
    from rl.scoring import FIELDS

    assert tuple(name for row in table(FORMATS, "field of a reply") for name in names(row[0])) == FIELDS
    described = [name for row in table(FORMATS, "field of a score") for name in names(row[0])]
    assert described == ["id", "errors", "score", "unscored"]


def test_the_cluster_files_are_those_that_exist():
    files = {path.stem for path in (ROOT / "clusters").glob("*.toml")}
    assert {name for row in table(README, "cluster file") for name in names(row[0])} == files


@pytest.mark.parametrize(("section", "schema"), [("trajectories", trajectory_schema), ("scores", score_schema)])
def test_every_column_is_described(section, schema):
    text = FORMATS[FORMATS.index(f"### {section}\n") :]
    described = [name for row in table(text, "column") for name in names(row[0])]
    fields = []
    for field in schema():
        fields.append(field.name)
        if field.name == "turns":
            fields += [inner.name for inner in field.type.value_type]
    assert described == fields


def test_every_field_of_a_task_is_described():
    fields = Task(task_id="", prompt=(), tools=()).to_json()
    assert [name for row in table(FORMATS, "field") for name in names(row[0])] == list(fields)


@pytest.mark.slow
def test_vllm_takes_the_options_of_the_serve_command():
    (line,) = [line for line in COMMANDS if line.startswith("vllm serve ")]
    program = (
        "import sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args\n"
        "from vllm.tool_parsers import ToolParserManager\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "validate_parsed_serve_args(arguments)\n"
        "ToolParserManager.get_tool_parser(arguments.tool_call_parser)\n"
    )
    words = [sys.executable, "-c", program, *shlex.split(line)[2:]]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
