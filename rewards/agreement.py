"""How far two judges agree: counts and Cohen's kappa; and the deterministic grounding against an LLM's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from envs.types import TaskKind, ToolCall
from rewards.grounding import context_before, ungrounded_arguments
from rewards.judge import Judge, judge_calls
from rollout.trajectory import Trajectory

GROUNDED, UNGROUNDED = "grounded", "ungrounded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two labels for each of a number of things."""

    counts: Mapping[tuple[str, str], int]
    """How often the first judge said one label and the second the other."""
    num_unscored: int = 0
    """Things that one of them gave no label; in none of the figures."""

    @property
    def num(self) -> int:
        """Things with two labels."""
        return sum(self.counts.values())

    @property
    def share(self) -> float | None:
        """Share of equal labels; None without any."""
        equal = sum(count for (one, other), count in self.counts.items() if one == other)
        return equal / self.num if self.num else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where it is not defined: no things, or both judges know one label only.

        Source: J. Cohen, A coefficient of agreement for nominal scales, 1960.
        """
        if self.share is None:
            return None
        first, second = Counter[str](), Counter[str]()
        for (one, other), count in self.counts.items():
            first[one] += count
            second[other] += count
        chance = sum(first[label] * second[label] for label in first) / self.num**2
        return None if chance == 1 else (self.share - chance) / (1 - chance)


def agreement(labels: Iterable[tuple[str | None, str | None]]) -> Agreement:
    """Count pairs of labels; a pair in which one is None is unscored."""
    counts: Counter[tuple[str, str]] = Counter()
    num_unscored = 0
    for one, other in labels:
        if one is None or other is None:
            num_unscored += 1
        else:
            counts[one, other] += 1
    return Agreement(counts=dict(counts), num_unscored=num_unscored)


def grounding_label(trajectory: Trajectory, turn: int, call: int) -> str | None:
    """What the deterministic check says of a call's required arguments; None: not a call of an offered tool."""
    made = trajectory.turns[turn].message.calls[call]
    tools = {tool.name: tool for tool in trajectory.offered_tools(turn)}
    if not isinstance(made, ToolCall) or made.name not in tools:
        return None
    defaults = trajectory.task.kind != TaskKind.MISSING_ARGUMENT
    context = context_before(trajectory, turn)
    return UNGROUNDED if ungrounded_arguments(made, tools[made.name], context, defaults=defaults) else GROUNDED


async def grounding_labels(
    judge: Judge, trajectory: Trajectory, *, leave_out: Container[tuple[int, int]] = ()
) -> list[tuple[str | None, str | None]]:
    """What the deterministic check (first) and the judge (second) say of every call that the judge can be asked about.

    Unsure counts as grounded, as Relign counts it.

    Args:
        judge: who is asked.
        trajectory: the episode.
        leave_out: turn and position of calls not to ask about.
    """
    labels: list[tuple[str | None, str | None]] = []
    for judged in await judge_calls(judge, trajectory, leave_out=leave_out):
        said = None if judged.label is None else UNGROUNDED if judged.label == "Untruthful" else GROUNDED
        labels.append((grounding_label(trajectory, judged.turn, judged.call), said))
    return labels
