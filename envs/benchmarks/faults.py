"""A fault of gold that several benchmarks have: the function document refuses what the gold gives."""

from __future__ import annotations

from dataclasses import replace

from envs.types import Task

DOCUMENT_REFUSES_GOLD = "document_refuses_gold"
WHAT_IS_DONE = "the document refuses what the gold gives, or lacks, for a parameter: in that record it takes any value"


def with_free_parameter(task: Task, parameter: str) -> Task:
    """The task with `parameter` of the tools that its reference calls free of constraints, and the fault named.

    Where the reference does not give it, it is not required either.
    """
    given = {call.name: call.arguments for call in task.reference or ()}
    tools = []
    for tool in task.tools:
        if tool.name in given and parameter in tool.properties:
            free = {key: item for key, item in tool.properties[parameter].items() if key == "description"}
            required = [name for name in tool.required if name != parameter or parameter in given[tool.name]]
            properties = {**tool.properties, parameter: free}
            tool = replace(tool, parameters={**tool.parameters, "properties": properties, "required": required})
        tools.append(tool)
    return replace(task, tools=tuple(tools), facts={**task.facts, "gold_fault": DOCUMENT_REFUSES_GOLD})
