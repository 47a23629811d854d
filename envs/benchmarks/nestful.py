"""NESTFUL, first release: nested sequences of calls as one plan (arXiv 2409.03797).

Each call of the plan has a label (var1, var2, ...), and a later call names a field of an earlier result as
`$var1.field$`. The reference keeps these texts: they are what the policy has to write, as no tool is carried out, and
they are compared as texts. As labels count the calls, a plan that holds one is judged in order. Parameters that are no
plain text accept a label too (`labels.open_to_labels`). The pseudo call `var_result` that ends each gold plan names
what the answer is made of; it is no tool, and neither the reference nor the metric has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.benchmarks.dialects import json_schema
from envs.benchmarks.gold import UNLISTED_TOOL, contradiction, only
from envs.benchmarks.labels import open_to_labels
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

LABEL = r"\$var\d+(\.[^$]+)?\$"
PROMPT = (
    "Plan all calls that the request needs, in one reply. The results of the calls are labelled var1, var2, ... in the "
    "order of the calls. Where an argument is a field of an earlier result, write $var1.field$ with its label and the "
    "name of the field."
)
_STEMS = {
    "executable": "executable",
    "glaive": "non-executable-glaive",
    "sgd": "non-executable-sgd",
}
_PARAMETERS = ("query_parameters", "path_parameters", "parameters", "arguments")
_KEPT = ("type", "description", "items", "properties", "enum", "default", "format")


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of `executable`, `glaive` or `sgd`; each offers all tools of its group."""
    stem = _STEMS[subset]
    path = find_file(folder, f"{stem}-spec")
    tools = proved(str(path), (_tool(where, document) for where, document in read_records(path)))
    for number, (where, record) in enumerate(read_records(find_file(folder, f"{stem}-data"))):
        yield _task(where, record, f"nestful/{subset}/{number}", tools)


def _tool(where: str, document: Mapping[str, Json]) -> ToolSpec:
    described: dict[str, Mapping[str, Json]] = {}
    for name in _PARAMETERS:
        described |= document.get(name) or {}
    parameters = json_schema(
        {
            "type": "object",
            "properties": {name: _parameter(value) for name, value in described.items()},
            "required": [name for name, value in described.items() if value.get("required") is True],
        }
    )
    fields = ", ".join(document.get("output_parameters") or {})
    description = field(where, document, "description", str)
    return ToolSpec(
        name=field(where, document, "name", str),
        description=f"{description} Result: {fields}." if fields else description,
        parameters=open_to_labels(parameters, LABEL),
    )


def _parameter(document: Mapping[str, Json]) -> dict[str, Json]:
    """One parameter: each group has its own words for allowed values and defaults."""
    found = {name: document[name] for name in _KEPT if name in document}
    allowed = document.get("allowed_values") or document.get("possible_values")
    if isinstance(allowed, list):
        found["enum"] = allowed
    if "default_value" in document:
        found["default"] = document["default_value"]
    return found


def _task(where: str, record: Mapping[str, Json], task_id: str, tools: tuple[ToolSpec, ...]) -> Task:
    plan = [call for call in field(where, record, "output", list) if call["name"] != "var_result"]
    gold = tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in plan)
    fault = contradiction(gold, tools)
    if fault is None and [call["label"] for call in plan] != [f"var{number + 1}" for number in range(len(plan))]:
        fault = "repeated_label"
    has_label = any("$var" in json.dumps(dict(call.arguments)) for call in gold)
    return Task(
        task_id=task_id,
        prompt=(Message(role="system", content=PROMPT), Message(role="user", content=record["input"])),
        tools=tools,
        reference=None if fault == UNLISTED_TOOL else gold,
        ordered=has_label,
        kind=TaskKind.CHAIN if has_label else TaskKind.PARALLEL if len(gold) > 1 else TaskKind.SINGLE,
        facts={
            "benchmark": {"gold": [{"name": call.name, "arguments": dict(call.arguments)} for call in gold]},
            **({"gold_fault": fault} if fault else {}),
        },
    )


BENCHMARK = Benchmark(
    name="nestful",
    subsets=tuple(_STEMS),
    read=read,
    gold_faults={
        **only(UNLISTED_TOOL, "missing_argument", "unknown_argument", "bad_type", "bad_enum"),
        "repeated_label": "two calls of the gold plan have one label, so that its references are ambiguous: kept",
    },
)
