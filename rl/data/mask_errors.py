"""Erroneous turns of demonstrations: found, and marked as context only (TL-Training's MAE).

An erroneous turn stays in the conversation, so that what follows is learned in its sight, and has no loss itself.
Source: TL-Training (arXiv 2412.15495), mitigating adverse effects; its own rule is `released`.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from envs.actions import CHANGE_TOOLS, FINISH
from envs.schema import check_schema
from envs.types import Json, Message, Task, ToolCall, ToolResult, ToolStatus
from rewards.classify import judge
from rewards.types import CallError, ErrorKind
from rl.data.job import Done, Item
from rl.data.released_errors import released_pattern
from rl.errors import BadInput
from rl.scoring import kind_of_reference, reference_of
from rollout.recorded import Recorded, RecordedTurn, Row, read_rows, recorded_of, shown, turns_of
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered

Evidence = Literal["status", "schema", "reference", "history", "text", "released"]
"""What says that a turn is erroneous: the stated status of a result; the documents of the tools; the right calls, where
the record has them; what was read and called before; the words of a result without a status; TL-Training's rule."""

RULES = ("structured", "released")

SCHEMA_KINDS = frozenset(
    {
        ErrorKind.MALFORMED,
        ErrorKind.UNKNOWN_TOOL,
        ErrorKind.MISSING_ARGUMENT,
        ErrorKind.UNKNOWN_ARGUMENT,
        ErrorKind.BAD_TYPE,
        ErrorKind.BAD_ENUM,
        ErrorKind.BAD_FORMAT,
    }
)
REFERENCE_KINDS = frozenset(
    {
        ErrorKind.IRRELEVANT_TOOL,
        ErrorKind.WRONG_TOOL,
        ErrorKind.REDUNDANT_ARGUMENT,
        ErrorKind.WRONG_VALUE,
        ErrorKind.EXTRA_CALL,
        ErrorKind.MISSED_DEFERRAL,
        ErrorKind.NEEDLESS_DEFERRAL,
    }
)
HISTORY_KINDS = frozenset({ErrorKind.DUPLICATE_CALL, ErrorKind.UNGROUNDED_VALUE, ErrorKind.UNGROUNDED_ANSWER})

PREMATURE_FINISH = "premature_finish"
"""`finish` although right calls were never made: what it says rests on an error that no tool refused."""

STATUS_KINDS = frozenset(status for status in ToolStatus if status is not ToolStatus.OK)

DEFAULT_KINDS = frozenset(
    {*map(str, SCHEMA_KINDS), *map(str, REFERENCE_KINDS), *map(str, STATUS_KINDS), PREMATURE_FINISH}
)
ALL_KINDS = DEFAULT_KINDS | set(map(str, HISTORY_KINDS))
"""What was read before is judged by rules of thumb: those kinds mask only where they are asked for."""

NO_FEEDBACK = "no feedback of a tool"
"""Kind of the released rule: the message is neither the last one nor answered by a tool."""

