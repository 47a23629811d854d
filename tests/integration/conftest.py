"""Makes the modules beside it importable, and a small model to start from."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import tether


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that knows nothing."""
    from small_parts import small_model

    folder = tmp_path_factory.mktemp("start")
    small_model(folder, seed=0)
    return folder


Checked = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_ok(tmp_path: Path) -> Checked:
    """Run a command that must succeed."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        found = tether(*words, cwd=tmp_path)
        assert found.returncode == 0, found.stdout + found.stderr
        return found

    return run
