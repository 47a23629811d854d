"""Seal-Tools: a whole plan of calls at once, some of which need the result of an earlier one (arXiv 2405.08355).

The results of the plan are labelled API_call_0, API_call_1, ... in the order of the calls, as many for each call as its
document lists responses; a later call names the label where it needs the value. The reference keeps the labels: they
are what the policy has to write, and they are compared as texts. As they count the calls, a plan that holds one is
judged in order. Parameters that are no plain text accept a label too (`labels.open_to_labels`).
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

LABEL = r"API_call_\d+"
PROMPT = (
    "Plan all calls that the request needs, in one reply. The results of the calls are labelled API_call_0, "
    "API_call_1, ... in the order of the calls; a call has as many labels as its tool lists results. Where an argument "
    "is a result of an earlier call, write its label."
)


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of `dev`, `test_in_domain` or `test_out_domain`; the tools are the candidates of each record."""
    documents = {
        field(where, record, "api_name", str): _tool(record)
        for where, record in read_records(find_file(folder, "tool"))
    }
    offered = {
        record["id"]: record["candidates"] for _, record in read_records(find_file(folder, f"candidates_{subset}"))
    }
    for where, record in read_records(find_file(folder, subset)):
        name = field(where, record, "id", str)
        if name not in offered:
            raise ValueError(f"{where}: {name} has no candidates, expected them in candidates_{subset}")
        unknown = [tool for tool in offered[name] if tool not in documents]
        if unknown:
            raise ValueError(f"{where}: candidate {unknown[0]} has no document, expected one in tool")
        yield _task(where, record, f"seal_tools/{subset}/{name}", [documents[tool] for tool in offered[name]])


def _tool(document: Mapping[str, Json]) -> ToolSpec:
    properties = {
        # Some documents have further keys (examples, unit) in forms of their own.
        name: {key: value for key, value in schema.items() if key in ("type", "description")}
        for name, schema in document["parameters"].items()
    }
    required = [name for name in document.get("required") or () if name in properties]
    parameters = json_schema({"type": "object", "properties": properties, "required": required})
    results = ", ".join(document.get("responses") or {})
    return ToolSpec(
        name=document["api_name"],
        description=f"{document['api_description']} Results: {results}." if results else document["api_description"],
        parameters=open_to_labels(parameters, LABEL),
    )


def _task(where: str, record: Mapping[str, Json], task_id: str, candidates: list[ToolSpec]) -> Task:
    tools = proved(where, iter(candidates))
    gold = field(where, record, "calling", list)
    published = [ToolCall(name=call["api"], arguments=call["parameters"]) for call in gold]
    reference = [_typed(call, tools) for call in published]
    fault = contradiction(reference, tools)
    if fault is None and reference != published:
        fault = "number_as_text"
    has_label = any("API_call_" in json.dumps(dict(call.arguments)) for call in reference)
    return Task(
        task_id=task_id,
        prompt=(Message(role="system", content=PROMPT), Message(role="user", content=record["query"])),
        tools=tools,
        reference=None if fault == UNLISTED_TOOL else tuple(reference),
        ordered=has_label,
        kind=TaskKind.CHAIN if has_label else TaskKind.PARALLEL if len(reference) > 1 else TaskKind.SINGLE,
        facts={
            "benchmark": {
                "gold": [{"name": call.name, "arguments": dict(call.arguments)} for call in published],
                "difficulty": "easy" if "-easy-" in record["id"] else "difficult",
            },
            **({"gold_fault": fault} if fault else {}),
        },
    )


def _typed(call: ToolCall, tools: tuple[ToolSpec, ...]) -> ToolCall:
    """The gold call with numbers that are written as texts as numbers, where the document asks for a number."""
    properties = next((tool.properties for tool in tools if tool.name == call.name), {})
    return ToolCall(
        name=call.name,
        arguments={name: _number(value, properties.get(name)) for name, value in call.arguments.items()},
    )


def _number(value: Json, schema: Json) -> Json:
    kind = schema.get("else", schema).get("type") if isinstance(schema, Mapping) else None
    if isinstance(value, str) and kind in ("integer", "number"):
        try:
            found = json.loads(value)
        except json.JSONDecodeError:
            return value
        return found if isinstance(found, (int, float)) and not isinstance(found, bool) else value
    return value


BENCHMARK = Benchmark(
    name="seal_tools",
    subsets=("dev", "test_in_domain", "test_out_domain"),
    read=read,
    gold_faults={
        **only(UNLISTED_TOOL, "bad_type"),
        "number_as_text": "a gold number is written as a text: the reference has the number",
    },
)
