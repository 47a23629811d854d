"""Errors as the display of episodes takes them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rewards.spans import error_span
from rewards.types import CallError
from rollout.display import Mark


def marks(errors: Iterable[CallError]) -> list[Mark]:
    """Marks that point at the part of the call that each error is about."""
    return [
        Mark(
            turn=error.turn,
            call=error.call,
            kind=str(error.kind),
            detail=error.detail,
            part=partial(error_span, kind=error.kind, argument=error.argument),
        )
        for error in errors
    ]