_ERROR_FIELDS = ("error", "errors", "exception")
_CODE_FIELDS = ("code", "status_code", "statusCode", "status")
_FAILED = frozenset({"error", "failed", "failure"})
_NO_ERROR = frozenset({"", "none", "null", "false", "0", "no error", "no errors"})
"""What stands in the place of an error where there is none."""
_NONE = "|".join(filter(None, sorted(_NO_ERROR, reverse=True)))
_HEAD = r"^\s*(?:\w*(?i:error|exception)\s*[:!]\s*)?"
"""The beginning, or what follows "Error:" there."""
_CUT_OFF = re.compile(
    rf"\s*\{{\s*([\"'])(?:{'|'.join(_ERROR_FIELDS)})\1\s*:"
    rf"(?!\s*(?:[\"']?(?i:{_NONE})?[\"']?|\[\s*\]|\{{\s*\}})\s*(?:[,}}]|$))\s*[\"']?(?P<told>.*)",
    re.DOTALL,
)
"""What an object that does not end tells of an error at its beginning."""
_HTTP = "|".join(rf"{status.value}[\s:-]+{re.escape(status.phrase)}" for status in HTTPStatus if status >= 400)
_WORDS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), kind)
    for pattern, kind in (
        (
            r"\bname '[^']*' is not defined\b|\b[Uu]nknown (?:tool|function)\b|\b[Nn]o such (?:tool|function)\b"
            rf"|{_HEAD}[Nn]o (?:tool|function)\b(?! is defined)",
            "unknown_tool",
        ),
        (
            r"\bmissing \d+ required positional arguments?\b|\b[Mm]issing required (?:argument|parameter)",
            "missing_argument",
        ),
        (r"\bunexpected keyword argument\b|\b[Uu]nknown (?:argument|parameter)\b", "unknown_argument"),
        (r"\btakes (?:from )?\d+ (?:to \d+ )?positional arguments? but \d+\b", "invalid_arguments"),
        (
            # In lower case and alone the word may be of a match or a magazine.
            r"\b[Tt]imed out\b|\bTime-?out(?:Error)?\b|\b(?i:request|connection|connect|read|gateway) time-?out\b"
            rf"|\btime-?out (?:error|exceeded|expired|reached|after \d|of \d)|{_HEAD}time-?out\s*(?:[:.!]|$)",
            "timed_out",
        ),
        (
            r"\bTraceback \(most recent call last\)|^\s*[\w.]*\w(?:Error|Exception)\b|\b[Cc]onnection ?[Ee]rror\b"
            # "Error: ...", "ERROR - ...", "Error" alone or before what failed; not "error bar", not "Error: none".
            rf"|^\s*(?i:error|exception)(?:\s*[:!]|\s+-\s|\s*$)(?!\s*(?i:{_NONE})[\s.!]*(?:\n|$))"
            r"|^\s*(?:Error|Exception) (?:\d{3}\b|code\b|(?:occurred|raised|while|when|during|in|from)\b"
            r"|(?!handling\b|correcting\b)\w+ing\b)"
            rf"|^\s*(?:HTTP(?:/[\d.]+)?\s+)?(?i:{_HTTP})"
            r"|\b[45]\d\d (?:Internal Server|Client|Server) Error\b|\bInvalid API call\b|\bResponse error\b"
            r"|\bis not supported\b|\bnot supported\b(?! by\b)"
            r"|\bis not JSON serializable\b|\bslice indices must be integers\b",
            "failed",
        ),
    )
]
"""What failures of Python tools and of web APIs say, and the kind of error that each is: TL-Training's patterns that
tell of one, word by word, and the forms in which programs and web servers give theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the task that a conversation did."""

    reference: tuple[ToolCall, ...] | None
    """The right calls; None: unknown."""
    ordered: bool
    kind: str


