import json
import subprocess
import sys
from pathlib import Path

import pytest

from rl.__main__ import COMMANDS, main
from rl.commands.data import STAGES
from rl.config import find, load, read_table
from rl.errors import BadInput

LIGHT = """
import sys
from rl.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = {"torch", "ray", "vllm", "deepspeed", "transformers"} & sys.modules.keys()
assert not heavy, heavy
sys.exit(code)
"""


def light(*arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that fails if anything heavy was imported."""
    return subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, cwd=cwd, timeout=60
    )


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    return folder


def test_help_imports_nothing_heavy():
    found = light("--help")
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ("reversed", "procedural", "--num", "5"),
        ("reliability", "train", "--num", "20"),
        ("contamination", "train", "--num", "20", "--against", "heldout"),
        ("mask-errors", "made.jsonl"),
    ],
)
def test_data_is_made_without_anything_heavy(tmp_path, words):
    record = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi."}], "tools": []}
    (tmp_path / "made.jsonl").write_text(json.dumps(record))
    found = light("data", *words, "--out", "out.jsonl", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_every_kind_of_data_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", name, "--help"])
    assert caught.value.code == 0
    assert f"  tether data {name} " in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"  tether {name} " in capsys.readouterr().out


def test_only_the_recipe_is_required(capsys):
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.endswith("the following arguments are required: RECIPE\n")


def test_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("tether ")


def test_an_unknown_command_is_bad_input(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["trian"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "ppo_tiny", "learner.learning_rat=1"], "did you mean learner.learning_rate?"),
        (["train", "ppo_tiny", "model.path=/nowhere"], "model.path: /nowhere: no such folder"),
        (["train", "no_recipe"], "is not shipped"),
        (["train", "ppo_tiny", "run.directory=/proc/nothing"], "run.directory: cannot write"),
        (["train", "ppo_tiny", "resume=/nowhere"], "expected a run directory"),
        (["show", "/nowhere"], "no such run or file"),
        (["compare", "one"], "expected two runs"),
        (["check-env", "envs.nowhere:Env"], "cannot import envs.nowhere"),
        (["eval", "/nowhere"], "no such folder"),
        (["merge", "package:tiny", "--out", "merged"], "expected an adapter; this is a whole model already"),
        (
            ["train", "ppo_tiny", "model.lora.rank=4", "model.lora.target_modules=['q_porj']"],
            "model.lora.target_modules: 'q_porj' is no linear layer of ",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2_before_anything_heavy(words, expected, tmp_path):
    found = light(*words, cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert expected in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval", "MODEL", "--tasks", "nope.jsonl"], "nope.jsonl: no such task file"),
        (["rollout", "MODEL", "--tasks", "heldoutt"], "did you mean heldout?"),
        (["rollout", "MODEL", "--num", "0"], "expected at least 1"),
        (["train", "ppo_tiny", "model.path=MODEL", "reward.options.preset=x"], "preset 'x'"),
    ],
)
def test_tasks_and_rewards_are_refused_before_anything_heavy(words, expected, tmp_path, model):
    found = light(*[word.replace("MODEL", str(model)) for word in words], cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert expected in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_more_ranks_than_cores_are_refused_before_torch(tmp_path, model):
    words = ["train", "ppo_tiny", f"model.path={model}", "learner_group.num_ranks=4096"]
    without_torch = LIGHT.replace('"ray", ', "")
    found = subprocess.run(
        [sys.executable, "-c", without_torch, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert found.returncode == 2, found.stderr
    assert "the run asks for " in found.stderr


def test_a_corrupt_task_file_is_refused_with_its_line(tmp_path, model):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"task_id": "a", "prompt": "hi", "tools": []}\n{"task_id": \n')
    found = light("train", "ppo_tiny", f"model.path={model}", f"source.tasks={tasks}", cwd=tmp_path)
    assert found.returncode == 2
    assert f"{tasks}:2: not JSON" in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_more_resources_than_there_are_is_bad_input(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo_tiny", f"model.path={model}", "rollout_pool.num_gpus_per_worker=64"]) == 2
    assert "the run asks for 64 GPU" in capsys.readouterr().err


def test_settings_that_do_not_go_together_are_bad_input(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo_tiny", f"model.path={model}", "learner_group.backend=nccl"]) == 2
    assert "backend nccl needs num_gpus_per_rank" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo_tiny", f"model.path={model}", "run.steps=7", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert '"steps": 7' in out
    assert "nothing was started" in out
    assert not (tmp_path / "runs").exists()


def runnable() -> list[Path]:
    """The shipped recipes with a run of their own."""
    recipes = sorted(find("ppo_tiny", "recipe").parent.glob("*.toml"))
    return [path for path in recipes if read_table(path).keys() != {"ablate"}]


def test_every_shipped_recipe_and_cluster_file_is_valid():
    for recipe in runnable():
        for cluster in find("laptop", "cluster").parent.glob("*.toml"):
            assert load(recipe.stem, cluster.stem).recipe == recipe.stem


def test_every_shipped_recipe_can_learn_on_every_cluster_file_but_muon_where_matrices_are_sharded():
    from rl.parts import learner_config

    for recipe in runnable():
        for cluster in find("laptop", "cluster").parent.glob("*.toml"):
            config = load(recipe.stem, cluster.stem, ["first.recipe="] if recipe.stem.startswith("ppo") else [])
            if config.learner.optimizer == "muon" and config.learner_group.zero_stage:
                with pytest.raises(BadInput, match="Muon needs whole matrices"):
                    learner_config(config)
            else:
                learner_config(config)


def test_a_recipe_that_only_compares_others_is_not_trained():
    with pytest.raises(BadInput, match="says only what `tether ablate` compares"):
        load("credit_ablation_tiny")


def test_check_env_is_content_with_the_tool_world(capsys):
    assert main(["check-env", "envs.toolworld:ToolWorldEnv", "--num", "5"]) == 0
    assert "no problem found in 5 tasks" in capsys.readouterr().out
