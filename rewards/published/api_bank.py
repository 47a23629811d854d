"""API-Bank: calls that are the gold call, and ROUGE-L of replies.

Source: arXiv 2304.08244, section 4, and the program beside the data. The published accuracy carries the made call out
and compares input, output and exception with the recorded ones by a rule of each API. Here a call is right if it has
the name and, after the conversion by its document, the arguments of the gold call. A rule accepts that, as the services
are deterministic, but may accept more (another search that finds the same tool): this is a lower bound. The program
counts a call that follows another call at once twice; so do the shares here. Only the first call is looked at.

ROUGE-L by its definition (Lin 2004, equation 4, beta = 1): F of the longest common subsequence of words, which stand
between white space. The program uses a package that splits at full stops and counts each word once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import Task, ToolCall
from rewards.matching import identical
from rewards.published.figures import f1, first_call, mean, said
from rewards.published.types import Record
from rollout.trajectory import Trajectory


class ApiBank:
    """One call or one reply, and the figures of a set."""

    missing: Mapping[str, str] = {
        "call_accuracy": "whether the made call gives the recorded result by the rule of its API needs the APIs and "
        "their databases carried out, and for ToolSearcher an embedding model",
        "rouge_l_of_package": "the program's ROUGE-L is that of the Python package `rouge`, not the definition",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """equal_call of a call; rouge_l of a reply."""
        facts = trajectory.task.facts["benchmark"]
        if "reply" in facts:
            return {"rouge_l": round(rouge_l(facts["reply"], said(trajectory)), 4)}
        gold = ToolCall(name=facts["call"]["name"], arguments=facts["call"]["arguments"])
        made = first_call(trajectory)
        equal = made is not None and made.name == gold.name and identical(made.arguments, gold.arguments)
        right_name = made is not None and made.name == gold.name
        return {"equal_call": float(equal), "right_tool": float(right_name)}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """call_accuracy_equal_arguments and tool_accuracy over the calls, rouge_l over the replies."""
        figures: dict[str, float | None] = {}
        calls = [(task, record) for task, record in records if "equal_call" in record]
        if calls:
            for name, key in (("call_accuracy_equal_arguments", "equal_call"), ("tool_accuracy", "right_tool")):
                weighted = [
                    value for task, record in calls for value in [record[key]] * task.facts["benchmark"]["weight"]
                ]
                figures[name] = mean(weighted)
        replies = [record["rouge_l"] for _, record in records if "rouge_l" in record]
        if replies:
            figures["rouge_l"] = mean(replies)
        return figures


def rouge_l(reference: str, made: str) -> float:
    """F of the longest common subsequence of words, 0 to 1."""
    wanted, words = reference.split(), made.split()
    if not wanted or not words:
        return 0.0
    common = _longest_common_subsequence(wanted, words)
    return f1(common / len(words), common / len(wanted))


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


METRIC = ApiBank()
