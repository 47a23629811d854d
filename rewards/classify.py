"""Trajectory -> call errors: the one taxonomy, and its mapping to Relign's and TL-Training's classes.

The environment states facts (ToolStatus), this file judges. It reads what was written and answered, never tokens;
where the parts of a call stand among the tokens, the turn says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from operator import attrgetter
from typing import NamedTuple

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, DEFERRALS, FINISH, TALK_TO_USER
from envs.record import record
from envs.schema import check
from envs.types import Json, MalformedCall, TaskKind, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.grounding import Context, context_before, ungrounded_places, ungrounded_words
from rewards.matching import (
    Difference,
    ExactMatching,
    alternatives,
    differences,
    identical,
    normalise,
    pair,
    pointer,
    same_value,
    value_at,
)
from rewards.spans import error_span
from rewards.types import HALLUCINATIONS, CallError, ErrorKind
from rollout.parsers import Span
from rollout.trajectory import Trajectory

RELIGN_CLASSES: Mapping[ErrorKind, str] = {
    ErrorKind.UNKNOWN_TOOL: "type",
    ErrorKind.IRRELEVANT_TOOL: "type",
    ErrorKind.DUPLICATE_CALL: "timing",
    ErrorKind.MALFORMED: "format",
    ErrorKind.MISSING_ARGUMENT: "format",
    ErrorKind.UNKNOWN_ARGUMENT: "format",
    ErrorKind.BAD_TYPE: "format",
    ErrorKind.BAD_ENUM: "format",
    ErrorKind.BAD_FORMAT: "format",
    ErrorKind.UNGROUNDED_VALUE: "content",
}
"""Relign's four classes, in the order in which its detector tries them."""

TL_CLASSES: Mapping[ErrorKind, str] = {
    ErrorKind.MALFORMED: "format error",
    ErrorKind.UNKNOWN_TOOL: "tool hallucination",
    ErrorKind.WRONG_TOOL: "wrong tool",
    ErrorKind.UNKNOWN_ARGUMENT: "parameter hallucination",
    ErrorKind.REDUNDANT_ARGUMENT: "parameter redundancy",
    ErrorKind.MISSING_ARGUMENT: "parameter missing",
    ErrorKind.WRONG_VALUE: "content error",
}
"""TL-Training's seven classes, in the order in which its reward tries them."""

_RETRYABLE = frozenset({ToolStatus.FAILED, ToolStatus.TIMED_OUT})
_ARGUMENT_KINDS = {
    "missing": ErrorKind.MISSING_ARGUMENT,
    "unknown": ErrorKind.UNKNOWN_ARGUMENT,
    "redundant": ErrorKind.REDUNDANT_ARGUMENT,
    "value": ErrorKind.WRONG_VALUE,
}


def first_class(kinds: Iterable[ErrorKind], classes: Mapping[ErrorKind, str]) -> str | None:
    """The one class that a detector which stops at its first rule gives to a call with all these errors."""
    found = set(kinds)
    return next((name for kind, name in classes.items() if kind in found), None)


@record
class Match:
    """A made call that was right."""

    turn: int
    call: int
    reference: int
    """Index into `task.reference`."""


@record
class Verdict:
    """Everything the judge found in one trajectory."""

    errors: tuple[CallError, ...]
    matches: tuple[Match, ...]
    """Right calls, right deferrals among them, each reference call at most once, in the order they were made."""
    open: tuple[int, ...]
    """Reference calls that were not matched."""
    num_calls: int
    """Calls made, without the actions."""
    deferrals: tuple[tuple[int, int], ...]
    """(turn, call) of every deferral that was made."""
    deferral_due: bool
    """Whether the task asks for a deferral."""
    deferred_first: bool
    """Whether the due deferral was made rightly, before any call that had to wait for it."""
    success: bool | None
    """All reference calls matched, after any deferral that was due, then finish. None: the reference is unknown, or all
    that is left of it is a deferral whose action was not offered, so that only words could make it."""

    @property
    def hallucinated(self) -> bool:
        """Whether any turn holds a hallucination, corrected later or not."""
        return any(error.kind in HALLUCINATIONS for error in self.errors)


def classify(trajectory: Trajectory) -> list[CallError]:
    """Every error of the policy, in the order of turns and calls. Failures of the infrastructure are none."""
    return list(judge(trajectory).errors)


