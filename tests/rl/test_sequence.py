import json
from pathlib import Path

import pytest

from rl import config as configs
from rl.checkpoint import STATE, WEIGHTS
from rl.commands.compare import ELAPSED, metrics_of_parts
from rl.commands.train import check, resolve
from rl.config import Config
from rl.errors import BadInput
from rl.metrics import METRICS_NAME
from rl.sequence import directories, is_finished, parts_to_run, seconds_before

FIRST = """
[run]
steps = 20
max_seconds = 50
[model]
path = "package:tiny"
[source]
tasks = { factory = "envs.toolworld:ToolWorldTasks" }
demonstrations = { factory = "envs.toolworld:Demonstrator" }
[algorithm]
factory = "rl.algorithms.sft:SFT"
[learner]
optimizer = "muon"
"""
THEN = """
run.steps = 5
run.seed = 3
model.path = "package:tiny"
source.tasks = {{ factory = "envs.toolworld:ToolWorldTasks" }}
algorithm = {{ factory = "rl.algorithms.ppo:PPO" }}
evaluation = {{ before = true, after = true, every = 2 }}
first = {{ recipe = "{first}", run = {{ steps = 10 }}, evaluation = {{ every = 4 }} }}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "first.toml").write_text(FIRST)
    path = tmp_path / "then.toml"
    path.write_text(THEN.format(first=tmp_path / "first.toml"))
    return path


def make_checkpoint(directory: Path, *, step: int, elapsed: float) -> Path:
    (directory / configs.RESOLVED_NAME).parent.mkdir(parents=True, exist_ok=True)
    (directory / configs.RESOLVED_NAME).write_text("{}")
    folder = directory / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / STATE).write_text(json.dumps({"step": step, "elapsed": elapsed}))
    (folder / WEIGHTS).touch()
    return folder


def first_of(config: Config) -> Config:
    assert config.first is not None
    return config.first


def test_what_comes_first_is_its_recipe_with_the_run_around_it(recipe: Path) -> None:
    config = configs.load(str(recipe), "laptop", ["run.directory=elsewhere"])
    first = first_of(config)
    assert (config.recipe, first.recipe) == ("then", "first")
    assert (first.run.steps, first.run.max_seconds, first.learner.optimizer) == (10, 50, "muon")
    assert (first.run.seed, first.run.directory) == (3, "elsewhere")
    assert (first.evaluation.before, first.evaluation.after, first.evaluation.every) == (True, False, 4)
    assert first.learner_group == config.learner_group
    assert first.rollout_pool == config.rollout_pool
    assert config.learner.optimizer == "adamw"
    assert [part.recipe for part in config.in_order()] == ["first", "then"]


def test_overrides_reach_either_part(recipe: Path) -> None:
    config = configs.load(str(recipe), "laptop", ["first.run.steps=7", "run.steps=2", "model.path=other"])
    assert (first_of(config).run.steps, config.run.steps) == (7, 2)
    assert first_of(config).model.path == "other"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("first.lerner.learning_rate=1", "unknown key first.lerner.learning_rate; did you mean learner.learning_rate"),
        ("first.recipe=nowhere", "recipe 'nowhere' is not shipped"),
        ("first.recipe=3", "first.recipe: missing"),
    ],
)
def test_a_bad_first_part_is_refused_in_one_line(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        configs.load(str(recipe), "laptop", [override])


def test_a_first_part_is_left_out_by_naming_none(recipe: Path) -> None:
    assert configs.load(str(recipe), "laptop", ["first.recipe="]).first is None


def test_both_parts_are_measured_in_the_same_way_and_on_the_same_seed(recipe: Path) -> None:
    config = configs.load(str(recipe), "laptop", ["sampling.max_turns=4", "source.env={factory='my_env:library'}"])
    first = first_of(config)
    assert first.sampling == config.sampling
    assert first.evaluation.env == config.source.env
    assert first.source.env != config.source.env
    recipe.write_text(recipe.read_text().replace("run.seed = 3", ""))
    assert first_of(configs.load(str(recipe))).run.seed == 0


def test_a_recipe_that_comes_before_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring.toml"
    path.write_text(THEN.format(first=path))
    with pytest.raises(BadInput, match="would come before itself"):
        configs.load(str(path))


def test_the_first_of_three_parts_measures_what_was_before(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "third.toml"
    path.write_text(THEN.format(first=recipe))
    run = tmp_path / "run"
    run.mkdir()
    part = next(parts_to_run(configs.load(str(path)), run))
    assert part.config.recipe == "first"
    assert directories(run) == [run / "first" / "first", run / "first", run]


def test_a_run_goes_on_with_its_own_settings_and_those_named_anew(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    started = configs.load(str(recipe), "laptop", ["run.seed=7", "learner.learning_rate=0.5"])
    configs.write_resolved(started, run)
    with pytest.raises(BadInput, match="holds no checkpoint"):
        check(resolve(str(recipe), [f"resume={run}"]))
    make_checkpoint(run / "first", step=2, elapsed=1.0)
    resumed = resolve(str(recipe), [f"resume={run}", "run.steps=9", "first.run.steps=3"])
    assert (resumed.run.seed, resumed.learner.learning_rate, resumed.run.steps) == (7, 0.5, 9)
    assert (first_of(resumed).run.seed, first_of(resumed).run.steps, resumed.resume) == (7, 3, str(run))
    assert resumed.learner_group == started.learner_group
    elsewhere = resolve(str(recipe), ["one_gpu", f"resume={run}"])
    assert elsewhere.learner_group == configs.load(str(recipe), "one_gpu").learner_group
    with pytest.raises(BadInput, match="a run of recipe then, not of ppo_tiny"):
        resolve("ppo_tiny", [f"resume={run}"])


def test_an_older_run_without_its_first_part_goes_on_from_its_own_checkpoint(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_checkpoint(run, step=1, elapsed=1.0)
    (part,) = parts_to_run(configs.load(str(recipe), "laptop", [f"resume={run}"]), run)
    assert (part.config.model.path, part.config.resume) == ("package:tiny", str(run))


def test_a_fault_in_the_first_part_says_that_it_lies_there(recipe: Path) -> None:
    with pytest.raises(BadInput, match=r"first, recipe first: .*Muon needs whole matrices"):
        check(configs.load(str(recipe), "one_node"))


def test_the_newest_model_of_a_run_is_that_of_its_latest_part(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / configs.RESOLVED_NAME).write_text("{}")
    with pytest.raises(BadInput, match="holds no checkpoint"):
        configs.find_model(str(run))
    first = make_checkpoint(run / "first", step=2, elapsed=1.0)
    assert configs.find_model(str(run)) == first
    own = make_checkpoint(run, step=1, elapsed=1.0)
    assert configs.find_model(str(run)) == own


def test_seconds_are_counted_through_the_parts_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for folder, elapsed in ((run / "first", [0.0, 2.0, 5.0]), (run, [0.0, 3.0])):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / configs.RESOLVED_NAME).write_text("{}")
        lines = [{"step": step, ELAPSED: seconds} for step, seconds in enumerate(elapsed)]
        (folder / METRICS_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [(line["step"], line[ELAPSED]) for line in metrics_of_parts(run)]
    assert found == [(0, 0.0), (1, 2.0), (0, 5.0), (1, 8.0)]


def test_a_resolved_run_with_parts_is_read_back(recipe: Path, tmp_path: Path) -> None:
    config = configs.load(str(recipe))
    configs.write_resolved(config, tmp_path)
    assert configs.read_resolved(tmp_path) == config


def test_a_run_asks_for_what_its_hungriest_part_needs(recipe: Path) -> None:
    config = configs.load(str(recipe), "laptop", ["reward_pool.num_cpus_per_actor=0.5"])
    alone = config.model_copy(update={"first": None})
    assert config.resources() == alone.resources()
    assert first_of(config).resources()["CPU"] < alone.resources()["CPU"]


def test_the_second_part_starts_from_the_newest_checkpoint_of_the_first(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    parts = parts_to_run(configs.load(str(recipe)), run)
    first = next(parts)
    assert (first.config.recipe, first.directory, first.is_last) == ("first", run / "first", False)
    left = make_checkpoint(run / "first", step=10, elapsed=30.0)
    second = next(parts)
    assert (second.config.recipe, second.directory, second.is_last) == ("then", run, True)
    assert second.config.model.path == str(left)
    assert not second.config.resume
    assert seconds_before(run) == 30.0
    assert directories(run) == [run / "first", run]
    assert next(parts, None) is None


@pytest.mark.parametrize(
    ("steps", "own", "expected"),
    [
        (None, False, [("first", False), ("then", False)]),
        (4, False, [("first", True), ("then", False)]),
        (10, False, [("then", False)]),
        (10, True, [("then", True)]),
    ],
)
def test_a_resumed_run_goes_on_where_it_was(
    recipe: Path, tmp_path: Path, steps: int | None, own: bool, expected: list[tuple[str, bool]]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if steps is not None:
        make_checkpoint(run / "first", step=steps, elapsed=1.0)
    if own:
        make_checkpoint(run, step=1, elapsed=1.0)
    found = []
    for part in parts_to_run(configs.load(str(recipe), "laptop", [f"resume={run}"]), run):
        found.append((part.config.recipe, bool(part.config.resume)))
        if not part.is_last and steps is None:
            make_checkpoint(part.directory, step=10, elapsed=1.0)
    assert found == expected


def test_a_part_is_finished_by_its_steps_or_by_its_seconds(recipe: Path, tmp_path: Path) -> None:
    first = first_of(configs.load(str(recipe)))
    assert not is_finished(first, tmp_path / "none")
    for name, step, elapsed, finished in (("a", 9, 49.0, False), ("b", 10, 1.0, True), ("c", 2, 50.5, True)):
        make_checkpoint(tmp_path / name, step=step, elapsed=elapsed)
        assert is_finished(first, tmp_path / name) == finished
