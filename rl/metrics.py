"""The numbers of a run: a JSONL line and TensorBoard events per step, and one line on the console.

Names: train/* (the learner), rollout/* (episodes), reward/* (scores), tools/* (rates of error), perf/*, timing_s/*.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID
from torch.utils.tensorboard import SummaryWriter

from rewards.types import HALLUCINATIONS
from rl.console import duration, make_progress
from rl.sample import ScoredGroup
from rollout.trajectory import UNKNOWN_VERSION

METRICS_NAME = "metrics.jsonl"

LINE = (
    ("reward/mean", "reward", "{:+.2f}"),
    ("rollout/finished", "finished", "{:.0%}"),
    ("tools/hallucinated", "hallucinated", "{:.0%}"),
    ("train/loss", "loss", "{:.3f}"),
    ("train/margin", "margin", "{:+.3f}"),
    ("train/preferred", "preferred", "{:.0%}"),
    ("train/entropy", "entropy", "{:.3f}"),
    ("train/update_kl", "kl", "{:.4f}"),
    ("train/grad_norm", "grad", "{:.2f}"),
    ("train/learning_rate", "lr", "{:.1e}"),
    ("timing_s/step", "step", "{:.1f} s"),
    ("timing_s/wait", "wait", "{:.1f} s"),
    ("perf/tokens_per_second", "tokens/s", "{:,.0f}"),
)
"""What the console line shows, where it was measured: metric, label, format."""


class Recorder:
    """Writes every step's metrics to the run directory and to the console."""

    def __init__(self, directory: Path, console: Console, *, num_steps: int, start: int = 0) -> None:
        """Open the files.

        Args:
            directory: the run's.
            console: gets a line per step and, if it is a terminal, a bar.
            num_steps: of the whole run.
            start: steps that were made before, by a run that is resumed.
        """
        self._console = console
        self._num_steps = num_steps
        self._file = (directory / METRICS_NAME).open("a")
        self._events = SummaryWriter(str(directory / "tensorboard"))
        self._progress: Progress = make_progress(console)
        self._task: TaskID = self._progress.add_task("training", total=num_steps, completed=start)
        self._progress.start()

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of step number `step`, counted from 1."""
        values = {name: float(value) for name, value in sorted(metrics.items()) if value is not None}
        line = {"step": step, "time": time.time()}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._console.print(step_line(step, self._num_steps, values), soft_wrap=True)
        rate, left = values.get("timing_s/step"), values.get("timing_s/left")
        # Where seconds end the run, the steps that they are enough for are its length.
        total = min(self._num_steps, step + math.ceil(left / rate)) if rate and left is not None else self._num_steps
        self._progress.update(self._task, completed=step, total=total, rate=f"{rate:.1f} s/step" if rate else "")

    def close(self) -> None:
        """Write what is left."""
        self._progress.stop()
        self._events.close()
        self._file.close()


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """All recorded steps of a run, in order; of a step that was made twice, the later one."""
    steps: dict[int, dict[str, Any]] = {}
    for line in (directory / METRICS_NAME).read_text().splitlines():
        value = json.loads(line)
        steps[value["step"]] = value
    return [steps[step] for step in sorted(steps)]


def step_line(step: int, num_steps: int, metrics: Mapping[str, float]) -> str:
    """One console line: the step and the numbers that matter, with the time left."""
    parts = [f"step {step:>{len(str(num_steps))}}/{num_steps}"]
    parts += [f"{label} {form.format(metrics[name])}" for name, label, form in LINE if name in metrics]
    if "timing_s/left" in metrics:
        parts.append(f"left {duration(metrics['timing_s/left'])}")
    return "  ".join(parts)


def group_metrics(groups: Sequence[ScoredGroup], version: int, *, rewarded: bool = True) -> dict[str, float]:
    """What a step's trajectories say: rollout/*, reward/* and tools/*.

    Args:
        groups: as they came from the source.
        version: of the weights that will learn from them.
        rewarded: whether their scores are rewards; those of recorded preferences say only which is better.
    """
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    if not trajectories:
        return {}
    good = [trajectory for trajectory in trajectories if not trajectory.ending.is_failure]
    metrics = {
        "rollout/episodes": float(len(trajectories)),
        "rollout/failed": 1.0 - len(good) / len(trajectories),
    }
    for ending, count in Counter(trajectory.ending for trajectory in trajectories).items():
        metrics[f"rollout/ending_{ending}"] = count / len(trajectories)
    if good:
        metrics |= {
            "rollout/turns": float(np.mean([len(trajectory.turns) for trajectory in good])),
            "rollout/tokens": float(np.mean([len(trajectory.token_ids) for trajectory in good])),
            "rollout/action_tokens": float(np.mean([trajectory.action_mask.sum() for trajectory in good])),
            "rollout/finished": float(np.mean([trajectory.outcome.finished for trajectory in good])),
        }
        ages = [version - t.oldest_version for t in good if t.oldest_version != UNKNOWN_VERSION]
        if ages:
            metrics |= {"rollout/staleness": float(np.mean(ages)), "rollout/staleness_max": float(max(ages))}
    return metrics | (_score_metrics(groups) if rewarded else {})


def _score_metrics(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    scores = [score for group in groups if group.scores for _, score in group.scored()]
    if not scores:
        return {}
    totals = np.array([score.total for score in scores])
    kinds = [{error.kind for error in score.errors} for score in scores]
    metrics = {
        "reward/mean": float(totals.mean()),
        "reward/std": float(totals.std()),
        "reward/unscored": float(sum(bool(score.unscored) for group in groups for score in group.scores)),
        "tools/hallucinated": float(np.mean([bool(found & HALLUCINATIONS) for found in kinds])),
        "tools/no_error": float(np.mean([not found for found in kinds])),
    }
    counts = Counter(kind for found in kinds for kind in found)
    return metrics | {f"tools/{kind}": count / len(scores) for kind, count in counts.items()}
