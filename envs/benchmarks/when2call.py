"""When2Call (the subset for an LLM judge) -> tasks.

What the records say, and how it is told here:

- tool_call: the call of the fixed reply is right; it is the reference, with its values.
- request_for_info: a required value was removed from the question: talk_to_user for it is due. What to call after the
  answer is not judged by the benchmark, so the reference ends with the question. In two records the question still says
  the value: there no reference is known, and the published metric keeps its label.
- cannot_answer: the tool that served the question was taken away: change_tools is due.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.dialects import parameters
from envs.benchmarks.faults import DOCUMENT_REFUSES_GOLD, WHAT_IS_DONE, with_free_parameter
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

BEHAVIOURS = ("direct", "tool_call", "request_for_info", "cannot_answer")
"""What a reply can be; `direct` is never right in this subset."""

_REFUSED: Mapping[str, str] = {"28791150-19aa-4caa-ae18-a712a672ba65": "genre"}
"""The parameter whose document refuses the gold, by record."""
_VALUE_LEFT = frozenset({"024a4c20-fd3b-4f09-9f72-5e2c937e2037", "f2cefc0f-6e37-4cee-b54b-2236ace24beb"})
"""Records of request_for_info whose question still says the value that was to be removed."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks whose right behaviour is `subset`, from the folder that holds `when2call_test_llm_judge`.

    Raises:
        ValueError: no such subset or file, or a record that is wrong: `FILE:LINE: what, expected`.
    """
    if subset not in BENCHMARK.subsets:
        raise ValueError(f"subset {subset!r}: expected one of {', '.join(BENCHMARK.subsets)}")
    for where, record in read_records(find_file(folder, "when2call_test_llm_judge")):
        if field(where, record, "correct_answer", str) == subset:
            yield _task(where, record)


def _task(where: str, record: Mapping[str, Json]) -> Task:
    answers = field(where, record, "answers", dict)
    behaviour = record["correct_answer"]
    kind, reference = _reference(where, behaviour, answers, record.get("held_out_param"))
    task = Task(
        task_id=f"when2call/{behaviour}/{record['uuid']}",
        prompt=(Message(role="user", content=field(where, record, "question", str)),),
        tools=proved(where, (_tool(where, text) for text in field(where, record, "tools", list))),
        reference=reference,
        kind=kind,
        facts={
            "benchmark": {
                "uuid": record["uuid"],
                "source_id": record.get("source_id"),
                "correct_answer": behaviour,
                "answers": answers,
                "held_out_param": record.get("held_out_param"),
            }
        },
    )
    if record["uuid"] in _VALUE_LEFT:
        return replace(task, reference=None, kind=TaskKind.SINGLE, facts={**task.facts, "gold_fault": "value_left"})
    return with_free_parameter(task, _REFUSED[record["uuid"]]) if record["uuid"] in _REFUSED else task


def _tool(where: str, text: Json) -> ToolSpec:
    document = _json(where, text, "tool")
    return ToolSpec(
        name=field(where, document, "name", str),
        description=document.get("description") or "",
        parameters=parameters(document.get("parameters")),
    )


def _reference(
    where: str, behaviour: str, answers: Mapping[str, Json], held_out: str | None
) -> tuple[TaskKind, tuple[ToolCall, ...]]:
    if behaviour == "request_for_info":
        return TaskKind.MISSING_ARGUMENT, (ToolCall(name=TALK_TO_USER, arguments={"missing": [held_out]}),)
    if behaviour == "cannot_answer":
        return TaskKind.UNMATCHED_TOOLS, (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    return TaskKind.SINGLE, (fixed_call(where, answers),)


def fixed_call(where: str, answers: Mapping[str, Json]) -> ToolCall:
    """The call of the fixed reply `tool_call`.

    Raises:
        ValueError: it is none.
    """
    call = _json(where, answers.get("tool_call"), "the reply tool_call")
    return ToolCall(name=field(where, call, "name", str), arguments=field(where, call, "arguments", dict))


def _json(where: str, text: Json, what: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {what} is not JSON ({error}); expected a JSON object as text") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {what} is {type(value).__name__}, expected a JSON object as text")
    return value


BENCHMARK = Benchmark(
    name="when2call",
    subsets=("tool_call", "request_for_info", "cannot_answer"),
    read=read,
    gold_faults={
        DOCUMENT_REFUSES_GOLD: WHAT_IS_DONE,
        "value_left": "the question still says the value that was to be removed from it: the reference is unknown",
    },
)
