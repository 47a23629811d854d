"""The two failures that end a command with one clear line instead of a traceback."""

from __future__ import annotations


class BadInput(ValueError):
    """The user's configuration, arguments or files cannot be used. Exit code 2."""


class RunFailed(RuntimeError):
    """The work could not be finished, for a reason that is known. Exit code 1."""
