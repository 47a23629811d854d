"""Check an environment: everything that training relies on, found before it hurts.

Plays tasks in the environment without any model and reports what is wrong: factory and tasks that cannot be pickled,
tasks that change in JSON, episodes that differ although the messages are the same, reference calls that fail, steps
that break their promises, and bad calls that raise instead of being answered.

  tether check-env my_package.my_env:MyEnv --tasks my_tasks.jsonl
  tether check-env envs.toolworld:ToolWorldEnv
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

from envs.checks import check_env
from envs.component import Component
from envs.tasks import read_tasks
from envs.types import Task
from rl.console import make_console, track
from rl.errors import BadInput

DEFAULT_TASKS = "envs.toolworld:ToolWorldTasks"


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("env", metavar="pkg.mod:Name", help="factory of the environment, called with a task")
    parser.add_argument(
        "--tasks",
        default=DEFAULT_TASKS,
        metavar="FILE|pkg.mod:Name",
        help="a task file, or a factory of something with task(index) (default: the procedural tool world)",
    )
    parser.add_argument("--num", type=int, default=50, metavar="N", help="tasks to play (default: 50)")
    parser.add_argument("--options", default="{}", metavar="JSON", help="keyword options of the environment")


def run(arguments: argparse.Namespace) -> int:
    """Check and report."""
    env = Component(factory=arguments.env, options=_options(arguments.options))
    try:
        env.check("task")
        tasks = _tasks(arguments.tasks, arguments.num)
    except ValueError as error:
        raise BadInput(str(error)) from error
    console = make_console()
    problems = check_env(env, track(tasks, "tasks", total=len(tasks), console=console))
    for problem in problems:
        console.print(problem, markup=False)
    kinds = sorted({str(task.kind) for task in tasks})
    verdict = f"{len(problems)} problems" if problems else "no problem found"
    console.print(f"{arguments.env}: {verdict} in {len(tasks)} tasks ({', '.join(kinds)})", markup=False)
    return 1 if problems else 0


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"--options {text!r}: not JSON: {error}") from error
    if not isinstance(options, dict):
        raise BadInput(f"--options {text!r}: expected a JSON object")
    return options


def _tasks(name: str, num: int) -> list[Task]:
    if ":" in name:
        source = Component(factory=name).build()
        return [source.task(index) for index in range(num)]
    return list(islice(read_tasks(Path(name)), num))
