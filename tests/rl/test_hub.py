import shutil

import pytest
from huggingface_hub import constants

from rl import config as configs
from rl import hub
from rl.__main__ import main
from rl.config import model_path
from rl.errors import BadInput

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the Hub with one model in it, and nobody to fetch others from."""
    folder = tmp_path / "hub"
    (folder / "models--owner--tiny" / "refs").mkdir(parents=True)
    (folder / "models--owner--tiny" / "refs" / "main").write_text(COMMIT)
    shutil.copytree(model_path("package:tiny"), folder / "models--owner--tiny" / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_model_that_was_fetched_is_a_folder_of_the_cache(cache):
    folder = cache / "models--owner--tiny" / "snapshots" / COMMIT
    assert hub.cached("hub:owner/tiny") == folder
    assert hub.cached(f"hub:owner/tiny@{COMMIT}") == folder
    assert configs.find_model("hub:owner/tiny") == folder
    assert model_path("hub:owner/tiny") == folder


def test_a_recipe_can_name_a_model_of_the_hub(capsys):
    assert main(["train", "ppo_tiny", "model.path=hub:owner/tiny", "--dry-run"]) == 0
    assert "not checked" not in capsys.readouterr().out


def test_a_dry_run_says_what_it_cannot_check_here_and_why(capsys, monkeypatch):
    monkeypatch.setattr("rl.cluster.local_resources", lambda config: {"CPU": 2.0, "GPU": 0.0})
    words = ["train", "ppo_tiny", "one_node", "first.recipe=", "model.path=hub:owner/absent"]
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "not checked: model.path: hub:owner/absent is not in this machine's cache" in out
    assert "not checked: resources: the run asks for 8 GPU, this machine has none" in out
    assert "checked but for that" in out


@pytest.mark.parametrize("recipe", ["sft_7b", "tl_training_7b", "relign_7b", "ttpa_7b"])
@pytest.mark.parametrize(("cluster", "num_gpus"), [("one_node", 8), ("multi_node", 16)])
def test_the_recipes_of_7b_models_are_checked_without_a_gpu(capsys, monkeypatch, recipe, cluster, num_gpus):
    def nobody_answers() -> None:
        raise BadInput("no Ray cluster to join")

    monkeypatch.setattr("rl.cluster.local_resources", lambda config: {"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setattr("rl.cluster._join", nobody_answers)
    assert main(["train", recipe, cluster, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "not checked: model.path: hub:Qwen/Qwen2.5-7B-Instruct" in out
    assert f"not checked: resources: the run asks for {num_gpus} GPU, this machine has none" in out
    assert ("not checked: source: runs/" in out) == (recipe in ("relign_7b", "ttpa_7b"))
    assert ("not checked: run.directory: /mnt/shared/tether" in out) == (cluster == "multi_node")


def test_a_file_that_is_missing_is_refused_where_the_run_could_start(capsys, monkeypatch):
    monkeypatch.setattr("rl.cluster.local_resources", lambda config: {"CPU": 64.0, "GPU": 8.0})
    assert main(["train", "relign_7b", "one_node", "first.recipe=", "model.path=hub:owner/tiny", "--dry-run"]) == 2
    assert "source.preferences: runs/relign_7b/pairs.jsonl" in capsys.readouterr().err


def test_a_model_that_cannot_be_fetched_is_one_clear_line(capsys):
    assert main(["train", "ppo_tiny", "model.path=hub:owner/absent"]) == 2
    error = capsys.readouterr().err
    assert "model hub:owner/absent: cannot be fetched from the Hugging Face Hub" in error
    assert len(error.strip().splitlines()) == 1


def test_a_name_that_is_none_is_refused():
    with pytest.raises(BadInput, match="expected hub:OWNER/NAME"):
        hub.cached("hub:tiny")


def test_a_missing_folder_that_looks_like_a_model_of_the_hub_says_how_to_name_one(capsys):
    assert main(["train", "ppo_tiny", "model.path=owner/tiny"]) == 2
    assert "write hub:owner/tiny" in capsys.readouterr().err
