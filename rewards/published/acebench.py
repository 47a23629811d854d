"""ACEBench's checks of normal and special records, and its totals for each language.

As the released evaluator decides (model_eval/checker.py and eval_main.py of the benchmark), its leniencies included:
white space is taken out of everything the model wrote; a text need only hold the gold text; numbers and booleans are
checked by their type alone; fields of objects need only hold the gold as text; optional arguments of the gold may be
missing. Agent records need the benchmark's API classes. The published figures are rounded to three digits, ours not.

Only the first reply of an episode counts. Special records look for fixed sentences: in the text of the reply and in the
words of tether's own actions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from envs.benchmarks.acebench import LANGUAGES
from envs.types import Json, Task, ToolCall
from rewards.published.bfcl import as_float, standardised
from rewards.published.replies import actions, first_reply, function_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory

_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
    "object": dict,
    "objectArray": list,
    "list": list,
    "list(string)": list,
    "list(enum)": list,
    "int": int,
    "number": int,
}
_WITH_ELEMENTS = frozenset({"array", "tuple", "list(string)", "list(enum)", "object", "objectArray"})

_ATOM = tuple(f"normal_atom_{name}" for name in ("bool", "enum", "number", "list", "object_short", "object_deep"))
_SINGLE_TURN = ("normal_single_turn_single_function", "normal_single_turn_parallel_function")
_MULTI_TURN = ("normal_multi_turn_user_switch", "normal_multi_turn_user_adjust")
_NORMAL = (*_SINGLE_TURN, *_MULTI_TURN, "normal_similar_api", "normal_preference", *_ATOM)
_SPECIAL = ("special_incomplete", "special_error_param", "special_irrelevant")
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "atom": _ATOM,
    "single_turn": _SINGLE_TURN,
    "multi_turn": _MULTI_TURN,
    "normal": _NORMAL,
    "special": _SPECIAL,
}


class AceBenchMetric:
    """Accuracy of each category, and the published groups of those that were evaluated."""

    missing: Mapping[str, str] = {
        "agent": "the API classes of the benchmark, to compare end states, and a model in the place of the user",
        "summary": "agent, which weighs 0.1545 beside normal (0.578) and special (0.2676)",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """{"accuracy": 1 or 0}; None for agent records."""
        facts = trajectory.task.facts["benchmark"]
        category = facts["category"]
        if category.startswith("agent"):
            return {"accuracy": None}
        if category.startswith("special"):
            return {"accuracy": float(_says_what_is_wrong(category, _words(trajectory), facts["ground_truth"]))}
        calls = function_calls(trajectory)
        return {"accuracy": float(calls is not None and calls_are_right(calls, facts))}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """For each language: accuracy of each category, and groups (unweighted means), None where a part is missing.

        A conversation of several records is right if all of them are; its process is the share of them.
        """
        figures: dict[str, float | None] = {}
        for language in LANGUAGES:
            values: dict[str, list[tuple[str, float]]] = {}
            for task, record in records:
                facts = task.facts["benchmark"]
                if facts["subset"].startswith(f"{language}_") and record["accuracy"] is not None:
                    values.setdefault(facts["category"], []).append((facts["id"], record["accuracy"]))
            figures.update(_figures(language, values))
        return figures


def _figures(language: str, values: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    accuracy: dict[str, float] = {}
    for category in (*_NORMAL, *_SPECIAL):
        found = values.get(category)
        if not found:
            continue
        if category in _MULTI_TURN:
            accuracy[category], process = _conversations(found)
            figures[f"{language}_{category}_process"] = process
        else:
            accuracy[category] = sum(value for _, value in found) / len(found)
        figures[f"{language}_{category}"] = accuracy[category]
    for group, parts in _GROUPS.items() if accuracy else ():
        present = [accuracy[part] for part in parts if part in accuracy]
        complete = len(present) == len(parts)
        figures[f"{language}_{group}"] = sum(present) / len(present) if complete else None
        if present and not complete:
            names = ", ".join(part for part in parts if part in accuracy)
            figures[f"{language}_{group} of {names} only"] = sum(present) / len(present)
    return figures


def _conversations(values: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """(share of conversations that are right throughout, mean share of right records)."""
    groups: dict[str, list[float]] = {}
    for identifier, value in values:
        groups.setdefault(identifier.split("_")[-2], []).append(value)
    whole = sum(min(group) for group in groups.values()) / len(groups)
    return whole, sum(sum(group) / len(group) for group in groups.values()) / len(groups)


def _words(trajectory: Trajectory) -> str:
    said = [first_reply(trajectory).content]
    for call in actions(trajectory):
        said += [str(call.arguments[name]) for name in ("question", "reason", "answer") if name in call.arguments]
    return "\n".join(said)


def _says_what_is_wrong(category: str, text: str, truth: Json) -> bool:
    if category == "special_irrelevant":
        return "the limitations of the function" in text
    if category == "special_error_param":
        return "There is incorrect value" in text and all(
            value in text for values in truth.values() for value in values
        )
    return "Missing necessary parameters" in text and all(
        name in text and all(value in text for value in values) for name, values in truth.items()
    )


def calls_are_right(calls: Sequence[ToolCall], facts: Mapping[str, Json]) -> bool:
    """Whether calls are right by one of the gold answers of a normal record."""
    made = [ToolCall(name=call.name, arguments=_without_space(call.arguments)) for call in calls]
    truth = facts["ground_truth"]
    return any(_answers(made, answer, facts["function"]) for answer in (truth if isinstance(truth, list) else [truth]))


def _without_space(value: Json) -> Json:
    if isinstance(value, str):
        return "".join(value.split())
    if isinstance(value, Mapping):
        return {_without_space(key): _without_space(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_space(item) for item in value]
    return value


def _answers(made: Sequence[ToolCall], answer: Mapping[str, Json], documents: Sequence[Json]) -> bool:
    """A call may serve two gold calls of its function: as released, none is used up."""
    names = [re.sub(r"_\d+$", "", key) for key in answer]
    if sorted(call.name for call in made) != sorted(names):
        return False
    for key, name in zip(answer, names, strict=True):
        document = next((document for document in documents if document["name"] in key), None)
        if document is None:
            return False
        if not any(call.name == name and _call_is_right(document, call, answer[key]) for call in made):
            return False
    return True


def _call_is_right(document: Mapping[str, Json], call: ToolCall, gold: Mapping[str, Json]) -> bool:
    schema = document["parameters"]
    if not call.arguments or not schema:
        return not call.arguments and not schema
    described = schema.get("properties", {})
    if gold == described:
        return True
    if not gold or call.name != document["name"]:
        return False
    if any(name not in call.arguments for name in schema.get("required", ())):
        return False
    return all(
        name in described and name in gold and _value_is_right(value, gold[name], described[name])
        for name, value in call.arguments.items()
    )


def _value_is_right(value: Json, gold: Json, schema: Mapping[str, Json]) -> bool:
    kind = str(schema.get("type"))
    expected = _TYPES.get(kind)
    inner = _element_type(kind, schema) if kind in _WITH_ELEMENTS else None
    if kind == "float" and type(value) is int:
        value = as_float(value)
        if value is None:
            return False
    fits, is_variable = _type_fits(value, gold, expected, inner)
    if not fits or is_variable:
        return fits
    if expected is dict:
        return _object_is_right(value, gold)
    if expected is str:
        return standardised(gold) in standardised(value)
    if expected is list and inner is dict:
        return len(value) == len(gold) and all(map(_object_is_right, value, gold))
    if expected is list:
        return [_plain(item) for item in value] == [_plain(item) for item in gold]
    return True


def _element_type(kind: str, schema: Mapping[str, Json]) -> type | None:
    items = schema.get("items")
    if isinstance(items, Mapping) and "type" in items:
        return _TYPES.get(str(items["type"]))
    return str if "string" in kind else dict


def _type_fits(value: Json, gold: Json, expected: type | None, inner: type | None) -> tuple[bool, bool]:
    """Whether a value has the type of its document, or that of the gold, which is then not compared further."""
    gold_type = None if gold == "" else type(gold)
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if type(value) is expected:
        fits = inner is None or any(
            not isinstance(item, list) or all(_type_fits(part, item, inner, None)[0] for part in value) for item in gold
        )
        return fits, gold_type is not None and gold_type is not expected
    return gold_type is not None and (type(value) is gold_type or gold == value), True


def _object_is_right(value: Json, gold: Json) -> bool:
    if not isinstance(value, Mapping) or not isinstance(gold, Mapping) or len(value) != len(gold):
        return False
    for key, item in value.items():
        if key not in gold:
            return False
        item = {"true": True, "false": False}.get(item, item) if isinstance(item, str) else item
        wanted = gold[key]
        if isinstance(wanted, Mapping):
            if not _object_is_right(item, wanted):
                return False
        elif str(_plain(wanted)) not in str(_plain(item)):
            return False
    return True


def _plain(value: Json) -> Json:
    return standardised(value) if isinstance(value, str) else value


METRIC = AceBenchMetric()
