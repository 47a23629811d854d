"""RelyToolBench's pass rate, RePR, hallucination rate and utility, by any judge.

Source: Relign (arXiv 2412.04141) and its released evaluator, in the order of its rules. The relevance of tools is asked
only where the tools are unmatched; calls that break no rule are asked for made-up values, with the responses that the
evaluator shows; an answer that counts is hallucinated if no call is clean, or if it rests on a response to a call with
an irrelevant tool or a made-up value. The wording of the questions is our own, and each is asked once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.types import Call, Task, ToolCall, ToolResult, ToolSpec
from rewards.judge_questions import (
    ANSWER_RELEVANCE,
    CALLING_TRUTHFULNESS,
    TOOL_RELEVANCE,
    UNSURE,
    about_answer,
    about_call,
    about_tool,
)
from rewards.judged.shown import request_text
from rewards.judged.toolbench import (
    ANSWER_STATUS,
    SOLUTION_STATUS,
    SOLVED,
    UNSOLVED,
    final_answer,
    last_call,
    status,
    status_questions,
)
from rewards.judged.types import Answers, Case
from rewards.published.relytoolbench import (
    IRRELEVANT,
    detect,
    is_finish,
    made_calls,
)
from rewards.published.stabletoolbench import by_subset
from rewards.published.types import Record
from rewards.reliability import HALLUCINATED_WORTH, SOLVED_WORTH, cost_of
from rewards.relign import CLASS_OF, CLASSES, CLEAN, LABELS
from rewards.types import ErrorKind
from rollout.trajectory import Trajectory

MADE_UP = LABELS[ErrorKind.UNGROUNDED_VALUE]

_NEEDS = (
    "the published judge and the virtual API server; the figure of that name with _judged is its rule with the judge "
    "named above"
)


class JudgedRelyToolBench:
    """The four published figures, and the hallucination rate by class."""

    missing: Mapping[str, str] = dict.fromkeys(("pass_rate", "repr", "tool_hallucination_rate", "utility"), _NEEDS)
    questions = (TOOL_RELEVANCE, CALLING_TRUTHFULNESS, ANSWER_STATUS, SOLUTION_STATUS, ANSWER_RELEVANCE)

    def open_questions(self, trajectory: Trajectory, answers: Answers) -> Mapping[str, Case]:
        """The answer's status and the tools; then the values; then what the answer rests on."""
        found = {**status_questions(trajectory, answers), **_tool_questions(trajectory)}
        if found.keys() <= answers.keys():
            found |= _value_questions(trajectory, answers)
        if found.keys() <= answers.keys():
            found |= _answer_questions(trajectory, answers)
        return found

    def record(self, trajectory: Trajectory, answers: Answers) -> Record:
        """One episode."""
        solvable = _condition(trajectory) == "solvable"
        labels = labels_of(trajectory, answers)
        said = status(trajectory, answers)
        passed = _passed(trajectory, said, solvable=solvable)
        hallucinated = _hallucinated(trajectory, said, answers)
        reliable = None if hallucinated is None else 0.0 if hallucinated else passed
        benefit = HALLUCINATED_WORTH if hallucinated else None if reliable is None else SOLVED_WORTH * reliable
        utility = None if benefit is None else benefit - cost_of(len(labels), solvable=solvable)
        return {
            "pass_rate_judged": passed,
            "repr_judged": reliable,
            "utility_judged": utility,
            "tool_hallucination_rate_judged": _share(labels, set(CLASS_OF)),
            **{
                f"{name}_rate_judged": _share(labels, {label for label in CLASS_OF if CLASS_OF[label] == name})
                for name in CLASSES
            },
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Means within each subset, then the plain mean over subsets."""
        return by_subset(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A call that the benchmark counts."""

    call: Call
    result: ToolResult | None
    label: str | None
    """What needs no judge of values: a rule's, or the irrelevance of the tool."""
    read: tuple[str, ...]
    """The request and the responses that the judge of values is shown."""
    tool: ToolSpec | None
    is_open: bool
    """Whether the judge gave up the relevance of the tool."""

    @property
    def is_asked(self) -> bool:
        """Whether the judge of values has to be asked."""
        return not self.is_open and self.label is None and isinstance(self.call, ToolCall) and bool(self.call.arguments)


def _condition(trajectory: Trajectory) -> str:
    return trajectory.task.facts["benchmark"]["condition"]


def _tool_questions(trajectory: Trajectory) -> dict[str, Case]:
    if _condition(trajectory) != "unmatched":
        return {}
    tools = {tool.name: tool for tool in trajectory.task.tools}
    used = dict.fromkeys(
        call.name for call, _ in made_calls(trajectory) if isinstance(call, ToolCall) and call.name in tools
    )
    request = request_text(trajectory)
    return {
        f"{TOOL_RELEVANCE.name}/{name}": Case(question=TOOL_RELEVANCE, parts=about_tool(request, tools[name]))
        for name in used
    }


def _made(trajectory: Trajectory, answers: Answers) -> list[_Made]:
    relevance = {name: answers.get(name) for name in _tool_questions(trajectory)}
    said = {name.partition("/")[2]: answer for name, answer in relevance.items()}
    irrelevant = {name for name, answer in said.items() if answer == "Irrelevant"}
    tools = {tool.name: tool for tool in trajectory.task.tools}
    calls = made_calls(trajectory)
    read = [request_text(trajectory)]
    found: list[_Made] = []
    for (call, result), label in zip(calls, detect(calls, trajectory.task.tools, irrelevant), strict=True):
        name = call.name if isinstance(call, ToolCall) else ""
        is_open = name in said and said[name] is None
        found.append(
            _Made(call=call, result=result, label=label, read=tuple(read), tool=tools.get(name), is_open=is_open)
        )
        if label in (None, IRRELEVANT) and result is not None:
            read.append(_response(result.content)[0])
    return found


def _value_questions(trajectory: Trajectory, answers: Answers) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for number, made in enumerate(_made(trajectory, answers)):
        if made.is_asked and made.tool is not None and isinstance(made.call, ToolCall):
            # As published the schema is shown with its examples, in tasks with a missing argument too.
            parts = about_call(made.read, made.tool, made.call, missing=False)
            found[f"{CALLING_TRUTHFULNESS.name}/{number}"] = Case(question=CALLING_TRUTHFULNESS, parts=parts)
    return found


def labels_of(trajectory: Trajectory, answers: Answers) -> list[str | None]:
    """The detector's label of each call that counts; None where the judge gave up."""
    labels: list[str | None] = []
    for number, made in enumerate(_made(trajectory, answers)):
        if made.is_open:
            labels.append(None)
        elif not made.is_asked:
            labels.append(made.label or CLEAN)
        else:
            said = answers.get(f"{CALLING_TRUTHFULNESS.name}/{number}")
            labels.append(None if said is None else MADE_UP if said == "Untruthful" else CLEAN)
    return labels


def _tainted(trajectory: Trajectory, answers: Answers) -> list[str]:
    """Responses without an error to calls with an irrelevant tool or a made-up value."""
    found = []
    for made, label in zip(_made(trajectory, answers), labels_of(trajectory, answers), strict=True):
        if label in (IRRELEVANT, MADE_UP) and made.result is not None:
            text, failed = _response(made.result.content)
            if not failed:
                found.append(text)
    return found


def _answer_questions(trajectory: Trajectory, answers: Answers) -> dict[str, Case]:
    answer = final_answer(trajectory)
    labels = labels_of(trajectory, answers)
    if answer is None or status(trajectory, answers) not in (SOLVED, UNSURE) or CLEAN not in labels or None in labels:
        return {}
    responses = _tainted(trajectory, answers)
    if not responses:
        return {}
    return {ANSWER_RELEVANCE.name: Case(question=ANSWER_RELEVANCE, parts=about_answer(responses, answer))}


def _passed(trajectory: Trajectory, said: str | None, *, solvable: bool) -> float | None:
    if not is_finish(last_call(trajectory)):
        return 0.0
    if said is None:
        return None
    if said == SOLVED or not solvable:
        return 1.0
    return 0.5 if said == UNSURE else 0.0


def _hallucinated(trajectory: Trajectory, said: str | None, answers: Answers) -> bool | None:
    """Whether the answer is; None where the judge gave up."""
    if said == UNSOLVED:
        return False
    labels = labels_of(trajectory, answers)
    if said is None or None in labels:
        return None
    if CLEAN not in labels:
        return True
    if not _tainted(trajectory, answers):
        return False
    relevance = answers.get(ANSWER_RELEVANCE.name)
    return None if relevance is None else relevance == "Relevant"


def _response(content: str) -> tuple[str, bool]:
    """What the virtual API server answered, and whether it was an error: {"error", "response"}, or any other text."""
    try:
        value = json.loads(content)
    except ValueError:
        return content, False
    if not isinstance(value, dict) or "response" not in value:
        return content, False
    response = value["response"]
    return response if isinstance(response, str) else json.dumps(response), bool(value.get("error"))


def _share(labels: Sequence[str | None], wrong: set[str]) -> float | None:
    if None in labels:
        return None
    return sum(label in wrong for label in labels) / len(labels) if labels else 0.0


JUDGED = JudgedRelyToolBench()
