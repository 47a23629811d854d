"""tau-bench (arXiv 2406.12045): airline tasks, and GPT-4o episodes with the reward that was computed from them.

The gold calls of a task say which final state of the database is right. Reading calls may be made freely, so they are
no reference of what to call: the reference is unknown, and the gold calls stand in `facts["benchmark"]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.benchmarks.dialogues import Dialogue
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, ToolSpec

NAME = "tau_bench"
SUBSETS = ("airline",)
KIND = "dialogue"
WRITING = {
    "airline": (
        "book_reservation", "cancel_reservation", "send_certificate", "update_reservation_baggages",
        "update_reservation_flights", "update_reservation_passengers",
    ),
}  # fmt: skip
"""The tools that change the database, by domain; all others read, compute or end the dialogue."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Each task once: the policy of the domain and the opening words of the user in the first recorded trial."""
    seen: set[int] = set()
    for trace in _traces(folder, subset):
        facts = dict(trace.task.facts["benchmark"])
        if facts["task"] in seen:
            continue
        seen.add(facts["task"])
        del facts["recorded"]
        yield Task(
            task_id=f"{NAME}/{subset}/{facts['task']}",
            prompt=trace.task.prompt,
            tools=trace.tools,
            kind=KIND,
            facts={"benchmark": facts},
        )


def traces(folder: Path) -> Iterator[Dialogue]:
    """The recorded GPT-4o episodes in file order; task ids are NAME/SUBSET/TASK-TRIAL.

    Raises:
        ValueError: a record is not as the data's README says; `FILE:LINE: what, expected`.
    """
    for subset in SUBSETS:
        yield from _traces(folder, subset)


def _traces(folder: Path, domain: str) -> Iterator[Dialogue]:
    tools = proved(f"tools_{domain}", map(_tool, read_tools(folder, domain)))
    for where, record in read_records(find_file(folder, f"gpt-4o-{domain}")):
        messages = field(where, record, "traj", list)
        gold = field(where, field(where, record, "info", dict), "task", dict)
        roles = [message.get("role") if isinstance(message, Mapping) else None for message in messages]
        if roles[:3] != ["system", "user", "assistant"]:
            raise ValueError(f"{where}: traj begins with {roles[:3]}, expected system, user, assistant")
        number, trial = field(where, record, "task_id", int), field(where, record, "trial", int)
        task = Task(
            task_id=f"{NAME}/{domain}/{number}-{trial}",
            prompt=tuple(Message(role=message["role"], content=message["content"]) for message in messages[:2]),
            tools=tools,
            kind=KIND,
            facts={
                "benchmark": {
                    "task": number,
                    "actions": [
                        {"name": action["name"], "arguments": action["kwargs"]}
                        for action in field(where, gold, "actions", list)
                    ],
                    "outputs": field(where, gold, "outputs", list),
                    "writing": list(WRITING[domain]),
                    "recorded": {"reward": field(where, record, "reward", float)},
                },
            },
        )
        yield Dialogue(task=task, messages=tuple(map(_marked, messages)), tools=tools)


def _marked(message: Mapping[str, Json]) -> Mapping[str, Json]:
    """A result that begins with "Error" is that of a call that failed."""
    failed = message["role"] == "tool" and str(message.get("content")).startswith("Error")
    return {**message, "status": "failed"} if failed else message


def read_tools(folder: Path, domain: str) -> Iterator[Mapping[str, Json]]:
    """The function documents of a domain."""
    return (record for _, record in read_records(find_file(folder, f"tools_{domain}")))


def _tool(value: Mapping[str, Json]) -> ToolSpec:
    return ToolSpec.from_json(value)


BENCHMARK = Benchmark(name=NAME, subsets=SUBSETS, read=read, traces=traces)
