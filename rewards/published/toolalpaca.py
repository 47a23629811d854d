"""ToolAlpaca: what its judge is not needed for, and TS, PI and CF as TL-Training computed them on it.

Source: arXiv 2306.05301, section 4: GPT-4 judges the process and the final response of each solution; neither can be
had without it. What can is whether the calls are the gold calls, which is stricter than the judge. TS, PI and CF:
arXiv 2412.15495, with RoTBench's evaluator (spec B.8); each gold call of the instruction is an accepted answer, and the
first call that was made is compared.

Keys to the API are no part of the gold calls here, as the policy is not told them. A call that gold marks as optional
may be made or not. A gold call that is no JSON or holds a placeholder cannot be compared, and where gold begins by
asking the user nothing can: what hangs on it is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import Call, Json, Task, ToolCall
from rewards.matching import identical
from rewards.published.figures import first_call, made_calls, mean
from rewards.published.rotbench import STAGES, Accepted, stages
from rewards.published.types import Record
from rollout.trajectory import Trajectory

_JUDGED = "needs an LLM judge (GPT-4 in the paper)"


class ToolAlpaca:
    """One solution, and the figures of a set."""

    missing: Mapping[str, str] = {
        "process_correctness": f"whether the calls serve the instruction: {_JUDGED}",
        "response_correctness": f"whether the final response is right: {_JUDGED}",
        "overall_correctness": f"both: {_JUDGED}",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """ts, pi, cf and calls_equal_gold; None where gold cannot be compared."""
        gold = trajectory.task.facts["benchmark"]["gold"]
        known = [call for call in gold if call is not None]
        calls = _calls(known)
        record: dict[str, float | None] = dict.fromkeys((*STAGES, "calls_equal_gold"))
        if calls:
            accepted = Accepted(calls=calls, finish="finish", ask="ask_to_user")
            reached = stages(first_call(trajectory), accepted)
            record |= {name: float(reached > index) for index, name in enumerate(STAGES)}
        if len(known) == len(gold):
            needed = _calls([call for call in known if not call.get("optional")])
            record["calls_equal_gold"] = float(any(_same_calls(trajectory, answer) for answer in (calls, needed)))
        return record

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Shares of the records whose gold can be compared."""
        return {name: mean([record[name] for _, record in records]) for name in (*STAGES, "calls_equal_gold")}


def _calls(gold: Sequence[Mapping[str, Json]]) -> list[ToolCall]:
    return [ToolCall(name=call["name"], arguments=call["arguments"]) for call in gold]


def _same_calls(trajectory: Trajectory, gold: Sequence[ToolCall]) -> bool:
    """Whether the calls that were made are the gold calls, in any order."""
    left = list(gold)
    for call, _ in made_calls(trajectory):
        same = next((index for index, wanted in enumerate(left) if _same(call, wanted)), None)
        if same is None:
            return False
        del left[same]
    return not left


def _same(call: Call, gold: ToolCall) -> bool:
    return isinstance(call, ToolCall) and call.name == gold.name and identical(call.arguments, gold.arguments)


METRIC = ToolAlpaca()
