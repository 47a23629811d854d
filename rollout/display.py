"""An episode as it reads in the terminal: what was asked, called and answered, errors marked where they happened.

Builds rich renderables and prints nothing. Judging is not done here: errors come in as marks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from envs.types import Call, ToolCall, ToolResult, ToolStatus
from rollout.parsers import CallPlace, Span, escaped_key, places_in_json
from rollout.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from rollout.renderer import Renderer

LONGEST = 240
"""Characters of one text that are shown."""

LABEL = 12
"""Characters before the text of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One error as it is shown."""

    turn: int
    call: int | None
    """None: a call that was never made, or the turn as a whole."""
    kind: str
    detail: str = ""
    part: Callable[[CallPlace], Span | None] = lambda place: place.span
    """Which part of the call is wrong, wherever the parts stand."""


def episode_lines(trajectory: Trajectory, errors: Iterable[Mark] = ()) -> list[Text]:
    """The lines of one episode.

    Args:
        trajectory: the episode.
        errors: each is shown below the call it is about, and below the part of it that is wrong.
    """
    marks = list(errors)
    lines = [_head(trajectory)]
    offered = ", ".join(tool.name for tool in trajectory.tools)
    lines.append(_line("tools", offered, "dim"))
    lines.extend(_line(message.role, message.content, "cyan") for message in trajectory.task.prompt)
    for index, turn in enumerate(trajectory.turns):
        lines.extend(_turn_lines(index, turn, [mark for mark in marks if mark.turn == index]))
    lines.append(_foot(trajectory))
    lines.extend(_line("", line, "red") for line in trajectory.error.strip().splitlines()[-3:])
    return lines


def token_lines(trajectory: Trajectory, renderer: Renderer) -> list[Text]:
    """The tokens of one episode, one a piece: sampled ones green, those kept out of the loss yellow, others dim."""
    styles = ["dim"] * len(trajectory.token_ids)
    for turn in trajectory.turns:
        styles[turn.start : turn.end] = ["green" if turn.train else "yellow"] * (turn.end - turn.start)
    lines = [Text()]
    for token_id, style in zip(trajectory.token_ids.tolist(), styles, strict=True):
        piece = renderer.decode([token_id])
        lines[-1].append(piece.replace("\n", "\\n"), style=style)
        lines[-1].append("|", style="bright_black")
        if "\n" in piece:
            lines.append(Text())
    return [line for line in lines if line.plain]


def _head(trajectory: Trajectory) -> Text:
    return Text(f"{trajectory.trajectory_id}  {trajectory.task.kind}", style="bold")


def _foot(trajectory: Trajectory) -> Text:
    text = Text(f"{trajectory.ending}", style="red" if trajectory.ending.is_failure else "bold")
    if trajectory.outcome.answer is not None:
        text.append(f"  answer: {_short(trajectory.outcome.answer)}", style="cyan")
    text.append(f"  {len(trajectory.turns)} turns, {len(trajectory.token_ids)} tokens", style="dim")
    return text


def _turn_lines(index: int, turn: Turn, marks: list[Mark]) -> list[Text]:
    lines: list[Text] = []
    results = {result.call_id: result for result in turn.results}
    if turn.message.content:
        lines.append(_line("assistant", turn.message.content, "green"))
    for number, call in enumerate(turn.message.calls):
        own = [mark for mark in marks if mark.call == number]
        lines.extend(_call_lines(call, own, trained=turn.train))
        if call.call_id in results:
            lines.append(_result_line(results[call.call_id]))
    if not turn.message.content and not turn.message.calls:
        lines.append(_line("assistant", "(says nothing)", "dim"))
    lines.extend(_mark_line(mark) for mark in marks if mark.call is None or mark.call >= len(turn.message.calls))
    if turn.new_tools is not None:
        lines.append(_line("tools", ", ".join(tool.name for tool in turn.new_tools), "dim"))
    return lines


def _call_lines(call: Call, marks: list[Mark], *, trained: bool) -> list[Text]:
    """The call, and below each wrong part of it what is wrong."""
    if isinstance(call, ToolCall):
        shown, place = _written(call)
        shown = _cut(_printable(shown))
    else:
        shown = f"{_short(call.text)} <- {_short(call.reason)}"
        place = CallPlace(span=(0, len(shown)))
    line = _labelled("calls")
    line.append(shown, style="red" if marks or not isinstance(call, ToolCall) else "green")
    lines = [line]
    for mark in marks:
        start, end = mark.part(place) or place.span
        if (start, end) == place.span or start >= len(shown):
            lines.append(_mark_line(mark))
            continue
        line.stylize("bold reverse", LABEL + start, LABEL + end)
        lines.append(_mark_line(mark, before=cell_len(shown[:start]), width=cell_len(shown[start:end])))
    if not trained:
        line.append("  (not trained on)", style="dim")
    return lines


def _written(call: ToolCall) -> tuple[str, CallPlace]:
    """The call as `name(argument=value, ...)`, and where its parts stand in that."""
    text = f"{call.name}("
    keys: dict[str, Span] = {}
    values: dict[str, Span] = {}
    for number, (name, value) in enumerate(call.arguments.items()):
        text += ", " * (number > 0)
        pointer = f"/{escaped_key(name)}"
        keys[pointer] = (len(text), len(text) + len(name))
        text += f"{name}="
        written = json.dumps(value, ensure_ascii=False)
        start = len(text)
        inner_keys, inner_values = places_in_json(written, 0, len(written))
        keys |= {pointer + inner: (start + first, start + last) for inner, (first, last) in inner_keys.items()}
        values |= {pointer + inner: (start + first, start + last) for inner, (first, last) in inner_values.items()}
        values[pointer] = (start, start + len(written))
        text += written
    text += ")"
    return text, CallPlace(span=(0, len(text)), name=(0, len(call.name)), keys=keys, values=values)


def _result_line(result: ToolResult) -> Text:
    line = _line("result", result.content, "default")
    if result.status is not ToolStatus.OK:
        line.append(f"  ({result.status})", style="yellow")
    return line


def _mark_line(mark: Mark, *, before: int = 0, width: int = 1) -> Text:
    line = _labelled("")
    said = f"{mark.kind}: {_short(mark.detail)}" if mark.detail else mark.kind
    line.append(f"{' ' * before}{'^' * width} {said}", style="bold red")
    return line


def _line(label: str, text: str, style: str) -> Text:
    line = _labelled(label)
    line.append(_short(text), style=style)
    return line


def _labelled(label: str) -> Text:
    return Text(f"  {label:<{LABEL - 2}}", style="bright_black")


def _short(text: str) -> str:
    return _cut(" ".join(_printable(text).split()))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _printable(text: str) -> str:
    """Sampled text must not be able to steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