UNKNOWN = Known(reference=None, ordered=False, kind="recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One error of a demonstration."""

    message: int
    """Index of the assistant message."""
    call: int | None
    """Index of the call in it; None: the message as a whole."""
    kind: str
    evidence: Evidence
    detail: str = ""

    def to_json(self) -> dict[str, Json]:
        """As an entry of `errors` in the record."""
        value: dict[str, Json] = {"message": self.message, "kind": self.kind, "evidence": self.evidence}
        if self.call is not None:
            value["call"] = self.call
        if self.detail:
            value["detail"] = self.detail
        return value


class MaskErrors:
    """The work of `tether data mask-errors`: each row of a file of conversations, with its errors marked."""

    def __init__(self, path: Path, *, rule: str = "structured", kinds: frozenset[str] = DEFAULT_KINDS) -> None:
        """Say what to mask.

        Args:
            path: JSONL (also .gz) or Parquet with `messages` and `tools`; `reference` and `ordered`, as in a task
                file, where the right calls are known.
            rule: one of RULES.
            kinds: of error that mask a turn, for the rule `structured`.
        """
        self._path = path
        self._rule = rule
        self._kinds = kinds

    def __call__(self, done: Done) -> Iterator[Item]:
        """Mask the rows that are not done.

        Raises:
            BadInput: a row is no conversation; names file and line.
        """
        try:
            for index, row in enumerate(read_rows(self._path)):
                if index >= done.num_items:
                    yield self._item(row)
        except ValueError as error:
            raise BadInput(str(error)) from error

    def _item(self, row: Row) -> Item:
        try:
            recorded = recorded_of(row, unreadable_calls=True)
            _, turns = turns_of(recorded.messages, unreadable_calls=True)
            if self._rule == "released":
                faults = released_faults(recorded.messages, turns)
            else:
                faults = structured_faults(recorded, turns, known_of(row.value))
                faults = [fault for fault in faults if fault.kind in self._kinds]
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error
        return Item(
            records=(_marked(row.value, recorded, faults),),
            origin={"row": row.number},
            counts=_counts(turns, faults),
        )


def released_faults(messages: Sequence[Mapping[str, Json]], turns: Sequence[RecordedTurn]) -> list[Fault]:
    """The turns that TL-Training's release does not learn from: its rule, whatever the turn says.

    1. The last message is learned from. 2. A message that no tool answers is not. 3. Nor is one whose feedback holds a
    pattern; of several results of one message, all are its feedback.
    """
    faults = []
    for turn in turns:
        answers = [message.content for message in turn.observed if message.role == "tool"]
        if turn.place == len(messages) - 1:
            continue
        if turn.observed[:1] and turn.observed[0].role == "tool":
            pattern = released_pattern("\n".join(answers))
            if pattern is None:
                continue
            kind = pattern
        else:
            kind = NO_FEEDBACK
        faults.append(Fault(message=turn.place, call=None, kind=kind, evidence="released"))
    return faults


def structured_faults(recorded: Recorded, turns: Sequence[RecordedTurn], known: Known = UNKNOWN) -> list[Fault]:
    """Every error of a conversation, each kind of a call once, in the order of messages and calls.

    What a result says counts where neither the documents of the tools nor the right calls give a reason. A turn without
    calls has no error: what it asks or says is never masked.

    Args:
        recorded: the conversation.
        turns: its turns.
        known: what is known of its task.

    Raises:
        ValueError: the schema of a tool is none.
    """
    verdict = judge(_trajectory(recorded, turns, known))
    errors: dict[tuple[int, int | None], list[CallError]] = {}
    for error in verdict.errors:
        errors.setdefault((error.turn, error.call), []).append(error)
    faults: list[Fault] = []
    tools_are_known = True
    for index, turn in enumerate(turns):
        results = {result.call_id: result for result in turn.results}
        for position, call in enumerate(turn.message.calls):
            found = [_of_error(turn.place, position, error) for error in errors.get((index, position), [])]
            if not tools_are_known:
                found = [fault for fault in found if fault.kind != ErrorKind.UNKNOWN_TOOL]
            result = results.get(call.call_id)
            if result is not None and not any(fault.evidence == "schema" for fault in found):
                found += _of_result(turn.place, position, result, stated=call.call_id in turn.stated)
            faults += [fault for n, fault in enumerate(found) if fault.kind not in {one.kind for one in found[:n]}]
        if known.reference and verdict.open and FINISH in _names(turn.message):
            missing = known.reference[verdict.open[0]].name
            detail = f"{missing} was never called rightly"
            faults.append(
                Fault(message=turn.place, call=None, kind=PREMATURE_FINISH, evidence="reference", detail=detail)
            )
        if CHANGE_TOOLS in _names(turn.message) and turn.new_tools is None:
            # Which tools came is not said: what is called from here on may be one of them.
            tools_are_known = False
    return faults


def _trajectory(recorded: Recorded, turns: Sequence[RecordedTurn], known: Known) -> Trajectory:
    prompt, _ = turns_of(recorded.messages, unreadable_calls=True)
    called = {name for turn in turns for name in _names(turn.message)}
    for tool in recorded.tools:
        if tool.name in called:
            try:
                check_schema(tool.parameters)
            except ValueError as error:
                raise ValueError(f"tools: {tool.name}: {error}") from error
    task = Task(
        task_id=recorded.where,
        prompt=prompt,
        tools=recorded.tools,
        reference=known.reference,
        ordered=known.ordered,
        kind=known.kind,
    )
    bare = unrendered(task, [(turn.message, turn.results) for turn in turns], heard=[turn.heard for turn in turns])
    made = [replace(turn, new_tools=each.new_tools) for turn, each in zip(bare.turns, turns, strict=True)]
    return replace(bare, turns=tuple(made))


def _names(message: Message) -> set[str]:
    return {call.name for call in message.calls if isinstance(call, ToolCall)}


def _of_error(place: int, position: int, error: CallError) -> Fault:
    evidence: Evidence = "schema" if error.kind in SCHEMA_KINDS else "reference"
    if error.kind in HISTORY_KINDS:
        evidence = "history"
    return Fault(message=place, call=position, kind=str(error.kind), evidence=evidence, detail=error.detail)


def _of_result(place: int, position: int, result: ToolResult, *, stated: bool) -> list[Fault]:
    if not stated:
        kind = kind_of_text(result.content)
    else:
        kind = None if result.status is ToolStatus.OK else str(result.status)
    if kind is None:
        return []
    evidence: Evidence = "status" if stated else "text"
    return [Fault(message=place, call=position, kind=kind, evidence=evidence, detail=_cut(result.content))]


def kind_of_text(content: str) -> str | None:
    """The kind of error that a result without a status tells of; None: it reads like a success.

    A JSON object says it by a field `error`, `errors` or `exception` that is neither empty nor "none", by `success`
    false, by `status` "error" or "failed", or by a `message` beside the code of a failed request (400 to 599); one
    that was cut off, by such a field at its beginning. Words count only in a text that is no JSON: data may hold any
    words.
    """
    value = _read(content)
    cut_off = _CUT_OFF.match(content) if value is None else None
    if cut_off:
        return _kind_of_words(cut_off["told"]) or "failed"
    if isinstance(value, Mapping):
        told = next((value[name] for name in _ERROR_FIELDS if _is_told(value.get(name))), None)
        failed = value.get("success") is False or str(value.get("status")).lower() in _FAILED
        if told is None and not failed and not _has_failed_code(value):
            return None
        return _kind_of_words(str(told or content)) or "failed"
    if isinstance(value, (list, int, float)):
        return None
    return _kind_of_words(value if isinstance(value, str) else content)


def _is_told(error: Json) -> bool:
    return bool(error) and not (isinstance(error, str) and error.strip().lower() in _NO_ERROR)


def _has_failed_code(value: Mapping[str, Json]) -> bool:
    """Whether it has the form of an answer to a request that failed; a code alone may be data."""
    codes = [value.get(name) for name in _CODE_FIELDS]
    return isinstance(value.get("message"), str) and any(type(code) is int and 400 <= code < 600 for code in codes)


def _read(content: str) -> Json:
    """A result as JSON, or as Python writes its values; None: as text alone."""
    text = content.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text) if text.startswith(("{", "[", "(")) else None
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _kind_of_words(text: str) -> str | None:
    return next((kind for pattern, kind in _WORDS if pattern.search(text)), None)


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


