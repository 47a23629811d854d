"""Where the gold of a benchmark contradicts the tools of its own record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from envs.schema import check
from envs.types import ToolCall, ToolSpec

UNLISTED_TOOL = "unlisted_tool"

CONTRADICTIONS: Mapping[str, str] = {
    UNLISTED_TOOL: "a gold call names a tool that the record does not offer: the reference is unknown",
    "missing_argument": "a gold call lacks an argument that its document requires: kept as published",
    "unknown_argument": "a gold call has an argument that its document does not name: kept as published",
    "bad_type": "a gold value has another type than its document says: kept as published",
    "bad_enum": "a gold value is not among those that its document allows: kept as published",
    "bad_format": "a gold value misses another constraint of its document: kept as published",
}
"""Each contradiction by name, and what a reader does with a record that has it. A reference that is kept is matched by
a call that is the same to the letter. A call that follows the document meets it only where values of two types are the
same to the comparison, as the text "500" is to the number 500."""


def contradiction(calls: Iterable[ToolCall], tools: Sequence[ToolSpec]) -> str | None:
    """The first contradiction, in the order of CONTRADICTIONS; None if the gold fits the documents."""
    by_name = {tool.name: tool for tool in tools}
    found: set[str] = set()
    for call in calls:
        tool = by_name.get(call.name)
        if tool is None:
            found.add(UNLISTED_TOOL)
        else:
            found.update(str(problem.kind) for problem in check(call.arguments, tool.parameters))
    return next((name for name in CONTRADICTIONS if name in found), None)


def only(*names: str) -> dict[str, str]:
    """The entries of CONTRADICTIONS with these names, for the `gold_faults` of a benchmark."""
    return {name: CONTRADICTIONS[name] for name in names}
