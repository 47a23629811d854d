"""Known faults of BFCL's gold, by record, and how each is mended: in that record alone, never in what is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from envs.types import Json, Task, ToolCall, ToolSpec

GOLD_FAULTS: Mapping[str, str] = {
    "undocumented_argument": "the gold gives an argument that its document does not know: left out of the reference",
    "renamed_argument": "the gold gives an argument by another name than its document: renamed in the reference",
    "value_for_text": "the gold gives a number or boolean where its document asks for text: as text in the reference",
    "enum_spelling": "the gold spells a value of an enum in another case: as the enum spells it in the reference",
    "outside_enum": "the gold gives a value that the enum of its document lacks: added to the enum",
    "other_elements": "the gold gives an array of other elements than its document: the array takes any elements",
    "variable": "the gold gives the name of a variable where its document asks for a value: it takes text too",
    "text_for_number": "the gold gives a text where its document asks for a number: it takes text too",
    "no_accepted_value": "the gold accepts no value where it means the empty array: the reference is the empty array",
    "overlapping_values": "the gold accepts for one call what another call is for: its first value alone",
    "held_back_call": "the gold calls a function while it is held back: it is offered for that turn",
}

FAULT_OF_RECORD: Mapping[str, str] = {
    "live_multiple_862-181-3": "undocumented_argument",
    "live_multiple_964-207-0": "renamed_argument",
    "live_multiple_595-158-1": "value_for_text",
    "live_multiple_596-158-2": "value_for_text",
    "live_multiple_731-167-2": "value_for_text",
    "live_multiple_733-167-4": "value_for_text",
    "live_multiple_735-167-6": "value_for_text",
    "live_multiple_756-169-11": "enum_spelling",
    "live_multiple_87-38-4": "outside_enum",
    "live_multiple_750-169-5": "outside_enum",
    "live_multiple_835-178-10": "outside_enum",
    "live_multiple_871-182-8": "outside_enum",
    "live_multiple_947-197-0": "outside_enum",
    "parallel_multiple_94": "other_elements",
    "parallel_multiple_21": "variable",
    "multi_turn_base_173-3": "text_for_number",
    "multi_turn_miss_func_173-4": "text_for_number",
    "multi_turn_miss_param_173-4": "text_for_number",
    "live_simple_112-68-0": "no_accepted_value",
    "parallel_178": "overlapping_values",
    "multi_turn_miss_func_49-1": "held_back_call",
}
"""By record id; in multi-turn records with the number of the turn."""


def mended(task: Task, identifier: str, every_tool: Mapping[str, ToolSpec]) -> Task:
    """The task with the known fault of its gold mended, and named in its facts; without one the task itself.

    Args:
        task: as its record says.
        identifier: its key in FAULT_OF_RECORD.
        every_tool: all tools of the record by name, those that are held back among them.
    """
    fault = FAULT_OF_RECORD.get(identifier)
    if fault is None:
        return task
    return replace(_MENDERS[fault](task, every_tool), facts={**task.facts, "gold_fault": fault})


def _undocumented_argument(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    return _with_arguments(
        task, lambda call, tool: {name: value for name, value in call.arguments.items() if name in tool.properties}
    )


def _renamed_argument(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def renamed(call: ToolCall, tool: ToolSpec) -> dict[str, Json]:
        free = next(name for name in tool.required if name not in call.arguments)
        return {name if name in tool.properties else free: value for name, value in call.arguments.items()}

    return _with_arguments(task, renamed)


def _value_for_text(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    return _with_values(
        task,
        lambda value, schema: str(value) if schema.get("type") == "string" and value is not None else value,
    )


def _enum_spelling(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def spelled(value: Json, schema: Mapping[str, Json]) -> Json:
        same = [item for item in schema.get("enum", ()) if str(item).lower() == str(value).lower()]
        return same[0] if same else value

    return _with_values(task, spelled)


def _outside_enum(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def widened(schema: Mapping[str, Json], values: list[Json]) -> Mapping[str, Json]:
        lacking = [value for value in values if value != "" and value not in schema.get("enum", values)]
        return {**schema, "enum": [*schema["enum"], *lacking]} if lacking else schema

    return _with_schemas(task, widened)


def _other_elements(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def widened(schema: Mapping[str, Json], values: list[Json]) -> Mapping[str, Json]:
        words = any(isinstance(item, str) for value in values if isinstance(value, list) for item in value)
        numbers = schema.get("items", {}).get("type") in ("integer", "number")
        return {**schema, "items": {}} if words and numbers else schema

    return _with_schemas(task, widened)


def _variable(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def widened(schema: Mapping[str, Json], values: list[Json]) -> Mapping[str, Json]:
        kind = schema.get("type")
        is_variable = kind not in (None, "string") and all(isinstance(value, str) for value in values)
        return {**schema, "type": [kind, "string"]} if is_variable else schema

    return _with_schemas(task, widened)


def _text_for_number(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def widened(schema: Mapping[str, Json], values: list[Json]) -> Mapping[str, Json]:
        kind = schema.get("type")
        return {**schema, "type": [kind, "string"]} if kind == "integer" and isinstance(values[0], str) else schema

    return _with_schemas(task, widened)


def _no_accepted_value(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    return _with_arguments(
        task,
        lambda call, tool: {
            name: value if value["any_of"] else {"any_of": [[]]} for name, value in call.arguments.items()
        },
    )


def _overlapping_values(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    def first(call: ToolCall, tool: ToolSpec) -> dict[str, Json]:
        return {
            name: {"any_of": value["any_of"][:1]} if name == "company_name" else value
            for name, value in call.arguments.items()
        }

    return _with_arguments(task, first)


def _held_back_call(task: Task, every_tool: Mapping[str, ToolSpec]) -> Task:
    offered = {tool.name for tool in task.tools}
    called = dict.fromkeys(call.name for call in task.reference or ())
    return replace(task, tools=(*task.tools, *(every_tool[name] for name in called if name not in offered)))


_MENDERS: Mapping[str, Callable[[Task, Mapping[str, ToolSpec]], Task]] = {
    "undocumented_argument": _undocumented_argument,
    "renamed_argument": _renamed_argument,
    "value_for_text": _value_for_text,
    "enum_spelling": _enum_spelling,
    "outside_enum": _outside_enum,
    "other_elements": _other_elements,
    "variable": _variable,
    "text_for_number": _text_for_number,
    "no_accepted_value": _no_accepted_value,
    "overlapping_values": _overlapping_values,
    "held_back_call": _held_back_call,
}


def _calls(task: Task) -> Iterator[tuple[ToolCall, ToolSpec]]:
    tools = {tool.name: tool for tool in task.tools}
    for call in task.reference or ():
        yield call, tools[call.name]


def _with_arguments(task: Task, change: Callable[[ToolCall, ToolSpec], dict[str, Json]]) -> Task:
    return replace(task, reference=tuple(replace(call, arguments=change(call, tool)) for call, tool in _calls(task)))


def _with_values(task: Task, change: Callable[[Json, Mapping[str, Json]], Json]) -> Task:
    """Each accepted value changed, given the schema of its parameter."""
    return _with_arguments(
        task,
        lambda call, tool: {
            name: {"any_of": [change(item, tool.properties[name]) for item in value["any_of"]]}
            for name, value in call.arguments.items()
        },
    )


def _with_schemas(task: Task, change: Callable[[Mapping[str, Json], list[Json]], Mapping[str, Json]]) -> Task:
    """The schema of each parameter that the reference gives changed, given the accepted values."""
    tools = {tool.name: tool for tool in task.tools}
    for call in task.reference or ():
        tool = tools[call.name]
        properties = {
            name: change(schema, _values(call.arguments[name])) if name in call.arguments else schema
            for name, schema in tool.properties.items()
        }
        tools[call.name] = replace(tool, parameters={**tool.parameters, "properties": properties})
    return replace(task, tools=tuple(tools[tool.name] for tool in task.tools))


def _values(accepted: Json) -> list[Json]:
    """The accepted values of an argument, which in multi-turn records is one plain value."""
    return accepted["any_of"] if isinstance(accepted, Mapping) and "any_of" in accepted else [accepted]
