import json
from pathlib import Path

import numpy as np
import pytest

from rl import config as configs
from rl.ablation import grid
from rl.ablation.grid import Ablation, Cell
from rl.ablation.results import flags, read_cells, tables, write_cell, write_tables
from rl.ablation.runner import pending
from rl.errors import BadInput
from rl.evaluate import Evaluation, TaskResult
from rl.evaluator import write_results
from rl.report.summary import SUMMARY_NAME, write_summary

RECIPE = """
[model]
path = "package:tiny"

[source]
tasks = { factory = "envs.toolworld:ToolWorldTasks" }
demonstrations = { factory = "envs.toolworld:Demonstrator" }

[algorithm]
factory = "rl.algorithms.sft:SFT"

[evaluation]
after = true

"""
GRID = """
[ablate]
seeds = [1, 2]
common = { run = { steps = 2 } }

[ablate.beside.control]
recipe = "sft_control_tiny"

[ablate.grid.masking]
plain = { source.mask_errors = false }
mae = { source.mask_errors = true }

[ablate.grid.rl]
none = {}
ppo = { algorithm = { factory = "rl.algorithms.ppo:PPO", options = { clip_low = 0.1, critic = "shared" } } }
"""


def recipe(tmp_path: Path, ablate: str = GRID) -> str:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + ablate)
    return str(path)


def test_cells_are_those_beside_the_grid_and_every_combination_of_its_options(tmp_path):
    name = recipe(tmp_path)
    cells = grid.cells(grid.read(name), name)
    assert [cell.name for cell in cells] == ["control", "plain-none", "plain-ppo", "mae-none", "mae-ppo"]
    assert cells[0].recipe == "sft_control_tiny"
    assert cells[2].recipe == name
    assert cells[2].options == {"masking": "plain", "rl": "ppo"}
    assert cells[2].overrides == (
        "run.steps=2",
        "source.mask_errors=false",
        'algorithm.factory="rl.algorithms.ppo:PPO"',
        "algorithm.options.clip_low=0.1",
        'algorithm.options.critic="shared"',
    )


def test_the_overrides_of_a_cell_make_the_run_that_the_recipe_says(tmp_path):
    name = recipe(tmp_path)
    cell = grid.cells(grid.read(name), name)[4]
    config = configs.load(cell.recipe, "one_core", cell.words(7, tmp_path))
    assert config.run.seed == 7
    assert config.run.steps == 2
    assert config.source.mask_errors
    assert config.algorithm.options == {"clip_low": 0.1, "critic": "shared"}


def test_train_reads_a_recipe_with_an_ablation_as_if_it_had_none(tmp_path):
    assert configs.load(recipe(tmp_path)) == configs.load(recipe(tmp_path, ""))


def test_the_working_folder_stands_in_overrides_by_its_name():
    cell = Cell(name="dpo", options={}, recipe="dpo", overrides=('source.conversations="{work}/pairs.jsonl"',))
    assert cell.words(3, Path("/w")) == ['source.conversations="/w/pairs.jsonl"', "run.seed=3"]


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        ("", r"expected a table \[ablate\]"),
        ("[ablate]\n", "expected an axis"),
        ("[ablate]\nseed = [1]\n", r"ablate\.seed: Extra inputs"),
        ("[ablate]\nseeds = [1, 1]\nbeside = { a = {} }\n", "expected different ones"),
        ("[ablate]\ngrid = { 'a b' = { c = {} } }\n", "'a b': expected a name"),
        ("[ablate]\ngrid = { a = {} }\n", "expected options"),
        ("[ablate]\nbeside = { a = {} }\nshown = { b = 'other' }\n", r"ablate\.shown\.b: expected ABLATION/CELL"),
    ],
)
def test_a_wrong_ablation_is_one_clear_line(tmp_path, ablate, message):
    with pytest.raises(BadInput, match=message):
        grid.read(recipe(tmp_path, ablate))


def test_two_cells_of_one_name_are_refused():
    ablation = Ablation(beside={"a-b": {}}, grid={"x": {"a": {}}, "y": {"b": {}}})
    with pytest.raises(BadInput, match="two cells are named a-b"):
        grid.cells(ablation, "any")


def test_cells_of_another_ablation_stand_first_and_are_read_there_and_never_run(tmp_path):
    shown = GRID + '[ablate.shown]\nplain = "other_ablation/plain-none"\n'
    name = recipe(tmp_path, shown)
    cells = grid.cells(grid.read(name), name)
    assert [cell.name for cell in cells[:2]] == ["plain", "control"]
    assert all(run.cell.name != "plain" for run in pending(tmp_path / "mine", cells, [1, 2]))
    theirs = Cell(name="plain-none", options={}, recipe="r", overrides=())
    write_cell(tmp_path / "other_ablation", theirs, 1, finished_run(tmp_path / "run", "10"), "one_core")
    found = read_cells(tmp_path / "mine", cells, [1, 2])
    assert [run["cell"] for run in found["plain"]] == ["plain-none"]


