"""TL-Training's error-oriented reward, extended from one call to whole episodes and to deferrals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from envs.actions import DEFERRALS, FINISH
from rewards.classify import Verdict, judge
from rewards.replies import UNKNOWN_REFERENCE, Reply, is_right, made_calls, unscored, why_unscored
from rewards.types import CallError, ErrorKind, Score
from rollout.trajectory import Ending, Trajectory

Preset = Literal["tl_released", "tl_monotone"]

TL_RELEASED: Mapping[str, float] = {
    "malformed": -2.0,
    "unknown_tool": -2.0,
    "wrong_tool": -1.5,
    "hal+red+mis": -1.8,
    "hal+red": -1.3,
    "hal+mis": -1.3,
    "red+mis": -1.0,
    "hal": -0.8,
    "red": -0.5,
    "mis": -0.5,
    "content": -0.25,
    "right": 1.0,
    "right_deferral": 1.0,
    "needless_deferral": -0.2,
    "missed_deferral": -1.5,
    "duplicate": -0.5,
    "never_called": -2.0,
    "unresolved": -1.5,
}
"""The table of the paper and, from `right_deferral` on, what it does not know. hal, red and mis: an argument that is
not documented, that was not asked for, that is missing."""

PRESETS: Mapping[str, Mapping[str, float]] = {
    "tl_released": TL_RELEASED,
    "tl_monotone": {**TL_RELEASED, "wrong_tool": -1.9, "hal+red+mis": -1.6, "unresolved": -1.9},
}

_WRONG_TOOL = frozenset({ErrorKind.WRONG_TOOL, ErrorKind.IRRELEVANT_TOOL, ErrorKind.EXTRA_CALL})
_CONTENT = frozenset(
    {
        ErrorKind.BAD_TYPE,
        ErrorKind.BAD_ENUM,
        ErrorKind.BAD_FORMAT,
        ErrorKind.WRONG_VALUE,
        ErrorKind.UNGROUNDED_VALUE,
    }
)

_FAULTS = {
    "hal": ErrorKind.UNKNOWN_ARGUMENT,
    "red": ErrorKind.REDUNDANT_ARGUMENT,
    "mis": ErrorKind.MISSING_ARGUMENT,
}
_ROWS_OF_FAULTS = [row for row in TL_RELEASED if set(row.split("+")) <= set(_FAULTS)]
_BLAMED: Mapping[str, frozenset[ErrorKind]] = {
    "malformed": frozenset({ErrorKind.MALFORMED}),
    "unknown_tool": frozenset({ErrorKind.UNKNOWN_TOOL}),
    "wrong_tool": _WRONG_TOOL,
    **{row: frozenset(_FAULTS[name] for name in row.split("+")) for row in _ROWS_OF_FAULTS},
    "content": _CONTENT,
    "needless_deferral": frozenset({ErrorKind.NEEDLESS_DEFERRAL}),
    "missed_deferral": frozenset({ErrorKind.MISSED_DEFERRAL}),
    "duplicate": frozenset({ErrorKind.DUPLICATE_CALL}),
}
"""The kinds of error that put a call into a row. Those of one call share its cost evenly."""


class ErrorReward:
    """Rewards on the turns that earned them.

    - A right call earns `right` / (number of reference calls that are no deferrals), once for each reference call; a
      right deferral earns `right_deferral`, once.
    - A call that is not right costs the row of the table that it falls into, each time it is made. A missed deferral
      costs its own row whatever else is wrong with the call. A call too many is a wrong tool: nothing was left to call.
      A repeated call costs `duplicate`; repeated after it got no answer, it costs and earns nothing.
    - An episode that ends with reference calls open, or without finish, costs `unresolved` on its last turn, however it
      ended: by an early finish, by a text in place of a call, or by running out of turns. What the policy did not even
      attempt costs `never_called` besides, in proportion to the share of the reference calls. So doing nothing is the
      worst that can be done with one call, and repeating what was right earns nothing.

    The score tells what each error costs, so that a learner may put it on the tokens of the error: the row of its call,
    shared evenly by the errors that put the call into that row. `never_called` and `unresolved` are no error's.

    Unscored: failures of the infrastructure, and tasks whose reference is not known.
    """

    def __init__(self, preset: Preset = "tl_monotone", severity: Mapping[str, float] | None = None) -> None:
        """Choose the table.

        Args:
            preset: the table as released, or made monotone (three faults in a right tool cost less than a wrong tool).
            severity: rows that differ from the preset.

        Raises:
            ValueError: an unknown preset or row.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
        unknown = sorted(set(severity or {}) - set(TL_RELEASED))
        if unknown:
            raise ValueError(f"severity {unknown}: expected rows of {', '.join(TL_RELEASED)}")
        self.severity: Mapping[str, float] = {**PRESETS[preset], **(severity or {})}

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        reason = why_unscored(trajectory, needs_reference=True)
        reference = trajectory.task.reference
        if reason or reference is None:
            return unscored(trajectory, reason)
        verdict = judge(trajectory)
        table = self.severity
        turns: list[int] = []
        rows: list[str] = []
        values: list[float] = []
        costs: dict[int, float] = {}

        def earn(turn: int, row: str, value: float) -> None:
            turns.append(turn)
            rows.append(row)
            values.append(value)

        num_calls = sum(call.name not in DEFERRALS for call in reference)
        for match in verdict.matches:
            if reference[match.reference].name in DEFERRALS:
                earn(match.turn, "right_deferral", table["right_deferral"])
            else:
                earn(match.turn, "right", table["right"] / num_calls)
        for turn, errors in calls_with_errors(verdict.errors):
            row = row_of(errors, table)
            if row is not None:
                earn(turn, row, table[row])
                blamed = [error for error in errors if error.kind in _BLAMED[row]]
                costs |= {id(error): table[row] / len(blamed) for error in blamed}
        last = len(trajectory.turns) - 1
        num_missing = sum(error.kind == ErrorKind.MISSING_CALL for error in verdict.errors)
        if num_missing:
            earn(last, "never_called", table["never_called"] * num_missing / len(reference))
        if is_unresolved(trajectory, verdict):
            earn(last, "unresolved", table["unresolved"])
        return _score(trajectory, verdict, turns, rows, values, [costs.get(id(error), 0.0) for error in verdict.errors])

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score one recorded reply: the mean of the calls' rows, as the paper scores a single call.

        Reference calls beyond the number of calls made are worth `never_called`. A deferral that was missed is judged
        by the calls that missed it, and is not one more of the reference calls. Where no call is right and none was
        made, that is worth as much as a right call, unless a faulty `finish` was, which costs its row.
        """
        reference = trajectory.task.reference
        if reference is None:
            return Reply(value=None, unscored=UNKNOWN_REFERENCE)
        table = self.severity
        total = 0.0
        for match in verdict.matches:
            is_deferral = reference[match.reference].name in DEFERRALS
            total += table["right_deferral" if is_deferral else "right"]
        num_made = len(verdict.matches) if is_right(trajectory, verdict) else len(made_calls(trajectory))
        num_wanted = len(reference)
        if verdict.errors:
            for _, errors in calls_with_errors(verdict.errors):
                row = row_of(errors, table)
                total += 0.0 if row is None else table[row]
            if any(error.kind == ErrorKind.MISSED_DEFERRAL for error in verdict.errors):
                num_wanted -= sum(reference[j].name in DEFERRALS for j in verdict.open)
        num = max(num_made, num_wanted)
        total += table["never_called"] * (num - num_made)
        return Reply(value=total / num if num else total or table["right"])


def row_of(errors: Sequence[CallError], table: Mapping[str, float]) -> str | None:
    """The row of the table for one call with these errors; None if they cost nothing."""
    kinds = {error.kind for error in errors}
    if ErrorKind.MISSED_DEFERRAL in kinds:
        return "missed_deferral"
    rows = []
    if ErrorKind.DUPLICATE_CALL in kinds:
        rows.append("duplicate")
    if ErrorKind.NEEDLESS_DEFERRAL in kinds:
        rows.append("needless_deferral")
    row = _table_row(kinds)
    if row is not None:
        rows.append(row)
    return min(rows, key=table.__getitem__, default=None)


def _table_row(kinds: set[ErrorKind]) -> str | None:
    """The first row of the paper's table that holds."""
    if ErrorKind.MALFORMED in kinds:
        return "malformed"
    if ErrorKind.UNKNOWN_TOOL in kinds:
        return "unknown_tool"
    if kinds & _WRONG_TOOL:
        return "wrong_tool"
    faults = [name for name, kind in _FAULTS.items() if kind in kinds]
    if faults:
        return "+".join(faults)
    return "content" if kinds & _CONTENT else None