def judge(trajectory: Trajectory) -> Verdict:
    """Classify the errors of a trajectory and match its calls to the reference.

    Right calls are matched over the whole trajectory. Every other call is taken for an attempt at the reference call
    that it fits best among those still open, or is one too many. So a failed attempt may be repeated, and a reference
    call that was attempted and never got right is not reported again as missing.
    """
    return _verdict_of_one_right_turn(trajectory) or _Judge(trajectory).run()


def _verdict_of_one_right_turn(trajectory: Trajectory) -> Verdict | None:
    """The verdict on one turn that is the reference, call for call, or the one deferral that is due.

    Most recorded replies are: this spares them the walk, which would say the same. None: the walk has to say.
    """
    reference = trajectory.task.reference
    if reference is None or len(trajectory.turns) != 1 or trajectory.ending.is_failure:
        return None
    calls = trajectory.turns[0].message.calls
    if len(calls) != len(reference):
        return None
    tools: Mapping[str, ToolSpec] = {}
    matches: list[Match] = []
    num_calls, deferrals = 0, ()
    for position, (call, wanted) in enumerate(zip(calls, reference, strict=True)):
        if not isinstance(call, ToolCall) or call.name != wanted.name:
            return None
        tools = tools or by_name(trajectory.tools)
        if call.name not in tools:
            return None
        if call.name in DEFERRALS:
            if len(calls) > 1 or not _is_right_deferral(call, wanted, tools[call.name]):
                return None
            deferrals = ((0, 0),)
        elif not identical(call.arguments, wanted.arguments):
            return None
        matches.append(Match(turn=0, call=position, reference=position))
        num_calls += call.name not in ACTION_NAMES
    return Verdict(
        errors=(),
        matches=tuple(matches),
        open=(),
        num_calls=num_calls,
        deferrals=deferrals,
        deferral_due=bool(deferrals),
        deferred_first=bool(deferrals),
        success=trajectory.outcome.finished,
    )


class _Made(NamedTuple):
    """A parsed call, what came back, and whether it was right."""

    turn: int
    call: int
    made: ToolCall
    result: ToolResult | None


