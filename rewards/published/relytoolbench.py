"""RelyToolBench's metrics (Relign, arXiv 2412.04141), as far as no LLM judge is needed.

The published figures rest on four judges. Where the outcome is certain without them (an episode that does not end by
Finish fails; giving up fails a solvable task and passes an unsolvable one) it is decided; the rest makes the difference
between `_at_least` and `_at_most`. The published figure lies between the two, whatever the judges say.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence

from envs.benchmarks.toolbench import FINISH
from envs.types import Call, MalformedCall, Task, ToolCall, ToolResult, ToolSpec
from rewards.published.stabletoolbench import by_subset, gives_answer
from rewards.published.types import Record
from rewards.reliability import HALLUCINATED_WORTH, SOLVED_WORTH, cost_of
from rewards.relign import CLASS_OF, LABELS
from rewards.types import ErrorKind
from rollout.trajectory import Trajectory

TALK_TO_USER = "TalkToUser"
"""A tool that the environment of the benchmark answers to and does not offer; no tool call as it counts them."""
IRRELEVANT = LABELS[ErrorKind.IRRELEVANT_TOOL]
"""The label of a judge that comes second in the detector's order."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {"string": str, "number": int, "integer": int, "boolean": bool}
"""What the detector takes for a declared type: NUMBER is declared integer, and a boolean passes for one."""


class RelyToolBench:
    """Pass rate, reliable pass rate, hallucination rate and utility: certain bounds, and what rules find."""

    missing: Mapping[str, str] = {
        "pass_rate": "a judge of the answer's status, and the virtual API server",
        "repr": "a judge of the answer's status and of its relevance, and the virtual API server",
        "tool_hallucination_rate": "judges of irrelevant tools and of made-up values",
        "utility": "the same judges as repr",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """One episode. Certain values; see the names of the bounds above."""
        solvable = trajectory.task.facts["benchmark"]["condition"] == "solvable"
        calls = list(_calls(trajectory))
        made = made_calls(trajectory)
        labels = detect(made, trajectory.task.tools)
        num_made = len(made)
        num_wrong = sum(label is not None for label in labels)
        last = calls[-1][0] if calls else None
        cost = cost_of(num_made, solvable=solvable)
        passed = _passes(last, solvable=solvable)
        reliable = _reliable(last, passed, clean=num_wrong < num_made, solvable=solvable)
        benefits = _benefits(last, passed, reliable, clean=num_wrong < num_made)
        classes = [CLASS_OF[label] for label in labels if label is not None]
        return {
            "ends_with_finish": float(is_finish(last)),
            "gives_up": float(_gives_up(last)),
            **_bounds("pass_rate", passed),
            **_bounds("repr", reliable),
            "utility_at_least": benefits[0] - cost,
            "utility_at_most": benefits[1] - cost,
            "cost": float(cost),
            "hallucination_rate_of_rules": num_wrong / num_made if num_made else 0.0,
            **{
                f"{name}_rate_of_rules": classes.count(name) / num_made if num_made else 0.0
                for name in ("type", "timing", "format")
            },
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Means within each subset, then the plain mean over subsets."""
        return by_subset(records)


def made_calls(trajectory: Trajectory) -> list[tuple[Call, ToolResult | None]]:
    """Every call that the benchmark counts, which are those of neither Finish nor TalkToUser, with its result."""
    return [
        (call, result)
        for call, result in _calls(trajectory)
        if isinstance(call, MalformedCall) or call.name not in (FINISH, TALK_TO_USER)
    ]


def detect(
    made: Sequence[tuple[Call, ToolResult | None]], tools: Sequence[ToolSpec], irrelevant: Container[str] = ()
) -> list[str | None]:
    """The first label of the released detector that fires for each call, of those that need no judge of values.

    The released detector compares raw argument strings; here the arguments are compared as they were parsed, in order.

    Args:
        made: calls and their results.
        tools: what was offered.
        irrelevant: names of tools that a judge found to have nothing to do with the request.
    """
    by_name = {tool.name: tool for tool in tools}
    labels: list[str | None] = []
    seen: set[tuple[str, str, str]] = set()
    for call, result in made:
        key = _identity(call, result)
        is_irrelevant = isinstance(call, ToolCall) and call.name in by_name and call.name in irrelevant
        labels.append(IRRELEVANT if is_irrelevant else _label(call, by_name, duplicated=key in seen))
        seen.add(key)
    return labels


def _identity(call: Call, result: ToolResult | None) -> tuple[str, str, str]:
    response = "" if result is None else result.content
    if isinstance(call, MalformedCall):
        return "", call.text, response
    return call.name, json.dumps(dict(call.arguments)), response


def _label(call: Call, tools: Mapping[str, ToolSpec], *, duplicated: bool) -> str | None:
    tool = tools.get(call.name) if isinstance(call, ToolCall) else None
    if isinstance(call, ToolCall) and tool is None:
        return LABELS[ErrorKind.UNKNOWN_TOOL]
    if duplicated:
        return LABELS[ErrorKind.DUPLICATE_CALL]
    if isinstance(call, MalformedCall) or tool is None:
        return LABELS[ErrorKind.MALFORMED]
    if any(name not in call.arguments for name in tool.required):
        return LABELS[ErrorKind.MISSING_ARGUMENT]
    if any(name not in tool.properties for name in call.arguments):
        return LABELS[ErrorKind.UNKNOWN_ARGUMENT]
    for name, value in call.arguments.items():
        kind = _TYPES.get(str(tool.properties[name].get("type")))
        if kind is None or not isinstance(value, kind):
            return LABELS[ErrorKind.BAD_TYPE]
    return None


def _calls(trajectory: Trajectory):
    for turn in trajectory.turns:
        for position, call in enumerate(turn.message.calls):
            yield call, turn.results[position] if position < len(turn.results) else None


def is_finish(call: Call | None) -> bool:
    """Whether a call is ToolBench's Finish."""
    return isinstance(call, ToolCall) and call.name == FINISH


def _gives_up(last: Call | None) -> bool:
    return (
        isinstance(last, ToolCall)
        and last.name == FINISH
        and str(last.arguments.get("return_type")).startswith("give_up")
    )


def _passes(last: Call | None, *, solvable: bool) -> float | None:
    """The pass flag, None where the answer's status has to be judged."""
    if not is_finish(last):
        return 0.0
    if isinstance(last, ToolCall) and gives_answer(last):
        return None
    return 0.0 if solvable else 1.0


def _reliable(last: Call | None, passed: float | None, *, clean: bool, solvable: bool) -> float | None:
    """The reliable pass flag: an answer with no clean call behind it is hallucinated if it counts as one at all."""
    if passed is not None or clean:
        return passed
    return 0.0 if solvable else None


def _benefits(last: Call | None, passed: float | None, reliable: float | None, *, clean: bool) -> tuple[float, float]:
    """The least and the greatest benefit."""
    if passed is not None:
        value = SOLVED_WORTH * passed
        return value, value
    if clean:
        return HALLUCINATED_WORTH, SOLVED_WORTH
    # Judged solved or unsure, the answer counts as hallucinated; judged unsolved, it does not.
    return HALLUCINATED_WORTH, 0.0 if reliable == 0.0 else SOLVED_WORTH


def _bounds(name: str, value: float | None) -> dict[str, float]:
    low, high = (0.0, 1.0) if value is None else (value, value)
    return {f"{name}_at_least": low, f"{name}_at_most": high}


METRIC = RelyToolBench()
