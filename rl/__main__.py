"""The command line. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from rl.commands import add_command
from rl.console import make_console
from rl.errors import BadInput, RunFailed
from rl.logging import quiet

COMMANDS = (
    "train",
    "eval",
    "rollout",
    "merge",
    "score",
    "data",
    "detect",
    "show",
    "compare",
    "ablate",
    "bench",
    "doctor",
    "check-env",
)

DESCRIPTION = """\
Train language models to call tools without hallucinating: they learn to call the right tool with the right
arguments, and to ask or to decline where a call would be a guess.
"""

EPILOG = """\
a first round, on any two-core machine:
  tether train ppo_quick                       train the shipped tiny model, measure before and after
  tether show runs/ppo_quick-...               what happened in that run
  tether rollout runs/ppo_quick-... --print    read its episodes, errors marked

`tether COMMAND --help` explains each command. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions, and names commands in one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="tether", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Help, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"tether {metadata.version('tether')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = import_module(f"rl.commands.{name.replace('-', '_')}")
        subparser = add_command(subparsers, name, command, _Help)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Processes of a run share the cores; libraries read this when they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Environments and rewards of the user's own lie where the command is run.
    sys.path.insert(0, os.getcwd())
    quiet()
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BadInput as error:
        _say("error", error)
        return 2
    except RunFailed as error:
        _say("failed", error)
        return 1
    except KeyboardInterrupt:
        return 130


def _say(kind: str, error: Exception) -> None:
    console = make_console(stderr=True)
    console.print(f"[bold red]{kind}:[/] ", end="")
    console.print(str(error), markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
