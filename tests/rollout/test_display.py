import io

import numpy as np
from rich.console import Console

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Outcome, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.demonstrations import from_messages
from rollout.display import Mark, episode_lines, token_lines
from rollout.trajectory import Ending, Trajectory, Turn

TOOL = ToolSpec(name="get_weather")


def make(*turns, error="", ending=Ending.COMPLETED):
    return Trajectory(
        trajectory_id="t0",
        group_id="g",
        task=Task(task_id="task", prompt=(Message(role="user", content="Weather\nin [Oslo]?"),), tools=(TOOL,)),
        tools=(TOOL, *ACTIONS),
        turns=turns,
        token_ids=np.arange(1, dtype=np.int32),
        action_mask=np.zeros(1, dtype=bool),
        logprobs=np.zeros(1, dtype=np.float32),
        oldest_version=0,
        newest_version=0,
        ending=ending,
        outcome=Outcome(answer="sun"),
        error=error,
    )


def turn(*calls, content="", statuses=None, **options):
    results = tuple(
        ToolResult(call_id=call.call_id, status=status, content=f"result {call.call_id}")
        for call, status in zip(calls, statuses or [ToolStatus.OK] * len(calls), strict=True)
    )
    message = Message(role="assistant", content=content, calls=calls)
    return Turn(message=message, results=results, start=0, end=0, **options)


def shown(lines):
    output = io.StringIO()
    console = Console(file=output, width=400)
    for line in lines:
        console.print(line)
    return output.getvalue().splitlines()


def test_an_error_stands_below_the_call_it_is_about():
    right = ToolCall(call_id="a", name="get_weather", arguments={"city": "Oslo"})
    wrong = ToolCall(call_id="b", name="get_wether", arguments={})
    lines = shown(
        episode_lines(
            make(turn(right, wrong, statuses=[ToolStatus.OK, ToolStatus.UNKNOWN_TOOL])),
            errors=[
                Mark(turn=0, call=1, kind="unknown_tool", detail="no tool get_wether"),
                Mark(turn=0, call=None, kind="missing_call", detail="finish"),
            ],
        )
    )
    texts = [" ".join(line.split()) for line in lines]
    assert texts == [
        "t0 single",
        "tools get_weather, talk_to_user, change_tools, finish",
        "user Weather in [Oslo]?",
        'calls get_weather(city="Oslo")',
        "result result a",
        "calls get_wether()",
        "^ unknown_tool: no tool get_wether",
        "result result b (unknown_tool)",
        "^ missing_call: finish",
        "completed answer: sun 1 turns, 1 tokens",
    ]


def test_an_error_stands_below_the_part_of_the_call_that_is_wrong():
    call = ToolCall(
        call_id="a", name="book", arguments={"city": "\u6771\u4eac", "stops": [{"via\n": "Rome  "}], "n": 3}
    )
    marks = [
        Mark(turn=0, call=0, kind="wrong_tool", part=lambda place: place.name),
        Mark(turn=0, call=0, kind="wrong_value", part=lambda place: place.values["/city"]),
        Mark(turn=0, call=0, kind="unknown_argument", part=lambda place: place.keys["/stops/0/via\n"]),
        Mark(turn=0, call=0, kind="bad_format", detail="no", part=lambda place: place.values["/stops/0/via\n"]),
        Mark(turn=0, call=0, kind="redundant_argument", part=lambda place: place.keys["/n"]),
        Mark(turn=0, call=0, kind="missing_argument"),
        Mark(turn=0, call=0, kind="lost", part=lambda place: None),
    ]
    lines = episode_lines(make(turn(call)), marks)
    texts = [line.plain for line in lines][3:11]
    assert texts == [
        '  calls     book(city="\u6771\u4eac", stops=[{"via\\n": "Rome  "}], n=3)',
        "            ^^^^ wrong_tool",
        "                      ^^^^^^ wrong_value",
        "                                      ^^^^^^^ unknown_argument",
        "                                               ^^^^^^^^ bad_format: no",
        "                                                           ^ redundant_argument",
        "            ^ missing_argument",
        "            ^ lost",
    ]
    shown_call = lines[3]
    marked = [shown_call.plain[span.start : span.end] for span in shown_call.spans if "reverse" in str(span.style)]
    assert marked == ["book", '"\u6771\u4eac"', '"via\\n"', '"Rome  "', "n"]


def test_a_part_that_is_cut_off_is_marked_below_the_call():
    call = ToolCall(call_id="a", name="f", arguments={"text": "x" * 1000, "n": 3})
    lines = episode_lines(make(turn(call)), [Mark(turn=0, call=0, kind="k", part=lambda place: place.values["/n"])])
    assert lines[4].plain == "            ^ k"
    assert max(len(line.plain) for line in lines) < 300


def test_failures_malformed_calls_and_new_tools_are_shown():
    broken = MalformedCall(call_id="a", text="<tool_call>{", reason="unclosed")
    trajectory = make(
        turn(broken, statuses=[ToolStatus.MALFORMED], new_tools=(TOOL,), train=False),
        turn(),
        error="Traceback\nKeyError: bug",
        ending=Ending.ENV_FAILED,
    )
    text = "\n".join(shown(episode_lines(trajectory)))
    for expected in ("<tool_call>{ <- unclosed", "(not trained on)", "says nothing", "env_failed", "KeyError: bug"):
        assert expected in text


def test_sampled_text_cannot_steer_the_terminal():
    text = "\n".join(shown(episode_lines(make(turn(content="\x1b[2J\x07 " + "x" * 1000)))))
    assert "\x1b" not in text and "\x07" not in text
    assert "x ..." not in text.splitlines()[0]
    assert max(map(len, text.splitlines())) < 300


def test_tokens_are_shown_with_their_mask(renderer):
    task = Task(task_id="x", prompt=(), tools=())
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    trajectory = from_messages(task, messages, (), renderer, trajectory_id="t", group_id="g")
    lines = token_lines(trajectory, renderer)
    green = "".join(line.plain[span.start : span.end] for line in lines for span in line.spans if span.style == "green")
    assert green == "Hello<|im_end|>"
