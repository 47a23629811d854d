"""StableToolBench (arXiv 2403.07714): solvable ToolBench queries with candidate APIs, and GPT-3.5 traces.

Only the set of needed APIs is known, no call with arguments and no answer: the reference is unknown.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from envs.benchmarks.cut_json import complete_pairs
from envs.benchmarks.dialects import json_schema
from envs.benchmarks.dialogues import Dialogue, to_openai
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.toolbench import (
    FINISH,
    GIVE_ANSWER,
    RESTART,
    finish_tool,
    from_actions,
    offered,
    relevant,
    to_actions,
)
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, ToolCall, ToolSpec

NAME = "stabletoolbench"
SUBSETS = ("G1_instruction", "G1_category", "G1_tool", "G2_instruction", "G2_category", "G3_instruction")
TRACES = "traces_gpt-3.5-turbo_CoT"
KIND = "solvable"
FINISH_TOOL = finish_tool(GIVE_ANSWER, RESTART)

_CALL = re.compile(r"\{'name': (?P<name>'[^']*'|\"[^\"]*\"), 'arguments': ")
_ARGUMENTS_CUT = ("missing_argument", "duplicate_call")
"""What stands complete before a cut is judged; what would stand behind it is not."""
_RESULTS_CUT = ("duplicate_call", "ungrounded_value", "ungrounded_answer")


def read(folder: Path, subset: str) -> Iterator[Task]:
    """The queries of one subset."""
    for where, record in read_records(find_file(folder, subset)):
        yield _task(where, subset, record)


def _task(where: str, subset: str, record: Mapping[str, Json]) -> Task:
    return Task(
        task_id=f"{NAME}/{subset}/{record.get('query_id')}",
        prompt=(Message(role="user", content=field(where, record, "query", str)),),
        tools=offered(where, record, FINISH_TOOL),
        kind=KIND,
        facts={"benchmark": {"relevant": list(relevant(where, record))}},
    )


def traces(folder: Path) -> Iterator[Dialogue]:
    """The recorded GPT-3.5 episodes, in the order of SUBSETS and of the files.

    Raises:
        ValueError: a record is not as the data's README says; `FILE:LINE: what, expected`.
    """
    for subset in SUBSETS:
        for where, record in read_records(find_file(folder / TRACES, subset)):
            yield _trace(where, subset, record)


def _trace(where: str, subset: str, record: Mapping[str, Json]) -> Dialogue:
    query = field(where, record, "query", str)
    answer = field(where, record, "answer", dict)
    tools = proved(where, map(_tool, field(where, record, "available_tools", list)))
    conversation = _Conversation(query)
    for step in _steps(where, field(where, answer, "answer_details", list)):
        if step["role"] == "assistant":
            conversation.say(step["message"])
        elif step["role"] == "tool":
            conversation.call(where, step["message"], answer.get("final_answer") or "")
    conversation.end()
    task = Task(
        task_id=f"{NAME}/{subset}/{record.get('key')}",
        prompt=(Message(role="user", content=query),),
        tools=tools,
        kind=KIND,
        facts={
            "benchmark": {"recorded": {"final_answer": answer.get("final_answer") or ""}},
            "gold_fault": "cut",
            "unjudged": conversation.unjudged,
        },
    )
    return Dialogue(task=task, messages=tuple(conversation.messages), tools=tools)


def _tool(value: Mapping[str, Json]) -> ToolSpec:
    """A function as it was offered, but NUMBER, the only type that ToolBench declares integer, is a number."""
    tool = ToolSpec.from_json(value)
    properties = {name: json_schema(_parameter(schema)) for name, schema in tool.properties.items()}
    return replace(tool, parameters={"type": "object", "properties": properties, "required": list(tool.required)})


def _parameter(schema: Mapping[str, Json]) -> dict[str, Json]:
    found = {name: value for name, value in schema.items() if name != "example_value"}
    if found.get("type") == "integer":
        found["type"] = "number"
    if schema.get("example_value") not in (None, ""):
        found["examples"] = [schema["example_value"]]
    return found


def _steps(where: str, chain: Json) -> Iterator[dict[str, str]]:
    """The single path through nested `next` lists."""
    while chain:
        if len(chain) != 1 or not isinstance(chain[0], dict) or not {"role", "message", "next"} <= chain[0].keys():
            raise ValueError(f"{where}: answer_details branches or lacks a field, expected one {{role, message, next}}")
        yield chain[0]
        chain = chain[0]["next"]


class _Conversation:
    """The messages of a chain, in OpenAI form, and what its cuts leave open."""

    def __init__(self, query: str) -> None:
        self.messages: list[dict[str, Json]] = [{"role": "user", "content": query}]
        self.unjudged: list[dict[str, Json]] = []
        self._said: str | None = None
        self._num_turns = 0

    def say(self, text: str) -> None:
        self.end()
        self._said = text

    def end(self) -> None:
        """A thought that no call followed is a message of its own."""
        if self._said is not None:
            self._add(Message(role="assistant", content=self._said))
            self._num_turns += 1
        self._said = None

    def call(self, where: str, text: str, final_answer: str) -> None:
        name, written, response = _read_call(where, text)
        if name == FINISH and final_answer.startswith(written):
            # The call that ended the chain stands uncut in a field of its own.
            written = final_answer
        arguments, whole = complete_pairs(written)
        call_id = f"call_{self._num_turns}"
        call = ToolCall(call_id=call_id, name=name, arguments=arguments)
        self._add(Message(role="assistant", content=self._said or "", calls=(call,)))
        self._add(Message(role="tool", content=response, call_id=call_id))
        kinds = {*(() if whole else _ARGUMENTS_CUT), *(_RESULTS_CUT if self._num_turns else ())}
        if kinds:
            self.unjudged.append({"turn": self._num_turns, "call": 0, "kinds": sorted(kinds)})
        self._said = None
        self._num_turns += 1

    def _add(self, message: Message) -> None:
        self.messages.append(to_openai(message))


def _read_call(where: str, text: str) -> tuple[str, str, str]:
    """Name, arguments and response as far as the text of the Python dict goes."""
    match = _CALL.match(text)
    if match is None:
        raise ValueError(f"{where}: tool message {text!r}, expected {{'name': ..., 'arguments': ...")
    arguments, rest = _literal(text[match.end() :])
    _, mark, response = rest.partition("'response': ")
    return ast.literal_eval(match["name"]), arguments, _literal(response)[0] if mark else ""


def _literal(text: str) -> tuple[str, str]:
    """The Python string at the start of `text`, up to where it is cut, and what follows it."""
    quote = text[:1]
    match = re.match(rf"{quote}(?:[^{quote}\\]|\\.)*", text, re.DOTALL) if quote in ("'", '"') else None
    if match is None:
        return "", ""
    whole = text[match.end() : match.end() + 1] == quote
    body = match[0]
    while True:
        try:
            return ast.literal_eval(body + quote), text[match.end() + 1 :] if whole else ""
        except SyntaxError:
            # An escape such as \u00e9 may be cut in its middle.
            body = body[:-1]


BENCHMARK = Benchmark(
    name=NAME,
    subsets=SUBSETS,
    read=read,
    traces=traces,
    to_actions=to_actions,
    from_actions=from_actions,
    gold_faults={
        "cut": "messages of the traces are cut after 100 characters: complete arguments are kept, and what a cut "
        "leaves open about a call is named in facts[unjudged] and not judged",
        "finish_not_json": "some calls of Finish are no JSON: what stands before the fault is kept, as ToolBench "
        "searches the text for the return_type",
        "number_as_integer": "ToolBench declares NUMBER as integer, for latitudes too: here it is a number",
        "one_name_twice": "several APIs with one function name: the first is offered",
    },
    uncounted_faults=frozenset({"finish_not_json", "number_as_integer", "one_name_twice"}),
)