# The record.


def known_of(row: Mapping[str, Json]) -> Known:
    """What a record says of its task in `reference`, `ordered` and `kind`, as a task file does.

    Raises:
        ValueError: a field is wrong.
    """
    value, ordered, kind = row.get("reference"), row.get("ordered", False), row.get("kind")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"reference: invalid JSON: {error}") from error
    if not isinstance(ordered, bool):
        raise ValueError(f"ordered: expected true or false, got {shown(ordered)}")
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f"kind: expected a string, got {shown(kind)}")
    reference = reference_of(value)
    if kind is None:
        kind = UNKNOWN.kind if reference is None else kind_of_reference(reference, ordered=ordered)
    return Known(reference=reference, ordered=ordered, kind=kind)


def _marked(row: Mapping[str, Json], recorded: Recorded, faults: Sequence[Fault]) -> dict[str, Json]:
    erroneous = {fault.message for fault in faults}
    messages = [
        {**message, "weight": 0} if index in erroneous else dict(message)
        for index, message in enumerate(recorded.messages)
    ]
    return {**row, "messages": messages, "errors": [fault.to_json() for fault in faults]}


def _counts(turns: Sequence[RecordedTurn], faults: Sequence[Fault]) -> Counter[str]:
    erroneous = {fault.message for fault in faults}
    learned = [turn for turn in turns if turn.train and turn.place not in erroneous]
    counts = Counter(
        {
            "conversations with an error": int(bool(faults)),
            "conversations without a turn to learn from": int(not learned),
            "turns": len(turns),
            "turns with feedback": sum(any(heard.role == "tool" for heard in turn.observed) for turn in turns),
            "masked turns": len(erroneous),
            "turns masked before": sum(not turn.train for turn in turns),
            "calls": sum(len(turn.message.calls) for turn in turns),
            "erroneous calls": len({(fault.message, fault.call) for fault in faults if fault.call is not None}),
        }
    )
    counts.update(f"errors/{fault.kind}" for fault in faults)
    counts.update(f"evidence/{fault.evidence}" for fault in faults)
    return counts


def figures(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of the summary."""
    masked, turns = counts["masked turns"], counts["turns"]
    return {"masked share of turns": masked / turns if turns else 0.0}
