"""Look a run over before it starts: versions, devices, memory, chat template, parser, and one example with its mask.

Starts neither Ray nor an engine. The example is printed token by token: green tokens are learned from, yellow ones
are erroneous demonstrations that are kept out of the loss, the others are what the model only reads.

  tether doctor ppo_tiny
  tether doctor my/recipe.toml one_node model.path=/models/Qwen3-1.7B
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rl.commands.train import check, resolve
from rl.console import make_console


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether doctor RECIPE [CLUSTER] [key=value ...]"
    parser.add_argument("recipe", metavar="RECIPE", help="as for tether train")
    parser.add_argument("rest", metavar="CLUSTER key=value", nargs="*", default=[], help="as for tether train")


def run(arguments: argparse.Namespace) -> int:
    """Examine and report; 1 if anything is wrong."""
    config = resolve(arguments.recipe, arguments.rest)
    check(config)
    from rl.doctor import examine
    from rl.parts import make_model
    from rollout.display import token_lines

    console = make_console()
    with tempfile.TemporaryDirectory(prefix="tether-") as folder:
        if config.model.init is not None:
            console.print("making the model that the recipe starts from")
        findings, example, renderer = examine(config, make_model(config, Path(folder)))
    for finding in findings:
        mark = "[green]ok [/]" if finding.ok else "[red]bad[/]"
        console.print(f"{mark} [bold]{finding.name}[/]: ", end="")
        console.print(finding.detail, markup=False, soft_wrap=True)
    if example is not None:
        console.print("\nan example, token by token (green: learned from)")
        for line in token_lines(example, renderer):
            console.print(line, soft_wrap=True)
    return 0 if all(finding.ok for finding in findings) else 1