class _Judge:
    """One walk through a trajectory."""

    def __init__(self, trajectory: Trajectory) -> None:
        task = trajectory.task
        self.trajectory = trajectory
        self.kind = task.kind
        self.known = task.reference is not None
        self.ordered = task.ordered
        self.reference = _presumed_reference(task.kind) if task.reference is None else task.reference
        self.names = set(map(_NAME, self.reference))
        self.errors: list[CallError] = []
        self.matching = ExactMatching()
        self.calls: list[_Made] = []
        """Every parsed call so far; the matching knows them by their index here."""
        self.attempted: set[int] = set()
        """Reference calls at which a call that was not right was an attempt."""
        self.deferrals: list[tuple[int, int]] = []
        self.num_calls = 0
        self.deferred_first = True
        self.tools: Mapping[str, ToolSpec] = {}
        self._waiting = [j for j, call in enumerate(self.reference) if call.name in DEFERRALS]
        self._context: tuple[int, Context] | None = None
        # Of the current turn:
        self.turn = 0
        self.gate: int | None = None
        """The first deferral still due when the turn began: the reference calls behind it have to wait."""
        self.turn_attempted: set[int] = set()
        self._differing: dict[tuple[int, int], list[Difference]] = {}
        """What `_differences` found, by the identity of the call and the reference call."""

    def run(self) -> Verdict:
        trajectory = self.trajectory
        for index in range(len(trajectory.turns)):
            if index == 0 or trajectory.turns[index - 1].new_tools is not None:
                self.tools = by_name(trajectory.offered_tools(index))
            self._judge_turn(index)
        return self._verdict()

    def _verdict(self) -> Verdict:
        trajectory = self.trajectory
        matched = self.matching.call_of
        still_open = tuple([j for j in range(len(self.reference)) if j not in matched])
        failed = trajectory.ending.is_failure
        unsayable = self._unsayable(still_open)
        if self.known and not failed:
            for j in still_open:
                if j not in self.attempted and j not in unsayable:
                    name = self.reference[j].name
                    again = any(self.reference[i].name == name for i in matched)
                    detail = f"{name} was called too few times" if again else f"{name} was never called"
                    self._report(ErrorKind.MISSING_CALL, None, detail=detail)
        pairs = sorted([(self.calls[made].turn, self.calls[made].call, j) for j, made in matched.items()])
        return Verdict(
            errors=tuple(self.errors),
            matches=tuple([Match(turn=turn, call=call, reference=j) for turn, call, j in pairs]),
            open=still_open,
            num_calls=self.num_calls,
            deferrals=tuple(self.deferrals),
            deferral_due=bool(self._waiting),
            deferred_first=bool(self._waiting)
            and self.deferred_first
            and not any(j in self._waiting for j in still_open),
            success=None
            if failed or not self.known or (still_open and unsayable.issuperset(still_open))
            else not still_open and trajectory.outcome.finished,
        )

    def _unsayable(self, still_open: tuple[int, ...]) -> frozenset[int]:
        """Deferrals that are due, were not passed over, and could only be made in words: their action is not offered.

        Whether the words made them is for no rule to say.
        """
        return frozenset(
            [
                j
                for j in still_open
                if j in self._waiting and j not in self.attempted and self.reference[j].name not in self.tools
            ]
        )

    # One turn: right calls first, then everything else as attempts at what is left.

    def _judge_turn(self, index: int) -> None:
        self.turn = index
        due = [j for j in self._waiting if j not in self.matching.call_of]
        self.gate = due[0] if due else None
        self.turn_attempted = set()
        self._differing = {}
        num_errors = len(self.errors)
        turn = self.trajectory.turns[index]
        unmatched: list[tuple[int, ToolCall | None, int]] = []
        skipped: set[int] = set()
        for position, call in enumerate(turn.message.calls):
            if isinstance(call, MalformedCall):
                self.num_calls += 1
                self._report(ErrorKind.MALFORMED, position, detail=call.reason)
                unmatched.append((position, None, -1))
                continue
            result = turn.results[position] if position < len(turn.results) else None
            self.calls.append(_Made(index, position, call, result))
            number = len(self.calls) - 1
            if call.name == FINISH and FINISH not in self.names:
                self._judge_finish(position, call)
                continue
            if call.name in DEFERRALS:
                self.deferrals.append((index, position))
            elif call.name not in ACTION_NAMES:
                self.num_calls += 1
            if not self.matching.add(number, self._choices(call, skipped)):
                unmatched.append((position, call, number))
                expected = self._expected(skipped)
                if self.ordered and expected is not None and self.reference[expected].name == call.name:
                    skipped.add(expected)
        if unmatched:
            self._judge_attempts(unmatched)
            if len(turn.message.calls) > 1:
                self.errors[num_errors:] = sorted(self.errors[num_errors:], key=_by_call)
        if self.gate is not None and len(self.errors) > num_errors:
            self.deferred_first = False

    def _expected(self, skipped: set[int] | None = None) -> int | None:
        """With an order: the reference call, no deferral, whose turn it is."""
        for j, call in enumerate(self.reference):
            if call.name not in DEFERRALS and j not in self.matching.call_of and j not in (skipped or ()):
                return j
        return None

    def _choices(self, call: ToolCall, skipped: set[int]) -> list[int]:
        """The reference calls that `call` is equal to and that may be made now."""
        tool = self.tools.get(call.name)
        if tool is None:
            return []
        gate = self.gate
        if call.name in DEFERRALS:
            return [gate] if gate is not None and self._is_right(call, gate, tool) else []
        if self.ordered:
            expected = self._expected(skipped)
            candidates: Iterable[int] = () if expected is None else (expected,)
        else:
            candidates = range(len(self.reference))
        return [
            j
            for j in candidates
            if (gate is None or j < gate) and self.reference[j].name == call.name and self._is_right(call, j, tool)
        ]

    def _is_right(self, call: ToolCall, j: int, tool: ToolSpec) -> bool:
        wanted = self.reference[j]
        if call.name != wanted.name:
            return False
        if call.name in DEFERRALS:
            return _is_right_deferral(call, wanted, tool)
        if identical(call.arguments, wanted.arguments):
            return True
        return not self._differences(call, j, tool) and not check(call.arguments, tool.parameters)

    def _differences(self, call: ToolCall, j: int, tool: ToolSpec) -> list[Difference]:
        key = id(call), j
        if key not in self._differing:
            self._differing[key] = differences(call, self.reference[j], tool)
        return self._differing[key]

    def _judge_finish(self, position: int, call: ToolCall) -> None:
        tool = self.tools.get(FINISH)
        if tool is None:
            self._report(ErrorKind.UNKNOWN_TOOL, position, detail=f"{FINISH} is not offered")
            return
        answer = call.arguments.get("answer")
        if not isinstance(answer, str) or len(call.arguments) != 1:
            self._report_problems(position, call, tool)
        if isinstance(answer, str) and any(map(str.isdigit, answer)):
            expected = self.trajectory.task.answer
            if expected is not None and normalise(expected) == normalise(answer):
                return
            made_up = ungrounded_words(answer, self._read())
            if made_up:
                self._report(
                    ErrorKind.UNGROUNDED_ANSWER, position, "/answer", f"{', '.join(made_up)} occurs in no result"
                )

    def _judge_attempts(self, unmatched: list[tuple[int, ToolCall | None, int]]) -> None:
        calls = [item for item in unmatched if item[1] is None or item[1].name not in DEFERRALS]
        left = [
            j
            for j, wanted in enumerate(self.reference)
            if j not in self.matching.call_of and wanted.name not in DEFERRALS
        ]
        for position, call, number in unmatched:
            if call is not None and call.name in DEFERRALS:
                self._judge_deferral(position, call, number)
        if not calls:
            return
        paired = pair([call for _, call, _ in calls], [self.reference[j] for j in left])
        attempts = [None if column is None else left[column] for column in paired]
        self.turn_attempted = {j for j in attempts if j is not None}
        for (position, call, number), j in zip(calls, attempts, strict=True):
            if call is None:
                self._count_attempt(j)
            else:
                self._judge_attempt(position, call, number, j)

    def _count_attempt(self, j: int | None) -> None:
        if j is not None:
            self.attempted.add(j)
        if self.gate is not None and (j is None or j > self.gate):
            self.attempted.add(self.gate)

    # One call that was not right.

    def _judge_deferral(self, position: int, call: ToolCall, number: int) -> None:
        tool = self.tools.get(call.name)
        if tool is None:
            self._report(ErrorKind.UNKNOWN_TOOL, position, detail=f"{call.name} is not offered")
            return
        gate = self.gate
        if gate is not None and gate not in self.matching.call_of and self.reference[gate].name == call.name:
            self.attempted.add(gate)
            wrong = self._report_problems(position, call, tool)
            if not _touches("/missing", wrong) and not same_missing(call, self.reference[gate]):
                due = ", ".join(sorted(_missing(self.reference[gate])))
                self._report(ErrorKind.WRONG_VALUE, position, "/missing", f"what is missing: {due}")
            return
        self._report_problems(position, call, tool)
        if self.kind == TaskKind.UNMATCHED_TOOLS and call.name == CHANGE_TOOLS and not self.reference:
            # No call is right and no tool serves: to say so is not due, and not wrong.
            return
        earlier = self._earlier(number)
        if self.known and (earlier is None or not _may_be_repeated(earlier)):
            self._report(ErrorKind.NEEDLESS_DEFERRAL, position, detail="no such deferral is due")

    def _judge_attempt(self, position: int, call: ToolCall, number: int, j: int | None) -> None:
        earlier = self._earlier(number)
        was_right = earlier is not None and self._was_matched(number)
        if earlier is not None and was_right and _may_be_repeated(earlier):
            return
        missed = self.gate is not None and (j is None or j > self.gate)
        if not was_right:
            self._count_attempt(j)
        if missed:
            assert self.gate is not None
            self._report(ErrorKind.MISSED_DEFERRAL, position, detail=f"{self.reference[self.gate].name} was due")
        duplicate = earlier is not None and _is_duplicate(earlier, self.calls[number])
        if duplicate:
            self._report(ErrorKind.DUPLICATE_CALL, position, detail=f"{call.name} was called so before")
            if was_right:
                return
        tool = self.tools.get(call.name)
        if tool is None:
            self._report(ErrorKind.UNKNOWN_TOOL, position, detail=f"{call.name} is not offered")
            return
        wanted = None if j is None else self.reference[j]
        if wanted is None or j is None or wanted.name != call.name or not self._in_order(call, j, tool):
            self._judge_tool(position, call, j, duplicate=duplicate)
            self._report_problems(position, call, tool)
            if not self._says_what_serves() or (wanted is not None and wanted.name == call.name):
                self._judge_grounding(position, call, tool, None, missed=missed)
            return
        wrong = self._report_problems(position, call, tool)
        for difference in self._differences(call, j, tool):
            where = difference.pointer
            if not _touches(where, wrong):
                self._report(_ARGUMENT_KINDS[difference.kind], position, where, _say(difference))
        self._judge_grounding(position, call, tool, wanted, missed=missed)

    def _in_order(self, call: ToolCall, j: int, tool: ToolSpec) -> bool:
        """Whether it was the turn of reference call `j`, or of those before it in the same message."""
        if not self.ordered or (self.gate is not None and j > self.gate):
            return True
        before = [
            i
            for i, wanted in enumerate(self.reference[:j])
            if wanted.name not in DEFERRALS and i not in self.matching.call_of
        ]
        # A right call would have been matched, had it been its turn.
        return all(i in self.turn_attempted for i in before) and not self._is_right(call, j, tool)

    def _judge_tool(self, position: int, call: ToolCall, j: int | None, *, duplicate: bool) -> None:
        """An offered tool that is not what the reference holds."""
        if not self._says_what_serves():
            if self.kind == TaskKind.UNMATCHED_TOOLS and self.gate is not None:
                self._report(ErrorKind.IRRELEVANT_TOOL, position, detail=f"{call.name} cannot serve the request")
            return
        serving = [wanted.name for wanted in self.reference if wanted.name not in DEFERRALS]
        unserved = self.kind == TaskKind.UNMATCHED_TOOLS and not any(name in self.tools for name in serving)
        if not serving or unserved:
            self._report(ErrorKind.IRRELEVANT_TOOL, position, detail=f"{call.name} cannot serve the request")
        elif j is not None:
            wanted = self.reference[j].name
            detail = f"expected {wanted}" if wanted != call.name else f"{wanted} was called before its turn"
            self._report(ErrorKind.WRONG_TOOL, position, detail=detail)
        elif not duplicate:
            self._report(ErrorKind.EXTRA_CALL, position, detail=f"{call.name}: a call too many")

    def _says_what_serves(self) -> bool:
        """Whether the reference tells which tools serve the request; a question alone leaves open what follows it."""
        if not self.known or not self.names <= DEFERRALS:
            return self.known
        return self.kind != TaskKind.MISSING_ARGUMENT and self.names != {TALK_TO_USER}

    def _judge_grounding(
        self, position: int, call: ToolCall, tool: ToolSpec, wanted: ToolCall | None, *, missed: bool
    ) -> None:
        """Report required values that nothing the policy had read supports."""
        reported = {
            error.argument
            for error in self.errors
            if (error.turn, error.call) == (self.turn, position)
            and error.argument is not None
            and error.kind != ErrorKind.WRONG_VALUE
        }
        asked = _missing(self.reference[self.gate]) if missed and self.gate is not None else frozenset()
        for name in tool.required:
            where = pointer(name)
            if name not in call.arguments or where in reported:
                continue
            value = call.arguments[name]
            is_asked = normalise(name) in asked
            right = wanted is not None and name in wanted.arguments and same_value(value, wanted.arguments[name])
            if right and not is_asked:
                continue
            made_up = self._made_up(name, value, tool.properties.get(name), is_asked=is_asked)
            made_up = [place for place in made_up if not any(_is_within(place, other) for other in reported)]
            if made_up:
                place = _around(made_up)
                detail = f"{value_at(call.arguments, place)!r} occurs in nothing that was read"
                self._report(ErrorKind.UNGROUNDED_VALUE, position, place, detail)

    def _made_up(self, name: str, value: Json, schema: Json, *, is_asked: bool) -> list[str]:
        """Where in a required argument nothing that was read supports what is written."""
        if is_asked:
            # Only the user knows this value: a choice among the allowed ones is a guess too.
            is_known = not isinstance(value, bool) and self._read().holds(value)
            return [] if is_known else [pointer(name)]
        defaults = self.kind != TaskKind.MISSING_ARGUMENT
        return ungrounded_places(name, value, schema, self._read(), defaults=defaults)

    # What the rules above ask for.

    def _read(self) -> Context:
        """What the policy had read when it wrote this turn."""
        if self._context is None or self._context[0] != self.turn:
            self._context = (self.turn, context_before(self.trajectory, self.turn))
        return self._context[1]

    def _earlier(self, number: int) -> _Made | None:
        """The latest earlier call with the same tool and arguments."""
        made = self.calls[number].made
        for other in reversed(self.calls[:number]):
            if other.made.name == made.name and identical(other.made.arguments, made.arguments):
                return other
        return None

    def _was_matched(self, number: int) -> bool:
        made = self.calls[number].made
        return any(
            self.calls[other].made.name == made.name and identical(self.calls[other].made.arguments, made.arguments)
            for other in self.matching.call_of.values()
        )

    def _report_problems(self, position: int, call: ToolCall, tool: ToolSpec) -> set[str]:
        """Report what the schema says; returns where, as pointers."""
        problems = check(call.arguments, tool.parameters)
        for problem in problems:
            self._report(ErrorKind(problem.kind), position, problem.pointer, problem.detail)
        return {problem.pointer for problem in problems}

    def _report(self, kind: ErrorKind, call: int | None, argument: str | None = None, detail: str = "") -> None:
        start, end = self._span(kind, call, argument)
        self.errors.append(
            CallError(turn=self.turn, call=call, kind=kind, argument=argument, detail=detail, start=start, end=end)
        )

    def _span(self, kind: ErrorKind, call: int | None, argument: str | None) -> Span | tuple[None, None]:
        """The tokens of what is wrong, as narrowly as the turn knows them."""
        if call is None:
            return None, None
        turn = self.trajectory.turns[self.turn]
        if turn.places:
            return error_span(turn.places[call], kind, argument) or (None, None)
        return (turn.start, turn.end) if turn.start < turn.end else (None, None)


