"""Relign's preference pairs: of the replies to one step, and of whole traces.

Source: Relign (arXiv 2412.04141), the pairs of its release (steps) and of its first version (traces).

Steps: a clean call is better than an action (`finish` or a deferral), and that is better than a hallucinated call.
The release labels a reply without what the tools had answered, has no rule for tools that cannot serve, and takes every
action for right; here the whole context counts, and a call or an action that the reference shows to be wrong ranks
lowest. The preset `released` keeps to the release, but for its LLM judge, in whose place the rule of
`rewards.grounding` stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.actions import ACTION_NAMES, DEFERRALS, FINISH
from envs.schema import check
from envs.types import Call, Message, ToolCall, ToolSpec
from rewards.classify import Verdict, judge
from rewards.due import before, offered
from rewards.grounding import Context as ReadTexts
from rewards.grounding import ungrounded_places
from rewards.matching import identical
from rewards.reliability import reliability
from rewards.relign import CLEAN, CLEAN_FINISH, WORTH, labels
from rewards.types import ErrorKind
from rl.data.pairs import Found, Pair, Settings, Side, chance, spread
from rl.data.replies import Context, Reply, contexts, usable
from rollout.trajectory import Trajectory

HALLUCINATED = "hallucination"

ORDER = ((CLEAN, CLEAN_FINISH), (CLEAN, HALLUCINATED), (CLEAN_FINISH, HALLUCINATED))
"""Which label is preferred to which: the three pairs of a step."""


def relign_step(trajectories: Sequence[Trajectory], settings: Settings) -> Found:
    """Up to three pairs of each step at which the replies of the policy differ in their label.

    One member of either side is drawn at random. Scores are those of `rewards.relign`: clean 1, action 0.5, else 0.
    """
    found = Found()
    for context in contexts(usable(trajectories)):
        found.counts["contexts"] += 1
        _step(context, settings, found)
    return found


def _step(context: Context, settings: Settings, found: Found) -> None:
    label = _released_label if settings.preset == "released" else _label
    by_label: dict[str, list[Reply]] = {}
    for reply in context.replies:
        if reply.message.calls:
            by_label.setdefault(label(reply), []).append(reply)
        else:
            found.counts["replies without a call"] += 1
    if len(by_label) < 2:
        found.none("one reply" if sum(map(len, by_label.values())) < 2 else "all replies rank alike")
        return
    generator = chance(settings, "relign-step", context.key)
    pairs: list[Pair] = []
    for better, worse in ORDER:
        if better not in by_label or worse not in by_label:
            continue
        chosen, rejected = generator.choice(by_label[better]), generator.choice(by_label[worse])
        if WORTH[better] - WORTH.get(worse, 0.0) < settings.min_gap:
            continue
        pairs.append(
            Pair(
                prompt=chosen.trajectory.messages_before(chosen.turn),
                tools=chosen.trajectory.tools,
                chosen=chosen.side(WORTH[better]),
                rejected=rejected.side(WORTH.get(worse, 0.0)),
                kind=rejected.kind,
                lineage={"preferred": f"{better} over {worse}", **rejected.lineage()},
            )
        )
    if pairs:
        found.add(pairs[: settings.max_rejected])
    else:
        found.none("the gap is too small")


def _label(reply: Reply) -> str:
    """Clean, action or hallucinated, for what the policy had read; known errors of the reference rank lowest."""
    shown = [one.label for one in labels(reply.trajectory, reply.verdict) if one.turn == reply.turn]
    if reply.errors or any(label not in WORTH for label in shown) or _ends_too_early(reply):
        return HALLUCINATED
    return CLEAN if CLEAN in shown else CLEAN_FINISH


def _ends_too_early(reply: Reply) -> bool:
    """Whether a reply finishes although calls of the reference are open."""
    calls = reply.message.calls
    if not reply.trajectory.task.reference or not any(_is_named(call, FINISH) for call in calls):
        return False
    verdict = judge(before(reply.trajectory, reply.turn + 1))
    return bool(verdict.open)


def _is_named(call: Call, name: str) -> bool:
    return isinstance(call, ToolCall) and call.name == name


def _released_label(reply: Reply) -> str:
    """The label by the rules of the release: see `released_error`."""
    trajectory, tools = reply.trajectory, offered(reply.trajectory, reply.turn)
    earlier = [call for turn in trajectory.turns[: reply.turn] for call in turn.message.calls]
    request = ReadTexts([message.content for message in trajectory.task.prompt])
    calls = reply.message.calls
    if any(released_error(call, tools, earlier, request) is not None for call in calls):
        return HALLUCINATED
    return CLEAN_FINISH if all(isinstance(call, ToolCall) and call.name in ACTION_NAMES for call in calls) else CLEAN


def released_error(
    call: Call, tools: Mapping[str, ToolSpec], earlier: Sequence[Call], request: ReadTexts
) -> ErrorKind | None:
    """The first rule of the release's detector that fires for a reply that was not run; None: none does.

    Args:
        call: of the reply. Actions are not checked.
        tools: offered.
        earlier: calls that were run before; a duplicate has their name and arguments, whatever they gave.
        request: what the user asked; results of tools do not count.
    """
    if not isinstance(call, ToolCall):
        return ErrorKind.MALFORMED
    if call.name in ACTION_NAMES:
        return None
    tool = tools.get(call.name)
    if tool is None:
        return ErrorKind.UNKNOWN_TOOL
    if any(_is_same(call, other) for other in earlier):
        return ErrorKind.DUPLICATE_CALL
    problems = {problem.kind for problem in check(call.arguments, tool.parameters)}
    for kind in (ErrorKind.MISSING_ARGUMENT, ErrorKind.UNKNOWN_ARGUMENT, ErrorKind.BAD_TYPE):
        if str(kind) in problems:
            return kind
    made_up = any(
        ungrounded_places(name, value, tool.properties.get(name), request, defaults=True)
        for name, value in call.arguments.items()
    )
    return ErrorKind.UNGROUNDED_VALUE if made_up else None


def _is_same(call: ToolCall, other: Call) -> bool:
    return isinstance(other, ToolCall) and other.name == call.name and identical(other.arguments, call.arguments)


def relign_trace(trajectories: Sequence[Trajectory], settings: Settings) -> Found:
    """The best trace of a task against those that rank lower, one of each rank in turn; ties are drawn at random.

    Scores are those of `trace_score`.
    """
    found = Found()
    traces = usable(trajectories)
    found.counts["tasks"] += 1
    if len(traces) < 2:
        found.none("one trace" if traces else "no trace")
        return found
    if any(trajectory.messages_before(0) != traces[0].messages_before(0) for trajectory in traces):
        found.none("the requests differ")
        return found
    ranked = [(trace_score(trajectory, judge(trajectory)), trajectory) for trajectory in traces]
    best = max(score for score, _ in ranked)
    worse = [(score, one) for score, one in ranked if score < best and best - score >= settings.min_gap]
    if not worse:
        alike = all(score == best for score, _ in ranked)
        found.none("all traces rank alike" if alike else "the gap is too small")
        return found
    generator = chance(settings, "relign-trace", traces[0].task.task_id, traces[0].group_id)
    winners = [one for score, one in ranked if score == best]
    generator.shuffle(worse)
    pairs: list[Pair] = []
    for score, rejected in spread(worse, lambda one: one[0], settings.max_rejected):
        chosen = generator.choice(winners)
        errors = judge(rejected).errors
        pairs.append(
            Pair(
                prompt=chosen.messages_before(0),
                tools=chosen.tools,
                chosen=_trace(chosen, best),
                rejected=_trace(rejected, score),
                kind=str(errors[0].kind) if errors else None,
                lineage={"task": rejected.task.task_id, "group": rejected.group_id, "turn": 0},
            )
        )
    found.add(pairs)
    return found


def trace_score(trajectory: Trajectory, verdict: Verdict) -> float:
    """Relign's order of traces as a number: its whole part is the rank, from 5 down to 0.

    5 success without a hallucinated call, fewer calls first; 4 success, fewer hallucinated calls first; 3 no success,
    and the right indecisive action; 2 no success, and another way of giving up; 1 failure without a hallucinated call;
    0 failure with one, or an answer that comes from one.
    """
    found = labels(trajectory, verdict)
    num_hallucinated = sum(one.group is not None for one in found)
    known = reliability(trajectory, verdict, found)
    success = verdict.success if verdict.success is not None else bool(trajectory.outcome.facts.get("success"))
    if known.answer_hallucinated:
        return 0.0
    if success:
        return 4 + 1 / (1 + num_hallucinated) if num_hallucinated else 5 + 1 / (2 + known.num_calls)
    if num_hallucinated:
        return 0.0
    if any(_made(trajectory, match.turn, match.call) in DEFERRALS for match in verdict.matches):
        return 3.0
    return 2.0 if _gave_up(trajectory) else 1.0


def _made(trajectory: Trajectory, turn: int, call: int) -> str:
    made = trajectory.turns[turn].message.calls[call]
    return made.name if isinstance(made, ToolCall) else ""


def _gave_up(trajectory: Trajectory) -> bool:
    """Whether the last move but `finish` was a deferral."""
    names = [
        call.name if isinstance(call, ToolCall) else ""
        for turn in trajectory.turns
        for call in turn.message.calls
        if not _is_named(call, FINISH)
    ]
    return bool(names) and names[-1] in DEFERRALS


def _trace(trajectory: Trajectory, score: float) -> Side:
    messages: list[Message] = list(trajectory.messages_before(len(trajectory.turns) - 1))
    return Side(
        messages=(*messages[len(trajectory.task.prompt) :], trajectory.turns[-1].message),
        score=score,
        trajectory_id=trajectory.trajectory_id,
        token_ids=trajectory.token_ids[: trajectory.turns[-1].end] if len(trajectory.token_ids) else None,
    )
