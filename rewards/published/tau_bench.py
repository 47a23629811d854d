"""tau-bench's metric (arXiv 2406.12045, section 3 and equation 1): reward of an episode, and pass^k over trials.

The reward asks whether the database ends in the state that the gold calls lead to, and whether every output the user
was to be told was told. That needs the executable tools, so it is only known where it was recorded with the episode.
What the calls alone say is given under names of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from envs.types import Json, Task, ToolCall, ToolStatus
from rewards.matching import ExactMatching, same_value
from rewards.published.types import Record
from rollout.trajectory import Trajectory


class TauBench:
    """Recorded reward, pass^k, and what calls and texts show of it."""

    missing: Mapping[str, str] = {
        "reward": "the executable tools and databases, where it was not recorded with the episode",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """One episode.

        - `reward`: as it was recorded with the episode.
        - `actions_match`: the calls that change the database are those of the gold, in any order.
        - `outputs_told`: every output was told, the part of the reward that needs no tools. What stands beside a call
          is not told: tau-bench sends the user only messages without calls.
        """
        facts = trajectory.task.facts["benchmark"]
        recorded = facts.get("recorded")
        told = [turn.message.content for turn in trajectory.turns if not turn.message.calls]
        said = [text.lower().replace(",", "") for text in told]
        return {
            "reward": None if recorded is None else float(recorded["reward"]),
            "actions_match": float(_same_calls(_writing(trajectory, facts), _gold(facts))),
            "outputs_told": float(all(any(output.lower() in text for text in said) for output in facts["outputs"])),
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Means, and pass^k for each number of trials that every task has: the chance that k trials all succeed."""
        found: dict[str, float | None] = {}
        for name in ("reward", "actions_match", "outputs_told"):
            values = [value for _, record in records if (value := record[name]) is not None]
            found[name] = sum(values) / len(values) if values else None
        for name, power in pass_hat(records).items():
            found[name] = power
        return found


def pass_hat(records: Sequence[tuple[Task, Record]]) -> dict[str, float]:
    """pass^k of tau-bench: the mean over tasks of C(c, k) / C(n, k), c of whose n trials had reward 1."""
    trials: dict[Json, list[float]] = {}
    for task, record in records:
        reward = record["reward"]
        if reward is not None:
            trials.setdefault(task.facts["benchmark"]["task"], []).append(reward)
    found: dict[str, float] = {}
    for k in range(1, min(map(len, trials.values()), default=0) + 1):
        chances = [
            math.comb(sum(math.isclose(reward, 1.0) for reward in rewards), k) / math.comb(len(rewards), k)
            for rewards in trials.values()
        ]
        found[f"pass^{k}"] = sum(chances) / len(chances)
    return found


def _gold(facts: Mapping[str, Json]) -> list[ToolCall]:
    return [
        ToolCall(name=action["name"], arguments=action["arguments"])
        for action in facts["actions"]
        if action["name"] in facts["writing"]
    ]


def _writing(trajectory: Trajectory, facts: Mapping[str, Json]) -> list[ToolCall]:
    """The calls that changed the database: those of writing tools that did not fail."""
    return [
        call
        for turn in trajectory.turns
        for position, call in enumerate(turn.message.calls)
        if isinstance(call, ToolCall)
        and call.name in facts["writing"]
        and not (position < len(turn.results) and turn.results[position].status != ToolStatus.OK)
    ]


def _same_calls(made: Sequence[ToolCall], gold: Sequence[ToolCall]) -> bool:
    matching = ExactMatching()
    return len(made) == len(gold) and all(
        matching.add(
            number,
            [
                j
                for j, wanted in enumerate(gold)
                if wanted.name == call.name and same_value(call.arguments, wanted.arguments)
            ],
        )
        for number, call in enumerate(made)
    )


METRIC = TauBench()
