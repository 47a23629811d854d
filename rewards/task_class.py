"""What words alone say about a task: solvable, a value is missing, or no tool serves. No model, no reference.

A baseline for benchmarks with such classes (RelyToolBench), and a check of their labels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from envs.types import Json, Task, TaskKind, ToolSpec
from rewards.grounding import Context
from rewards.matching import normalise

SOLVABLE = "solvable"
MIN_SHARED_WORDS = 2
"""One word is easily shared by chance."""

_WORDS = re.compile(r"[^\W\d_]{3,}")
_QUOTED = re.compile(r"(?<!\w)(['\"‘“])[^'\"’”]+['\"’”](?!\w)")  # noqa: RUF001
_ENDINGS = ("ing", "ies", "es", "s")
_COMMON = frozenset(
    """
    able about additionally all also and any api apis are based both but can could data detail details each endpoint
    fetch find finally for from furthermore get give has have help how information into its know lastly let like list
    more most need not please provide request response retrieve return returns show some such tell than that the their
    them there these they this those use used user users using via want was what when where which who will with would
    you your
    """.split()  # noqa: SIM905
)


def class_of(task: Task, ignored: Collection[str] = ()) -> str:
    """The class of a task by its words: `unmatched_tools`, `missing_argument` or `solvable`.

    1. No offered tool shares two words with the request (in its name and description): unmatched.
    2. Each of the tools that share most words requires a value, and the request holds none: no number, nothing in
       quotation marks, and nothing that the schemas of the required parameters name: missing.
    3. Else solvable.

    Args:
        task: its last message is the request.
        ignored: names of tools that serve no request, such as those that end a task.
    """
    request = task.prompt[-1].content
    tools = [tool for tool in task.tools if tool.name not in ignored]
    shared = [len(words(request) & words(f"{tool.name} {tool.description}")) for tool in tools]
    most = max(shared, default=0)
    if most < MIN_SHARED_WORDS:
        return TaskKind.UNMATCHED_TOOLS
    closest = [tool for tool, number in zip(tools, shared, strict=True) if number == most]
    if all(tool.required for tool in closest) and not _holds_a_value(request, closest):
        return TaskKind.MISSING_ARGUMENT
    return SOLVABLE


def words(text: str) -> set[str]:
    """The words of a text that say what it is about, without their endings."""
    return {_stem(word) for word in _WORDS.findall(normalise(text).replace("_", " ")) if word not in _COMMON}


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _holds_a_value(request: str, tools: Sequence[ToolSpec]) -> bool:
    if any(map(str.isdigit, request)) or _QUOTED.search(request):
        return True
    context = Context([request])
    return any(context.holds(value) for tool in tools for name in tool.required for value in _named(tool, name))


def _named(tool: ToolSpec, name: str) -> list[Json]:
    """The values that the schema of a parameter shows and that can be looked for in a text."""
    schema = tool.properties.get(name) or {}
    shown = [*(schema.get("enum") or ()), *(schema.get("examples") or ())]
    return [value for value in shown if isinstance(value, (str, int, float)) and value not in (True, False, "")]
