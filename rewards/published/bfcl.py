"""BFCL's checker of calls and its totals, for the subsets of one turn (version 4).

Each call is checked against its function document and its accepted values (source: ast_checker of the benchmark):
name, required parameters, no parameter outside document and answer, type (one level into arrays), then the value: texts
without case, spaces and `,./-_*^`, arrays and objects element by element, everything else by equality. A text where the
answer has one and the document another type is a variable and compared as such. Parallel calls need no order.

A Java or JavaScript value is given in the source of its language; a value that is no text is taken for what its source
would mean, as tether offers these parameters with their own types too.

Only the first reply of an episode counts, as in the benchmark, and tether's own actions are no calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from envs.benchmarks.bfcl import (
    AST_SUBSETS,
    EXECUTED_SUBSETS,
    MULTI_TURN_SUBSETS,
    NO_CALL_SUBSETS,
    RELEVANCE_SUBSETS,
)
from envs.types import Json, Task, ToolCall
from rewards.published.bfcl_source import JAVA_TYPES, JAVASCRIPT_TYPES, java_value, javascript_value
from rewards.published.replies import function_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory

PYTHON_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_TYPES: Mapping[str, Mapping[str, type]] = {"python": PYTHON_TYPES, "java": JAVA_TYPES, "javascript": JAVASCRIPT_TYPES}
_WITH_ELEMENTS: Mapping[str, frozenset[str]] = {
    "python": frozenset({"array", "tuple"}),
    "java": frozenset({"Array", "ArrayList", "array"}),
    "javascript": frozenset({"Array", "ArrayList", "array"}),
}

_SIMPLE = ("simple_python", "simple_java", "simple_javascript")
_LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")


class BfclMetric:
    """Accuracy of each subset, and the published totals of those that were evaluated."""

    missing: Mapping[str, str] = {
        "overall": "multi_turn and the agentic subsets: their API classes and web search",
        **dict.fromkeys(EXECUTED_SUBSETS, "the functions, to run the calls"),
        **dict.fromkeys(MULTI_TURN_SUBSETS, "the API classes, to compare states and responses"),
    }

    def record(self, trajectory: Trajectory) -> Record:
        """{"accuracy": 1 or 0}; None for subsets whose calls have to be run."""
        facts = trajectory.task.facts["benchmark"]
        category = facts["category"]
        if category in EXECUTED_SUBSETS + MULTI_TURN_SUBSETS:
            return {"accuracy": None}
        calls = function_calls(trajectory)
        if category in NO_CALL_SUBSETS:
            # A reply that cannot be read holds no call either.
            return {"accuracy": float(not calls)}
        if category in RELEVANCE_SUBSETS:
            return {"accuracy": float(bool(calls))}
        return {"accuracy": float(calls is not None and calls_are_right(calls, facts))}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Accuracy of each subset; totals by their published name only where no subset is missing.

        non_live_ast is the mean over simple (itself the mean of three languages), multiple, parallel and
        parallel_multiple; live_ast the mean over all records; irrelevance the mean of its two subsets; relevance is
        live_relevance. A total of some of its subsets says which.
        """
        values: dict[str, list[float]] = {}
        for task, record in records:
            if record["accuracy"] is not None:
                values.setdefault(task.facts["benchmark"]["category"], []).append(record["accuracy"])
        accuracy = {name: sum(found) / len(found) for name, found in values.items()}
        names = (*AST_SUBSETS, *NO_CALL_SUBSETS, *RELEVANCE_SUBSETS)
        figures: dict[str, float | None] = {name: accuracy[name] for name in names if name in accuracy}
        simple = _mean(figures, "non_live_simple", _SIMPLE, accuracy)
        if simple is not None:
            accuracy["simple"] = simple
        _mean(figures, "non_live_ast", ("simple", "multiple", "parallel", "parallel_multiple"), accuracy)
        _mean(figures, "live_ast", _LIVE, accuracy, weights={name: len(found) for name, found in values.items()})
        _mean(figures, "irrelevance_detection", NO_CALL_SUBSETS, accuracy)
        _mean(figures, "relevance_detection", RELEVANCE_SUBSETS, accuracy)
        return figures