_NAME = attrgetter("name")


def by_name(tools: tuple[ToolSpec, ...]) -> dict[str, ToolSpec]:
    """Tools by their names."""
    return dict(zip(map(_NAME, tools), tools, strict=True))


def _presumed_reference(kind: str) -> tuple[ToolCall, ...]:
    """What the kind of a task says of its reference when that is unknown: the deferral that is due."""
    if kind == TaskKind.MISSING_ARGUMENT:
        return (ToolCall(name=TALK_TO_USER, arguments={}),)
    if kind == TaskKind.UNMATCHED_TOOLS:
        return (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    return ()


def _missing(wanted: ToolCall) -> frozenset[str]:
    """What a deferral of the reference asks for, in any of its alternatives."""
    return frozenset().union(*_accepted_missing(wanted))


def _accepted_missing(wanted: ToolCall) -> list[frozenset[str]]:
    names = wanted.arguments.get("missing")
    accepted = alternatives(names)
    return [_names(names)] if accepted is None else list(map(_names, accepted))


def _names(value: Json) -> frozenset[str]:
    if not isinstance(value, (list, tuple)):
        return frozenset()
    return frozenset(normalise(name) for name in value if isinstance(name, str))


def same_missing(call: ToolCall, wanted: ToolCall) -> bool:
    """Whether a deferral asks for what is due; a reference that names nothing accepts every question."""
    return "missing" not in wanted.arguments or _names(call.arguments.get("missing")) in _accepted_missing(wanted)


def _is_right_deferral(call: ToolCall, wanted: ToolCall, tool: ToolSpec) -> bool:
    return same_missing(call, wanted) and (_is_plain_question(call) or not check(call.arguments, tool.parameters))


def _is_plain_question(call: ToolCall) -> bool:
    """A quick yes for the usual talk_to_user; everything else goes through its schema."""
    arguments = call.arguments
    names = arguments.get("missing")
    return (
        len(arguments) == 2
        and isinstance(arguments.get("question"), str)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    )


def _may_be_repeated(earlier: _Made) -> bool:
    """Whether the call got no answer, so that making it again is right."""
    return earlier.result is not None and earlier.result.status in _RETRYABLE


def _is_duplicate(earlier: _Made, later: _Made) -> bool:
    """Relign's rule: the same call with the same answer. A tool that answers differently may be asked again."""
    if _may_be_repeated(earlier):
        return False
    first, second = earlier.result, later.result
    if first is None or second is None or not first.status == second.status == ToolStatus.OK:
        return True
    return first.content == second.content


def _by_call(error: CallError) -> float:
    return float("inf") if error.call is None else error.call


def _touches(place: str, reported: Iterable[str]) -> bool:
    """Whether something was reported at a place, inside it or around it; "" is about the arguments as a whole."""
    return any(_is_within(place, other) or _is_within(other, place) for other in reported if other)


def _is_within(place: str, other: str) -> bool:
    return place == other or place.startswith(f"{other}/")


def _around(places: list[str]) -> str:
    """The innermost place that holds all of these."""
    split = [place.split("/") for place in places]
    common = takewhile(lambda steps: len(set(steps)) == 1, zip(*split, strict=False))
    return "/".join(steps[0] for steps in common)


def _say(difference: Difference) -> str:
    name = difference.argument if not difference.inside else difference.pointer[1:]
    match difference.kind:
        case "missing":
            return f"missing {name}"
        case "unknown":
            return f"unknown argument {name}"
        case "redundant":
            return f"{name} was not asked for"
    return f"{difference.made!r}, expected {difference.wanted!r}"
