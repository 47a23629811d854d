from pathlib import Path

import pytest

from rl.checkpoint import begin, checkpoints, commit, copy_model_files, latest, prune, read_state


def write_checkpoint(root: Path, step: int) -> Path:
    partial = begin(root, step)
    (partial / "model.safetensors").write_bytes(b"weights")
    return commit(partial, {"step": step, "version": step})


def test_unfinished_checkpoints_are_invisible(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    write_checkpoint(tmp_path, 5)
    begin(tmp_path, 6)
    (tmp_path / "step-000007").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000005"]


def test_the_latest_is_the_highest_step_and_carries_its_state(tmp_path: Path) -> None:
    for step in (2, 10, 1_000_000):
        write_checkpoint(tmp_path, step)
    folder = latest(tmp_path)
    assert folder is not None and read_state(folder)["step"] == 1_000_000


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in range(4):
        write_checkpoint(tmp_path, step)
    prune(tmp_path, 2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000002", "step-000003"]
    prune(tmp_path, 5)
    assert len(checkpoints(tmp_path)) == 2


def test_the_same_step_may_be_written_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1)
    write_checkpoint(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_folder_without_state_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a checkpoint"):
        read_state(tmp_path)


def test_model_files_are_copied_without_weights(tiny_model_path: Path, tmp_path: Path) -> None:
    copy_model_files(tiny_model_path, tmp_path, dtype="bfloat16")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "tokenizer_config.json"} <= names and "model.safetensors" not in names
    assert '"dtype": "bfloat16"' in (tmp_path / "config.json").read_text()