def test_one_seed_of_every_cell_comes_before_the_second_of_any_and_finished_ones_not_at_all(tmp_path):
    cells = [Cell(name=name, options={}, recipe="r", overrides=()) for name in "ab"]
    write_cell(tmp_path, cells[0], 1, finished_run(tmp_path / "run", "10"), "one_core")
    assert [run.name for run in pending(tmp_path, cells, [1, 2])] == ["b, seed 1", "a, seed 2", "b, seed 2"]


def test_what_other_settings_of_a_cell_came_to_is_neither_shown_nor_taken_for_done(tmp_path):
    made, asked = (
        Cell(name="a", options={}, recipe=recipe, overrides=(f"learner.learning_rate={rate}",))
        for recipe, rate in (("my/r.toml", 1e-3), ("r", 2e-3))
    )
    write_cell(tmp_path, made, 1, finished_run(tmp_path / "run", "10"), "one_core")
    assert pending(tmp_path, [made], [1]) == []
    assert list(read_cells(tmp_path, [made], [1])) == ["a"]
    for look in (pending, read_cells):
        with pytest.raises(ValueError, match=r"seed-1\.json: was made by other settings .*learning_rate=0\.001"):
            look(tmp_path, [asked], [1])


def finished_run(directory: Path, successes: str) -> Path:
    """A run directory with an evaluation in which the tasks marked 1 were solved."""
    results = tuple(
        TaskResult(
            task_id=f"task-{index}",
            kind="single",
            failed=False,
            flags={
                "success": mark == "1",
                "success_first_try": False,
                "hallucination_rate": mark != "1",
                "deferral_precision": None,
                "deferral_recall": None,
                "needless_deferral_rate": False,
            },
            hallucinated_share=0.0,
            errors=frozenset(),
            metrics=None,
        )
        for index, mark in enumerate(successes)
    )
    folder = directory / "evaluation" / "after" / "heldout-greedy"
    folder.mkdir(parents=True)
    evaluation = Evaluation(results=results)
    write_results(folder, evaluation)
    write_summary(
        directory / SUMMARY_NAME,
        measurements={"after": {"greedy": evaluation.to_json()}},
        seconds=10.0,
        peak_memory_gb=1.0,
        seed=1,
        more={"learning_seconds": 5.0},
    )
    return directory


def test_a_cell_keeps_what_every_task_came_to_and_no_path_of_the_machine(tmp_path):
    cell = Cell(name="mae", options={"masking": "mae"}, recipe="sft", overrides=('source.tasks="{work}/t.jsonl"',))
    path = write_cell(tmp_path / "out", cell, 1, finished_run(tmp_path / "run", "1101"), "one_core")
    value = json.loads(path.read_text())
    assert value["tasks"]["heldout-greedy"]["success"] == "1101"
    assert value["tasks"]["heldout-greedy"]["deferral_recall"] == "----"
    assert value["rates"]["heldout-greedy"]["success"] == 0.75
    assert str(tmp_path) not in path.read_text()
    assert "run.seed=1" in value["command"]


def test_a_run_without_a_summary_leaves_no_result(tmp_path):
    cell = Cell(name="a", options={}, recipe="r", overrides=())
    with pytest.raises(ValueError, match=r"no readable summary\.json"):
        write_cell(tmp_path / "out", cell, 1, tmp_path, "one_core")
    assert not (tmp_path / "out").exists()


def test_tables_show_means_over_seeds_and_tasks_and_differences_from_the_first_cell(tmp_path):
    cells = [Cell(name=name, options={}, recipe="r", overrides=()) for name in ("control", "mae")]
    for cell, rows in zip(cells, [("1000", "1100"), ("1111", "1101")], strict=True):
        for seed, successes in enumerate(rows, start=1):
            run = finished_run(tmp_path / cell.name / str(seed), successes)
            write_cell(tmp_path / "out", cell, seed, run, "one_core")
    found = read_cells(tmp_path / "out", cells, [1, 2, 3])
    rates, differences = tables(found)
    assert [row[:3] for row in rates.rows] == [("control", "2", "5"), ("mae", "2", "5")]
    assert rates.rows[0][3].startswith("37.5 [")
    assert rates.rows[1][3].startswith("87.5 [")
    assert rates.rows[0][5] == "-"
    assert differences.rows[0][1].startswith("+50.0 [")
    write_tables(tmp_path / "table.md", "Ablation", [rates, differences])
    assert "| mae | 2 | 5 | 87.5 [" in (tmp_path / "table.md").read_text()


def test_flags_of_seeds_that_were_measured_on_other_tasks_are_refused():
    runs = [{"cell": "a", "tasks": {"h": {"success": marks}}} for marks in ("11-", "10")]
    assert np.array_equal(flags(runs[:1], "h", "success"), [[1.0, 1.0, np.nan]], equal_nan=True)
    with pytest.raises(ValueError, match="different numbers of tasks"):
        flags(runs, "h", "success")


def test_rates_can_leave_out_the_tasks_in_which_a_deferral_is_due():
    run = {"cell": "a", "tasks": {"h": {"success": "1101", "deferral_recall": "-10-"}}}
    assert np.array_equal(flags([run], "h", "success", none_due=True), [[1.0, np.nan, np.nan, 1.0]], equal_nan=True)
