"""When2Call: which of four behaviours a reply shows, as far as that can be told without the benchmark's LLM judge.

A call is a tool call, readable or not; talk_to_user requests information and change_tools says that the tools cannot
answer. Which behaviour a reply in words shows is for the judge to say. So what depends on calls alone is complete (the
tool-hallucination rate, and whether a call was made where one was due); accuracy and F1 are given where every reply
could be told, and as a part by their own name otherwise.

tool_hallucination_rate is the share of all cannot_answer records answered by a call: the percentages that the paper
reports for this subset (26, 41 and 22) are shares of its 100 such records, not of the 17 among them without any tool,
which the paper names for its multiple-choice set; those are tool_hallucination_rate_without_tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.when2call import BEHAVIOURS
from envs.types import Task
from rewards.published.figures import mean
from rewards.published.replies import actions, function_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory


def behaviour(trajectory: Trajectory) -> str | None:
    """The behaviour of the first reply, one of BEHAVIOURS; None for a reply in words."""
    calls = function_calls(trajectory)
    if calls is None or calls:
        return "tool_call"
    made = {call.name for call in actions(trajectory)}
    if TALK_TO_USER in made:
        return "request_for_info"
    return "cannot_answer" if CHANGE_TOOLS in made else None


class When2CallMetric:
    """Accuracy, macro F1 and the tool-hallucination rate."""

    missing: Mapping[str, str] = {
        "accuracy": "an LLM judge, to tell which behaviour replies in words show",
        "macro_f1": "an LLM judge, to tell which behaviour replies in words show",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """For each behaviour whether the reply shows it: 1, 0, or None where only a judge can say."""
        shown = behaviour(trajectory)
        if shown is not None:
            return {name: float(name == shown) for name in BEHAVIOURS}
        return {name: 0.0 if name == "tool_call" else None for name in BEHAVIOURS}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Macro F1 is the mean over the behaviours that are right somewhere."""
        truths = [(task.facts["benchmark"]["correct_answer"], record, task) for task, record in records]
        told = [(truth, record) for truth, record, _ in truths if None not in record.values()]
        figures: dict[str, float | None] = {"accuracy": None, "macro_f1": None}
        accuracy = mean([record[truth] for truth, record in told])
        if len(told) == len(truths):
            figures["accuracy"] = accuracy
            figures["macro_f1"] = macro_f1(told)
        else:
            figures["accuracy of calls and actions only"] = accuracy
        figures["told_without_judge"] = len(told) / len(truths) if truths else None
        unanswerable = [(record, task) for truth, record, task in truths if truth == "cannot_answer"]
        figures["tool_call_recall"] = share_called([record for truth, record, _ in truths if truth == "tool_call"])
        figures["tool_hallucination_rate"] = share_called([record for record, _ in unanswerable])
        figures["tool_hallucination_rate_without_tools"] = share_called(
            [record for record, task in unanswerable if not task.tools]
        )
        return figures


def share_called(records: Sequence[Record]) -> float | None:
    """Share of the replies that call a tool."""
    return mean([record["tool_call"] for record in records])


def macro_f1(records: Sequence[tuple[str, Record]]) -> float | None:
    """Mean F1 over the behaviours that are right somewhere; None without records.

    Args:
        records: the right behaviour and the record of each reply; no value of a record is None.
    """
    scores = []
    for name in BEHAVIOURS:
        due = sum(truth == name for truth, _ in records)
        if not due:
            continue
        shown = sum(record[name] == 1.0 for _, record in records)
        right = sum(record[name] == 1.0 for truth, record in records if truth == name)
        scores.append(2 * right / (due + shown))
    return mean(scores)


METRIC = When2CallMetric()
