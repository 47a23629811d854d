"""An episode as it reads in the terminal: what was asked, called and answered, errors marked where they happened.

Builds rich renderables and prints nothing. Judging is not done here: errors come in as plain tuples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from envs.types import Call, Json, ToolCall, ToolResult, ToolStatus
from rollout.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from rollout.renderer import Renderer

Mark = tuple[int, int | None, str, str]
"""One error: turn, call (None: a call that was never made, or the turn as a whole), kind, detail."""

LONGEST = 240
"""Characters of one text that are shown."""


def episode_lines(trajectory: Trajectory, errors: Iterable[Mark] = ()) -> list[Text]:
    """The lines of one episode.

    Args:
        trajectory: the episode.
        errors: tuples (turn, call, kind, detail); each is shown below the call it is about.
    """
    marks = list(errors)
    lines = [_head(trajectory)]
    offered = ", ".join(tool.name for tool in trajectory.tools)
    lines.append(_line("tools", offered, "dim"))
    lines.extend(_line(message.role, message.content, "cyan") for message in trajectory.task.prompt)
    for index, turn in enumerate(trajectory.turns):
        lines.extend(_turn_lines(index, turn, [mark for mark in marks if mark[0] == index]))
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
        own = [mark for mark in marks if mark[1] == number]
        lines.append(_call_line(call, wrong=bool(own), trained=turn.train))
        lines.extend(_mark_line(mark) for mark in own)
        if call.call_id in results:
            lines.append(_result_line(results[call.call_id]))
    if not turn.message.content and not turn.message.calls:
        lines.append(_line("assistant", "(says nothing)", "dim"))
    lines.extend(_mark_line(mark) for mark in marks if mark[1] is None or mark[1] >= len(turn.message.calls))
    if turn.new_tools is not None:
        lines.append(_line("tools", ", ".join(tool.name for tool in turn.new_tools), "dim"))
    return lines


def _call_line(call: Call, *, wrong: bool, trained: bool) -> Text:
    if isinstance(call, ToolCall):
        shown = f"{call.name}({_arguments(call.arguments)})"
    else:
        shown = f"{_short(call.text)} <- {call.reason}"
        wrong = True
    line = _line("calls", shown, "red" if wrong else "green")
    if not trained:
        line.append("  (not trained on)", style="dim")
    return line


def _arguments(arguments: Mapping[str, Json]) -> str:
    return _short(", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items()))


def _result_line(result: ToolResult) -> Text:
    line = _line("result", result.content, "default")
    if result.status is not ToolStatus.OK:
        line.append(f"  ({result.status})", style="yellow")
    return line


def _mark_line(mark: Mark) -> Text:
    _, _, kind, detail = mark
    return _line("", f"^ {kind}" + (f": {_short(detail)}" if detail else ""), "bold red")


def _line(label: str, text: str, style: str) -> Text:
    line = Text(f"  {label:<10}", style="bright_black")
    line.append(_short(text), style=style)
    return line


def _short(text: str) -> str:
    flat = " ".join(_printable(text).split())
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 4]} ..."


def _printable(text: str) -> str:
    """Sampled text must not be able to steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
