"""MetaTool: whether a tool is needed, and which (arXiv 2310.03128).

`awareness` (Task 1) asks in words whether a tool is needed; no tool is offered and there is no reference. `reliability`
(Task 2, subtask 3) offers ten tools without the right one, so that no call is right; `multi_tool` (subtask 4) offers
ten tools of which exactly two are right. Tools have no parameters. The prompt of a selection task is the query, and the
tools are offered as tools; `facts["benchmark"]["published_prompt"]` is the prompt in words that the benchmark gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

_FILES = {"awareness": "Task1", "reliability": "Task2-Subtask3", "multi_tool": "Task2-Subtask4"}
_START = "[List of Tools with Names and Descriptions Start]\n"
_LISTED = re.compile(r"^\d+\. tool name: (?P<name>.*?), tool description: (?P<description>.*)$", re.MULTILINE)


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of `awareness`, `reliability` or `multi_tool`."""
    make = _awareness if subset == "awareness" else _selection
    for number, (where, record) in enumerate(read_records(find_file(folder, _FILES[subset]))):
        yield make(where, record, f"metatool/{subset}/{number}")


def _awareness(where: str, record: Mapping[str, Json], task_id: str) -> Task:
    label = field(where, record, "label", str)
    if label not in ("positive", "negative"):
        raise ValueError(f"{where}: label {label!r}, expected positive or negative")
    return Task(
        task_id=task_id,
        prompt=(Message(role="user", content=field(where, record, "thought_prompt", str)),),
        tools=(),
        kind="awareness",
        facts={"benchmark": {"needs_tool": label == "positive", "query": record["query"]}},
    )


def _selection(where: str, record: Mapping[str, Json], task_id: str) -> Task:
    prompt = field(where, record, "action_prompt", str)
    listed = prompt.partition(_START)[2]
    tools = proved(where, (_tool(match) for match in _LISTED.finditer(listed)))
    right = record["tool"] if isinstance(record["tool"], list) else []
    names = {tool.name for tool in tools}
    if not names:
        raise ValueError(
            f"{where}: no tools in action_prompt, expected lines `1. tool name: ..., tool description: ...`"
        )
    if not names >= set(right):
        raise ValueError(f"{where}: {right} are not all listed, expected the right tools among {sorted(names)}")
    return Task(
        task_id=task_id,
        prompt=(Message(role="user", content=field(where, record, "query", str)),),
        tools=tools,
        reference=tuple(ToolCall(name=name, arguments={}) for name in right),
        kind=TaskKind.PARALLEL if right else TaskKind.UNMATCHED_TOOLS,
        facts={"benchmark": {"right": right, "published_prompt": prompt}},
    )


def _tool(match: re.Match[str]) -> ToolSpec:
    # A list of one text, as Python writes it, is what most descriptions are.
    description = match["description"].removeprefix("['").removeprefix('["').removesuffix("']").removesuffix('"]')
    return ToolSpec(name=match["name"], description=description)


BENCHMARK = Benchmark(name="metatool", subsets=tuple(_FILES), read=read)
