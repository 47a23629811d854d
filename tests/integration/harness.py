"""Runs of the command line as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    "PYTHONPATH": str(HERE),
    "OMP_NUM_THREADS": "1",
}
SMALL_ENGINE = [
    "rollout_pool.engine.factory=small_parts:SmallEngine",
    "sampling.max_tokens=8",
    "sampling.max_turns=2",
    "source.groups_per_step=2",
    "source.group_size=2",
    "evaluation.num=3",
    "evaluation.num_others=2",
]
"""Overrides with which an online recipe takes seconds and no vLLM."""
ALONE = "first.recipe="
"""Leaves out what is learned before PPO."""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "rl", *words]


def tether(*words: str, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a command of tether and wait for it."""
    return subprocess.run(command(*words), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)


def only_run(directory: Path) -> Path:
    (run,) = (directory / "runs").iterdir()
    return run
