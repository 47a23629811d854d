"""Put a LoRA adapter into the model it was trained on: a plain Hugging Face folder that any tool loads.

MODEL is a folder with an adapter in peft's format, or a run directory (its newest checkpoint). The sum is formed in
float32 and kept so: then the merged model says what model and adapter said. --dtype bf16 halves the files, and rounds.

  tether merge runs/ppo_tiny-20260101-120000 --out merged
  tether merge runs/ppo_tiny-20260101-120000/checkpoints/step-000060 --out merged --dtype bf16
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rl import config as configs
from rl.console import make_console
from rl.errors import BadInput


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="of the weights (default: fp32)")


def run(arguments: argparse.Namespace) -> int:
    """Merge."""
    folder, out = configs.find_model(arguments.model), arguments.out
    configs.check_model(configs.Model(path=str(folder)))
    base, adapter = configs.base_and_adapter(folder)
    if adapter is None:
        raise BadInput(f"{folder}: expected an adapter; this is a whole model already")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"--out {out}: exists already; expected a new folder")
    configs.check_directory(out)
    import torch

    from rl.lora import merge

    merge(adapter, out, dtype=torch.bfloat16 if arguments.dtype == "bf16" else torch.float32)
    make_console().print(f"{adapter} on {base}: {out}", markup=False, soft_wrap=True)
    return 0
