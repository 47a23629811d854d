"""Minimal preference pairs (ours): the call with the error against the same call put right, in the same message.

Made from error-labelled episodes of any policy. The two sides differ in the one erroneous call alone; of that call
everything that was right stays as it was said. A pair is made only where the correction is certain: the reference
names one value for every argument, one call that this one can have been meant as, and nothing that the policy could not
have known; and the judge finds no fault with the corrected message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from envs.actions import DEFERRALS, FINISH
from envs.types import Call, Json, Message, ToolCall
from rewards.classify import judge
from rewards.due import Due, before, certain, due, due_calls, offered, reply_terms
from rewards.matching import same_value
from rewards.types import ErrorKind
from rl.data.pairs import Found, Pair, Settings, Side
from rl.data.replies import Reply, contexts, usable
from rollout.trajectory import Trajectory, Turn


def minimal(trajectories: Sequence[Trajectory], settings: Settings) -> Found:
    """A pair for each reply with one erroneous call, where its correction is certain.

    Scores are TTPA's (`rewards.due.reply_terms`). The kind of a pair is that of the first error of the call.
    """
    found = Found()
    for context in contexts(usable(trajectories)):
        for reply in context.replies:
            found.counts["replies"] += 1
            made = _pair(reply)
            if isinstance(made, str):
                found.none(made)
            elif made.chosen.score - made.rejected.score < settings.min_gap:
                found.none("the gap is too small")
            else:
                found.add([made])
    return found


def _pair(reply: Reply) -> Pair | str:
    """The pair of a reply, or why there is none."""
    trajectory, turn, message = reply.trajectory, reply.turn, reply.message
    wrong = sorted({error.call for error in reply.errors if error.call is not None})
    wanted = due(trajectory, turn)
    if wanted is None:
        return "what is right is not known"
    if not message.calls:
        return "no call was made"
    if not wrong and wanted.targets and len(message.calls) == 1 and _is_finish(message.calls[0]):
        wrong = [0]  # Finishing is no error of the call: what is wrong is that calls are open.
    if not wrong:
        return "no error"
    if len(wrong) > 1:
        return "several calls of one message are wrong"
    position = wrong[0]
    right = _correction(reply, position, wanted)
    if isinstance(right, str):
        return right
    calls = list(message.calls)
    calls[position] = replace(right, call_id=message.calls[position].call_id)
    corrected = replace(message, calls=tuple(calls))
    turn_of = _with_turn(trajectory, turn, corrected)
    verdict = judge(turn_of)
    errors = [error for error in verdict.errors if error.turn == turn and error.call is not None]
    score = reply_terms(turn_of, turn, wanted, errors).total()
    if errors or score < 1.0 - 1e-9:
        return "the corrected message is not right"
    rejected = reply_terms(trajectory, turn, wanted, reply.errors).total()
    if rejected >= score:
        return "the score sees no error"
    kind = reply.kind or str(ErrorKind.MISSING_CALL)
    return Pair(
        prompt=trajectory.messages_before(turn),
        tools=trajectory.tools,
        chosen=Side(messages=(corrected,), score=score),
        rejected=reply.side(rejected),
        kind=kind,
        lineage={
            **reply.lineage(),
            "call": position,
            "errors": [{"kind": str(error.kind), "argument": error.argument} for error in reply.errors],
        },
    )


def _correction(reply: Reply, position: int, wanted: Due) -> ToolCall | str:
    """What should stand in place of the call at `position`, or why that is not certain."""
    trajectory, turn, made = reply.trajectory, reply.turn, reply.message.calls[position]
    if not wanted.targets:
        calls = due_calls(trajectory, turn, wanted)
        if isinstance(calls, str):
            return calls
        return calls[0] if len(reply.message.calls) == 1 else "a call too many"
    target = _target(reply, position, wanted)
    if isinstance(target, str):
        return target
    right = certain(trajectory, turn, target)
    if isinstance(right, str):
        return right
    tool = offered(trajectory, turn).get(right.name)
    if isinstance(made, ToolCall) and made.name == right.name and right.name not in DEFERRALS and tool is not None:
        return replace(right, arguments=_mended(made, right, tool.properties))
    return right


def _target(reply: Reply, position: int, wanted: Due) -> ToolCall | str:
    """The one reference call that the call at `position` can have been meant as."""
    if wanted.deferral is not None:
        if wanted.calls:
            return "a call and a deferral are both right"
        return wanted.deferral if len(reply.message.calls) == 1 else "a deferral is due among other calls"
    taken = _made_rightly(reply)
    left = [call for call in wanted.calls if call not in taken]
    if not left:
        return "a call too many"
    if wanted.ordered:
        return wanted.calls[position] if position < len(wanted.calls) else "a call too many"
    made = reply.message.calls[position]
    same = [call for call in left if isinstance(made, ToolCall) and call.name == made.name]
    if len(same) == 1 or len(left) == 1:
        return (same or left)[0]
    return "several calls are due"


def _made_rightly(reply: Reply) -> list[ToolCall]:
    """The reference calls that other calls of the message made."""
    reference = reply.trajectory.task.reference or ()
    return [reference[match.reference] for match in reply.verdict.matches if match.turn == reply.turn]


def _mended(made: ToolCall, right: ToolCall, properties: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments of `made` put right: what was right stays as it was spelt and where it stood."""
    arguments: dict[str, Json] = {}
    for name, value in made.arguments.items():
        if name in right.arguments:
            wanted = right.arguments[name]
            arguments[name] = value if same_value(value, wanted) and type(value) is type(wanted) else wanted
        elif name in properties and _is_harmless(made, name, right, properties):
            arguments[name] = value
    return arguments | {name: value for name, value in right.arguments.items() if name not in arguments}


def _is_harmless(made: ToolCall, name: str, right: ToolCall, properties: Mapping[str, Json]) -> bool:
    """Whether an argument that the reference leaves out is its default, so that giving it is no error."""
    schema = properties[name]
    default = schema.get("default", _ABSENT) if isinstance(schema, Mapping) else _ABSENT
    return default is not _ABSENT and same_value(made.arguments[name], default)


_ABSENT = object()


def _is_finish(call: Call) -> bool:
    return isinstance(call, ToolCall) and call.name == FINISH


def _with_turn(trajectory: Trajectory, turn: int, message: Message) -> Trajectory:
    """The episode up to turn `turn`, with another message there."""
    start = before(trajectory, turn)
    end = len(start.token_ids)
    return replace(start, turns=(*start.turns, Turn(message=message, results=(), start=end, end=end)))
