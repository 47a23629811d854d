"""Where log lines go: ours and everybody else's into files under the run directory, warnings of ours to stderr."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

OWN = ("envs", "rollout", "rewards", "rl")
"""Our packages; all other loggers are third parties'."""

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class _Brief(logging.Formatter):
    """Leaves the middle of tracebacks to the files: what happened and why stand in the first and the last line."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).strip().splitlines()
        return lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1].strip()}"


def quiet() -> None:
    """Keep third parties from talking to the terminal. To be called before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not Path("/dev/nvidiactl").exists():
        # DeepSpeed, which other libraries import, otherwise looks for accelerators and says so.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore")
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        handler.addFilter(lambda record: record.name.split(".")[0] in OWN)
        handler.setFormatter(_Brief("%(levelname)s %(message)s"))
        root.addHandler(handler)


def to_files(directory: Path) -> None:
    """Write our log lines to `tether.log` and all others to `libraries.log` in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for name, own in (("tether.log", True), ("libraries.log", False)):
        handler = logging.FileHandler(directory / name)
        handler.setFormatter(logging.Formatter(_FORMAT))
        handler.addFilter(lambda record, own=own: (record.name.split(".")[0] in OWN) == own)
        root.addHandler(handler)
    logging.captureWarnings(True)
