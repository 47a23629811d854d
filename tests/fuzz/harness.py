"""Drive a target of targets.py with atheris: python tests/fuzz/harness.py TARGET -runs=100000 -timeout=10

Options after the target are libFuzzer's. A crash or a hang ends with code other than 0, and leaves the bytes in a file.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["envs", "rollout", "rewards", "rl"]):
    from targets import TARGETS


def main() -> None:
    """Fuzz until the runs are used up."""
    warnings.simplefilter("ignore")
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)}")
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