def is_unresolved(trajectory: Trajectory, verdict: Verdict) -> bool:
    """Whether the episode ended before everything was done and the policy had said so.

    An environment that ends the episode itself after the last right call leaves nothing to say.
    """
    if verdict.open or trajectory.ending != Ending.COMPLETED:
        return bool(verdict.open) or not trajectory.outcome.finished
    if trajectory.outcome.finished or not trajectory.turns:
        return False
    last = len(trajectory.turns) - 1
    silent = not trajectory.turns[last].message.calls
    return silent and any(tool.name == FINISH for tool in trajectory.offered_tools(last))


def calls_with_errors(errors: Sequence[CallError]) -> list[tuple[int, list[CallError]]]:
    """Errors of each call, by turn; errors of no call are left out."""
    grouped: dict[tuple[int, int], list[CallError]] = {}
    for error in errors:
        if error.call is not None:
            grouped.setdefault((error.turn, error.call), []).append(error)
    return [(turn, group) for (turn, _), group in grouped.items()]


def _score(
    trajectory: Trajectory,
    verdict: Verdict,
    turns: list[int],
    rows: list[str],
    values: list[float],
    costs: list[float],
) -> Score:
    per_turn = [0.0] * len(trajectory.turns)
    parts: dict[str, float] = {}
    for turn, row, value in zip(turns, rows, values, strict=True):
        per_turn[turn] += value
        parts[row] = parts.get(row, 0.0) + value
    return Score(
        per_turn=np.asarray(per_turn, dtype=np.float32), errors=verdict.errors, costs=tuple(costs), parts=parts
    )
