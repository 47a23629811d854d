"""RelyToolBench (Relign, arXiv 2412.04141): StableToolBench queries, as they are and made unsolvable in two ways.

Nine subsets, FAMILY_CONDITION. Unmatched: the query with the tools of another one, so change_tools is due. Missing:
the tools with a query out of which an LLM took the values, so talk_to_user is due. What is known of the labels' noise
(A.5 of the released data, measured) is handled by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.records import field, find_file, read_records
from envs.benchmarks.toolbench import (
    GIVE_ANSWER,
    GIVE_UP_CHANGE_TOOLS,
    GIVE_UP_TALK_TO_USER,
    RESTART,
    finish_tool,
    from_actions,
    offered,
    relevant,
    to_actions,
)
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

NAME = "relytoolbench"
FAMILIES: Mapping[str, str] = {"G1": "G1_instruction", "G2": "G2_category", "G3": "G3_instruction"}
CONDITIONS: Mapping[str, str] = {
    "solvable": "",
    "missing": "_missing_all_arguments",
    "unmatched": "_with_unmatched_tools",
}
SUBSETS = tuple(f"{family}_{condition}" for family in FAMILIES for condition in CONDITIONS)
SOLVABLE, PARTLY_SOLVABLE = "solvable", "partly_solvable"
FINISH_TOOL = finish_tool(GIVE_ANSWER, RESTART, GIVE_UP_CHANGE_TOOLS, GIVE_UP_TALK_TO_USER)

_DUE: Mapping[str, tuple[ToolCall, ...]] = {
    TaskKind.UNMATCHED_TOOLS: (ToolCall(name=CHANGE_TOOLS, arguments={}),),
    # Which values are missing is not recorded: every question is right.
    TaskKind.MISSING_ARGUMENT: (ToolCall(name=TALK_TO_USER, arguments={}),),
}


def read(folder: Path, subset: str) -> Iterator[Task]:
    """The tasks of one family under one condition.

    The solvable queries lie in the same folder or, as they are StableToolBench's, in `stabletoolbench` beside it.
    """
    family, _, condition = subset.partition("_")
    stem = FAMILIES[family] + CONDITIONS[condition]
    for where, record in read_records(_file(folder, stem, condition)):
        yield _task(where, subset, condition, record)


def _file(folder: Path, stem: str, condition: str) -> Path:
    if condition != "solvable":
        return find_file(folder, stem)
    try:
        return find_file(folder, stem)
    except ValueError:
        return find_file(folder.parent / "stabletoolbench", stem)


def _task(where: str, subset: str, condition: str, record: Mapping[str, Json]) -> Task:
    tools = offered(where, record, FINISH_TOOL)
    needed = relevant(where, record)
    kind, fault = _kind(condition, tools, needed)
    facts: dict[str, Json] = {"benchmark": {"condition": condition, "relevant": list(needed)}}
    if fault:
        facts["gold_fault"] = fault
    return Task(
        task_id=f"{NAME}/{subset}/{record.get('query_id')}",
        prompt=(Message(role="user", content=field(where, record, "query", str)),),
        tools=tools,
        reference=_DUE.get(kind),
        kind=kind,
        facts=facts,
    )


def _kind(condition: str, tools: Sequence[ToolSpec], needed: Sequence[str]) -> tuple[str, str]:
    """What the task truly is, and the fault of its label."""
    by_name = {tool.name: tool for tool in tools}
    listed = [by_name[name] for name in needed if name in by_name]
    if condition == "unmatched":
        if not listed:
            return TaskKind.UNMATCHED_TOOLS, ""
        if len(listed) == len(needed):
            return SOLVABLE, "unmatched_all_relevant_listed"
        return PARTLY_SOLVABLE, "unmatched_some_relevant_listed"
    if condition == "missing":
        if all(tool.required for tool in listed):
            return TaskKind.MISSING_ARGUMENT, ""
        return PARTLY_SOLVABLE, "missing_but_some_relevant_needs_nothing"
    return SOLVABLE, ""


BENCHMARK = Benchmark(
    name=NAME,
    subsets=SUBSETS,
    read=read,
    to_actions=to_actions,
    from_actions=from_actions,
    gold_faults={
        "unmatched_all_relevant_listed": "all needed APIs are in the 'unmatched' list: the task is solvable in truth, "
        "no deferral is due",
        "unmatched_some_relevant_listed": "some needed APIs are in the 'unmatched' list: partly solvable, no deferral "
        "is due before every call",
        "missing_but_some_relevant_needs_nothing": "a needed API has no required parameter, so it can be called before "
        "the user is asked: partly solvable, no deferral is due before every call",
        "missing_value_left": "the rewriting left a value in some queries; nothing in the record says which, so these "
        "count as missing_argument",
        "missing_value_in_schema": "the schema shows an example of most missing values: an example never grounds a "
        "required argument of a missing-argument task",
        "number_as_integer": "ToolBench declares NUMBER as integer: here it is a number",
        "one_name_twice": "several APIs with one function name: the first is offered",
    },
    uncounted_faults=frozenset(
        {"missing_value_left", "missing_value_in_schema", "number_as_integer", "one_name_twice"}
    ),
)
