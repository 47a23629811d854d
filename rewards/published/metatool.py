"""MetaTool's awareness (accuracy, precision, recall, F1) and correct selection rate (CSR).

Source: arXiv 2310.03128, section 3. CSR is the share of queries whose selected tools are the right ones; for two tools
the share with both is `csr` and the share with exactly one right is `csr_1_of_2`. The paper does not say how an answer
in words is read: here calls count if there are any, otherwise the listed names that stand in the text as words of their
own. A reply that selects nothing selects "None".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from envs.types import Task, ToolCall
from rewards.published.figures import f1, made_calls, mean, said
from rewards.published.types import Record
from rollout.trajectory import Trajectory

_YES_OR_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class MetaTool:
    """One answer, and the figures of a set."""

    missing: Mapping[str, str] = {
        "csr_similar_choices": "the lists of similar tools (Task 2, subtask 1) are not in the folder",
        "csr_scenarios": "the lists of scenarios (Task 2, subtask 2) are not in the folder",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """Of awareness: says_yes (None if neither yes nor no) and aware; of selection: right_tools, selected, csr."""
        facts = trajectory.task.facts["benchmark"]
        if "needs_tool" in facts:
            yes = _says_yes(trajectory)
            return {"says_yes": None if yes is None else float(yes), "aware": float(yes == facts["needs_tool"])}
        right, selected = set(facts["right"]), _selected(trajectory)
        return {
            "right_tools": float(len(right & selected)),
            "selected": float(len(selected)),
            "csr": float(selected == right),
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """The figures of the kinds of tasks that are there."""
        awareness = [(task, record) for task, record in records if "aware" in record]
        selection = [(task, record) for task, record in records if "csr" in record]
        figures: dict[str, float | None] = {}
        if awareness:
            figures |= _awareness(awareness)
        if selection:
            figures["csr"] = mean([record["csr"] for _, record in selection])
        two = [record for task, record in selection if len(task.facts["benchmark"]["right"]) == 2]
        if two:
            figures["csr_1_of_2"] = mean([float(record["right_tools"] == 1.0) for record in two])
        return figures


def _awareness(records: Sequence[tuple[Task, Record]]) -> dict[str, float | None]:
    needed = [bool(task.facts["benchmark"]["needs_tool"]) for task, _ in records]
    answered = [record["says_yes"] == 1.0 for _, record in records]
    both = sum(yes and due for yes, due in zip(answered, needed, strict=True))
    precision = both / sum(answered) if any(answered) else 0.0
    recall = both / sum(needed) if any(needed) else 0.0
    return {
        "awareness_accuracy": mean([record["aware"] for _, record in records]),
        "awareness_precision": precision,
        "awareness_recall": recall,
        "awareness_f1": f1(precision, recall),
    }


def _says_yes(trajectory: Trajectory) -> bool | None:
    found = _YES_OR_NO.match(said(trajectory))
    return found[1].lower() == "yes" if found else None


def _selected(trajectory: Trajectory) -> set[str]:
    calls = [call for call, _ in made_calls(trajectory)]
    if calls:
        return {call.name if isinstance(call, ToolCall) else "" for call in calls}
    text = said(trajectory)
    return {
        tool.name
        for tool in trajectory.task.tools
        if re.search(rf"(?<![\w.-]){re.escape(tool.name)}(?![\w-])", text, re.IGNORECASE)
    }


METRIC = MetaTool()