def _mean(
    figures: dict[str, float | None],
    name: str,
    parts: Sequence[str],
    accuracy: Mapping[str, float],
    weights: Mapping[str, int] | None = None,
) -> float | None:
    """Put the mean of `parts` among the figures, named as a part where one is missing; returns it if none is."""
    present = [part for part in parts if part in accuracy]
    figures[name] = None
    if not present:
        return None
    total = sum(weights[part] if weights else 1 for part in present)
    mean = sum(accuracy[part] * (weights[part] if weights else 1) for part in present) / total
    if len(present) < len(parts):
        figures[f"{name} of {', '.join(present)} only"] = mean
        return None
    figures[name] = mean
    return mean


def calls_are_right(calls: Sequence[ToolCall], facts: Mapping[str, Json]) -> bool:
    """Whether calls are right by the document and the accepted values of a record."""
    truth = facts["ground_truth"]
    if len(calls) != len(truth):
        return False
    language = facts["language"]
    if "parallel" not in facts["category"]:
        ((name, accepted),) = truth[0].items()
        document = facts["function"][0] if "multiple" not in facts["category"] else _document(facts["function"], name)
        return _call_is_right(document, calls[0], accepted, language)
    left = list(calls)
    for answer in truth:
        ((name, accepted),) = answer.items()
        document = _document(facts["function"], name)
        found = next((call for call in left if _call_is_right(document, call, accepted, language)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _document(documents: Sequence[Json], name: str) -> Mapping[str, Json]:
    return next(document for document in documents if document["name"] == name)


def _call_is_right(document: Mapping[str, Json], call: ToolCall, accepted: Mapping[str, Json], language: str) -> bool:
    described = document["parameters"]["properties"]
    if call.name != document["name"]:
        return False
    if any(name not in call.arguments for name in document["parameters"].get("required", ())):
        return False
    if any(name not in call.arguments and "" not in values for name, values in accepted.items()):
        return False
    return all(
        name in described and name in accepted and _value_is_right(value, accepted[name], described[name], language)
        for name, value in call.arguments.items()
    )


def _value_is_right(value: Json, accepted: list[Json], schema: Mapping[str, Json], language: str) -> bool:
    kind = schema["type"]
    expected = _TYPES[language][kind]
    element: str | None = schema["items"]["type"] if kind in _WITH_ELEMENTS[language] else None
    inner = None if element is None else _TYPES[language][element]
    if language != "python" and isinstance(value, str):
        value = (java_value if language == "java" else javascript_value)(value, kind, element)
    if language == "python" and kind == "float" and type(value) is int:
        value = as_float(value)
        if value is None:
            return False
    fits, is_variable = type_fits(value, accepted, expected, inner)
    if not fits:
        return False
    if not is_variable:
        if expected is dict:
            return _object_is_right(value, accepted)
        if expected is list and inner is dict:
            return any(_objects_are_right(value, answer) for answer in accepted)
        if expected is str:
            return standardised(value) in [standardised(answer) for answer in accepted if isinstance(answer, str)]
        if expected is list:
            return [_plain(item) for item in value] in [[_plain(item) for item in answer] for answer in accepted]
    return value in accepted


def as_float(value: int) -> float | None:
    """The integer as a float; None if it is greater than any."""
    try:
        return float(value)
    except OverflowError:
        return None


def type_fits(value: Json, accepted: Sequence[Json], expected: type, inner: type | None) -> tuple[bool, bool]:
    """Whether a value has the type of its document, or that of its answer; and whether it stands for a variable.

    Types are compared as they are: a boolean is no integer, 3.0 is none either.
    """
    answer_type = next((type(answer) for answer in accepted if answer != ""), None)
    differs = answer_type is not None and answer_type is not expected
    if type(value) is expected:
        fits = inner is None or any(
            not isinstance(answer, list) or all(type_fits(item, answer, inner, None)[0] for item in value)
            for answer in accepted
        )
        return fits, differs
    return answer_type is not None and type(value) is answer_type, True


def _object_is_right(value: Json, accepted: Sequence[Json]) -> bool:
    return isinstance(value, Mapping) and any(
        all(key in answer and _plain(item) in [_plain(given) for given in answer[key]] for key, item in value.items())
        and all(key in value or "" in given for key, given in answer.items())
        for answer in accepted
        if isinstance(answer, Mapping)
    )


def _objects_are_right(value: Sequence[Json], answer: Sequence[Json]) -> bool:
    return len(value) == len(answer) and all(
        _object_is_right(item, [given]) for item, given in zip(value, answer, strict=True)
    )


def _plain(value: Json) -> Json:
    return standardised(value) if isinstance(value, str) else value


def standardised(text: str) -> str:
    """A text as the benchmark compares it: without case, spaces and `,./-_*^`; single quotes as double ones."""
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


METRIC = BfclMetric()
