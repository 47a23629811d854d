"""TL-Training's rule for erroneous demonstration turns, as released: patterns in the feedback of the tool.

Source: TL-Training (arXiv 2412.15495), its release. As letters, digits and carets alone are compared, two of the
patterns become the word "error": every feedback that holds it counts as an error, normal results among them.
"""

from __future__ import annotations

import re

PATTERNS = (
    "is not defined",
    "positional argument",
    "unexpected keyword",
    "'related_searches'",
    "ConnectionError",
    '"error":',
    "not supported",
    "Invalid API call",
    "Response error",
    "Object of type SerpResults is not JSON serializable",
    "400 Client Error",
    "'error'",
    "slice indices must be integers or None or have an __index__ method",
    "connection error",
)
"""In the order in which they are tried."""

_DROPPED = re.compile(r"[^A-Za-z0-9\u4e00-\u9fff^]")


def normalised(text: str) -> str:
    """Latin letters, digits, Chinese characters and carets, in lower case."""
    return _DROPPED.sub("", text).lower()


_NORMALISED = tuple(map(normalised, PATTERNS))


def released_pattern(feedback: str) -> str | None:
    """The first pattern that a feedback holds; None: it counts as a success."""
    text = normalised(feedback)
    return next((PATTERNS[index] for index, pattern in enumerate(_NORMALISED) if pattern in text), None)
