"""Which part of a call an error is about: its name, a key, a value, or the whole call."""

from __future__ import annotations

from rewards.types import ErrorKind
from rollout.parsers import CallPlace, Span

NAMED = frozenset({ErrorKind.UNKNOWN_TOOL, ErrorKind.WRONG_TOOL, ErrorKind.IRRELEVANT_TOOL, ErrorKind.EXTRA_CALL})
"""Errors of the name."""

KEYED = frozenset({ErrorKind.UNKNOWN_ARGUMENT, ErrorKind.REDUNDANT_ARGUMENT})
"""Errors of a key."""

VALUED = frozenset(
    {
        ErrorKind.BAD_TYPE,
        ErrorKind.BAD_ENUM,
        ErrorKind.BAD_FORMAT,
        ErrorKind.WRONG_VALUE,
        ErrorKind.UNGROUNDED_VALUE,
        ErrorKind.UNGROUNDED_ANSWER,
    }
)
"""Errors of a value."""


def error_span(place: CallPlace, kind: ErrorKind, argument: str | None) -> Span | None:
    """Where an error stands, in the units of `place`.

    The name, the key or the value that is wrong. What has no place of its own stands where the narrowest part does that
    it belongs to: a missing argument in the object that lacks it, which is the call itself for those of the top level.

    Args:
        place: the parts of the call.
        kind: what is wrong.
        argument: JSON pointer of the argument, if it is about one.

    Returns:
        The span; None for a call that was never made.
    """
    if kind == ErrorKind.MISSING_CALL:
        return None
    if kind in NAMED:
        return place.name or place.span
    if argument is not None:
        if kind in KEYED and argument in place.keys:
            return place.keys[argument]
        if kind in VALUED or kind in KEYED or kind == ErrorKind.MISSING_ARGUMENT:
            return _value(place, argument)
    return place.span


def _value(place: CallPlace, pointer: str) -> Span:
    """The value at `pointer`, or the innermost one around it."""
    while pointer:
        if pointer in place.values:
            return place.values[pointer]
        pointer = pointer.rpartition("/")[0]
    return place.span
