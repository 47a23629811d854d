"""The commands of `tether`, one module each: `add` describes the arguments, `run` does the work.

Modules import what is heavy inside `run`, so that help costs nothing.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any


def add_command(subparsers: Any, name: str, command: ModuleType, formatter: Any) -> argparse.ArgumentParser:
    """A parser for one command: its help is the docstring of its module.

    Args:
        subparsers: what `add_subparsers` gave.
        name: of the command.
        command: its module.
        formatter: class that writes the help.
    """
    summary, _, details = (command.__doc__ or "").strip().partition("\n\n")
    parser = subparsers.add_parser(
        name,
        help=summary.rstrip(".").replace("%", "%%"),
        description=f"{summary}\n\n{details}".strip(),
        formatter_class=formatter,
        allow_abbrev=False,
    )
    command.add(parser)
    return parser
