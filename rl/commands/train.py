"""Train a model as a recipe says, where a cluster file says.

A recipe says what to learn, a cluster file where. Both are TOML files; a name without a slash means one that is
shipped. Single values are overridden by dotted key=value words, whose values are TOML:

  tether train ppo_tiny                                    the shipped tiny model, on this machine
  tether train ppo_tiny laptop learner.learning_rate=1e-4 run.seed=1
  tether train my/recipe.toml one_node run.directory=/data/runs
  tether train ppo_tiny resume=runs/ppo_tiny-20260101-120000

Every run makes a folder runs/RECIPE-TIME with checkpoints that any Hugging Face tool loads, metrics as JSON lines
and TensorBoard events, logs, and summary.json where the recipe evaluates. Ctrl-C finishes the step, saves and
stops; `resume=RUN` goes on from there with optimiser state and data position, and with the run's own settings where
no word on the command line says otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from rl import config as configs
from rl import hub
from rl.config import Config
from rl.console import make_console
from rl.errors import BadInput
from rl.sequence import can_be_resumed


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether train RECIPE [CLUSTER] [key=value ...] [--dry-run]"
    recipes = ", ".join(sorted(path.stem for path in configs.shipped("recipe").glob("*.toml")))
    clusters = ", ".join(sorted(path.stem for path in configs.shipped("cluster").glob("*.toml")))
    parser.add_argument("recipe", metavar="RECIPE", help=f"a TOML file, or one of: {recipes}")
    parser.add_argument(
        "rest",
        metavar="CLUSTER key=value",
        nargs="*",
        default=[],
        help=f"a TOML file, or one of: {clusters} (default: laptop); then overrides",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, print the resolved run and what could not be checked here, start nothing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, or only check."""
    config = resolve(arguments.recipe, arguments.rest)
    skipped = check(config, with_resources=True, elsewhere=arguments.dry_run)
    if arguments.dry_run:
        console = make_console()
        console.print_json(data=config.model_dump(mode="json"))
        for line in skipped:
            console.print(f"not checked: {line}", markup=False, soft_wrap=True)
        console.print(f"checked{' but for that' if skipped else ''}: {config.recipe} can run; nothing was started")
        return 0
    from rl.train import train

    return train(config)


def check(config: Config, *, with_resources: bool = False, elsewhere: bool = False) -> list[str]:
    """Check every part of a run; starts nothing. A model of the Hugging Face Hub is fetched first.

    Args:
        config: the run.
        with_resources: also refuse a run that asks for more than there is.
        elsewhere: the run may be meant for another machine: what only that one has is left out and nothing is fetched.

    Returns:
        What could not be checked here, and why, a line each.

    Raises:
        BadInput: with one line.
    """

    @cache
    def foreign() -> str:
        # Imports Ray, so it is asked only where something is missing, or at the end.
        from rl.cluster import why_foreign

        return why_foreign(config.ray, config.resources()) if elsewhere else ""

    absent = _absent(config, elsewhere=elsewhere, foreign=foreign)
    skipped = list(dict.fromkeys(line for lines in absent for line in lines.values()))
    for part, lines in zip(config.in_order(), absent, strict=True):
        with _named(part, config):
            configs.check(part, left_out=lines.keys())
    if config.resume and not can_be_resumed(Path(config.resume)):
        raise BadInput(f"resume: {config.resume} holds no checkpoint")
    if with_resources:
        from rl.cluster import check_resources

        if foreign():
            skipped.append(
                f"resources: the run asks for {config.resources()['GPU']:g} GPU, {foreign()}; "
                "compared with what there is when the run starts"
            )
        else:
            check_resources(config.ray, config.resources())
    # Imports torch, so it comes after all that can be refused without.
    from rl.parts import learner_config, rank_config

    for part in config.in_order():
        with _named(part, config):
            configs.check_algorithm(part)
            learner_config(part)
            rank_config(part)
    return skipped


def _absent(config: Config, *, elsewhere: bool, foreign: Callable[[], str]) -> list[dict[configs.Left, str]]:
    """For each part, in their order, what only the machine of the run has, with a line that says so.

    If the run is for this machine, the model is fetched.

    Raises:
        BadInput: the model cannot be fetched.
    """
    found: list[dict[configs.Left, str]] = []
    name, directory = config.model.path, Path(config.run.directory)
    for part in config.in_order():
        lines: dict[configs.Left, str] = {}
        found.append(lines)
        if hub.is_hub(name) and hub.cached(name) is None:
            if elsewhere:
                lines["model"] = f"model.path: {name} is not in this machine's cache; fetched when the run starts"
            else:
                hub.fetch(name)
        data = part.source.recorded
        if elsewhere and data and not Path(data).exists() and foreign():
            lines["data"] = f"source: {data} is not on this machine; read when the run starts"
        if elsewhere and directory.is_absolute() and not directory.parent.exists() and foreign():
            lines["directory"] = f"run.directory: {directory.parent} is not on this machine; made when the run starts"
    return found


@contextmanager
def _named(part: Config, config: Config) -> Iterator[None]:
    """Say of a fault in what comes first that it lies there."""
    try:
        yield
    except BadInput as error:
        if part is config:
            raise
        raise BadInput(f"first, recipe {part.recipe}: {error}") from error


def resolve(recipe: str, rest: list[str]) -> Config:
    """The run that the words of the command line mean."""
    cluster, overrides = cluster_and_overrides(rest)
    resumed = [word.removeprefix("resume=") for word in overrides if word.startswith("resume=")]
    if resumed and resumed[-1]:
        named = cluster if rest[0] == cluster else ""
        others = [word for word in overrides if not word.startswith("resume=")]
        config = configs.load_resumed(Path(resumed[-1]), named, others)
        if config.recipe != Path(recipe).stem:
            raise BadInput(f"resume: {resumed[-1]} is a run of recipe {config.recipe}, not of {recipe}")
        return config
    return configs.load(recipe, cluster, overrides)


def cluster_and_overrides(rest: list[str]) -> tuple[str, list[str]]:
    """The cluster file, `laptop` if none is named, and the key=value words.

    Raises:
        BadInput: a word that is neither.
    """
    named = bool(rest) and "=" not in rest[0]
    overrides = rest[1:] if named else rest
    for word in overrides:
        if "=" not in word:
            raise BadInput(
                f"{word!r}: expected key=value, such as run.seed=1; a cluster comes second, right after recipe or model"
            )
    return (rest[0] if named else "laptop"), overrides
