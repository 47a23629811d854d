"""The records of message space: messages, tool calls, tools, tasks and steps. Read this file first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal

from envs.record import record

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

Role = Literal["system", "user", "assistant", "tool"]


class ToolStatus(StrEnum):
    """What became of one call. A fact stated by the environment, not a judgement."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


class TaskKind(StrEnum):
    """What a task asks of the policy."""

    SINGLE = "single"
    """One call serves the request."""
    CHAIN = "chain"
    """A later call needs a value from an earlier result."""
    PARALLEL = "parallel"
    """Several independent calls."""
    MISSING_ARGUMENT = "missing_argument"
    """A required value was not given: talk_to_user, then the call."""
    UNMATCHED_TOOLS = "unmatched_tools"
    """No offered tool serves: change_tools, then the call if a serving tool comes."""


@record
class ToolSpec:
    """A tool as it is offered to the policy."""

    name: str
    description: str = ""
    parameters: Mapping[str, Json] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments object."""

    @property
    def properties(self) -> Mapping[str, Json]:
        """Schema of each parameter, by name."""
        return self.parameters.get("properties", {})

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the parameters that must be given."""
        return tuple(self.parameters.get("required", ()))

    def to_json(self) -> dict[str, Json]:
        """The bare OpenAI function schema."""
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> ToolSpec:
        """Accept the function schema bare or wrapped as {"type": "function", "function": ...}."""
        function = value.get("function", value)
        return cls(
            name=function["name"],
            description=function.get("description") or "",
            parameters=function.get("parameters") or {"type": "object", "properties": {}},
        )


@record
class ToolCall:
    """A call that could be parsed. It may still name a tool that does not exist."""

    name: str
    arguments: Mapping[str, Json]
    call_id: str = ""

    def to_json(self) -> dict[str, Json]:
        """As {"call_id", "name", "arguments"}."""
        return {"call_id": self.call_id, "name": self.name, "arguments": dict(self.arguments)}


@record
class MalformedCall:
    """Text that was meant as a call and could not be parsed."""

    text: str
    reason: str
    call_id: str = ""

    def to_json(self) -> dict[str, Json]:
        """As {"call_id", "text", "reason"}."""
        return {"call_id": self.call_id, "text": self.text, "reason": self.reason}


Call = ToolCall | MalformedCall


def call_from_json(value: Mapping[str, Json]) -> Call:
    """Inverse of the `to_json` of both kinds of call."""
    if "name" in value:
        arguments = value.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        return ToolCall(call_id=value.get("call_id", ""), name=value["name"], arguments=arguments)
    return MalformedCall(call_id=value.get("call_id", ""), text=value["text"], reason=value["reason"])


@record
class Message:
    """One message of a conversation."""

    role: Role
    content: str = ""
    calls: tuple[Call, ...] = ()
    """Calls of an assistant message, in the order they were written."""
    call_id: str = ""
    """For a tool message: the call it answers."""

    def to_json(self) -> dict[str, Json]:
        """As {"role", "content"} with "calls" and "call_id" where they are set."""
        value: dict[str, Json] = {"role": self.role, "content": self.content}
        if self.calls:
            value["calls"] = [call.to_json() for call in self.calls]
        if self.call_id:
            value["call_id"] = self.call_id
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Message:
        """Inverse of `to_json`."""
        return cls(
            role=value["role"],
            content=value.get("content") or "",
            calls=tuple(call_from_json(call) for call in value.get("calls", ())),
            call_id=value.get("call_id", ""),
        )


@record
class ToolResult:
    """What the environment answered to one call."""

    call_id: str
    status: ToolStatus
    content: str

    def to_json(self) -> dict[str, Json]:
        """As {"call_id", "status", "content"}."""
        return {"call_id": self.call_id, "status": str(self.status), "content": self.content}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> ToolResult:
        """Inverse of `to_json`."""
        return cls(call_id=value["call_id"], status=ToolStatus(value["status"]), content=value["content"])


@record
class Task:
    """One thing to do, with its known truth. A plain JSON record: environments are made from it."""

    task_id: str
    prompt: tuple[Message, ...]
    """The conversation before the policy's first turn; the last message is the user's."""
    tools: tuple[ToolSpec, ...]
    """The tools offered at the start, without the actions of `envs.actions`, which are always offered."""
    reference: tuple[ToolCall, ...] | None = None
    """The right calls in order, deferral actions among them and `finish` not. None: unknown. An argument
    {"any_of": [...]} accepts each listed value; "" among them means it may also be left out."""
    ordered: bool = False
    """Whether the reference calls must be made in their order."""
    answer: str | None = None
    kind: str = TaskKind.SINGLE
    seed: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)
    """What the environment and the scorer know and the policy does not."""

    def to_json(self) -> dict[str, Json]:
        """A JSON object with the fields of this record."""
        return {
            "task_id": self.task_id,
            "prompt": [message.to_json() for message in self.prompt],
            "tools": [tool.to_json() for tool in self.tools],
            "reference": None if self.reference is None else [call.to_json() for call in self.reference],
            "ordered": self.ordered,
            "answer": self.answer,
            "kind": str(self.kind),
            "seed": self.seed,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Task:
        """Inverse of `to_json`; `prompt` may also be the user's request as a string."""
        prompt = value["prompt"]
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        reference = value.get("reference")
        return cls(
            task_id=value["task_id"],
            prompt=tuple(Message.from_json(message) for message in prompt),
            tools=tuple(ToolSpec.from_json(tool) for tool in value["tools"]),
            reference=None
            if reference is None
            else tuple(
                ToolCall(name=call["name"], arguments=call.get("arguments", {}), call_id=call.get("call_id", ""))
                for call in reference
            ),
            ordered=bool(value.get("ordered", False)),
            answer=value.get("answer"),
            kind=value.get("kind", TaskKind.SINGLE),
            seed=int(value.get("seed", 0)),
            facts=value.get("facts") or {},
        )


@record
class Step:
    """What the environment did with one assistant message."""

    messages: tuple[Message, ...]
    """Messages to append, in order; empty if and only if `done`."""
    results: tuple[ToolResult, ...] = ()
    """One result for each call of the message, in order."""
    tools: tuple[ToolSpec, ...] | None = None
    """The tools offered from now on, actions included; None: unchanged."""
    done: bool = False


@record
class Outcome:
    """How an episode ended, as the environment saw it."""

    finished: bool = False
    """Whether the policy ended the episode itself by `finish`."""
    answer: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """As {"finished", "answer", "facts"}."""
        return {"finished": self.finished, "answer": self.answer, "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Outcome:
        """Inverse of `to_json`."""
        return cls(finished=value["finished"], answer=value.get("answer"), facts=value.get("facts") or {})


class ToolError(Exception):
    """Raised by a tool to refuse a call. The only exception whose text the policy may see."""
