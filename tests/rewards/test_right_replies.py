"""Replies that are their reference are judged and scored as the long way would."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.actions import ACTIONS
from envs.types import Call, MalformedCall, Message, Outcome, Task, TaskKind, ToolCall, ToolSpec
from rewards import error_reward, esm, utility
from rewards.classify import _Judge, _verdict_of_one_right_turn, judge
from rewards.matching import identical
from rewards.schemes import SCHEMES, scheme
from rollout.trajectory import Ending, Trajectory
from rollout.unrendered import unrendered

VALUES = st.sampled_from(["Oslo", "oslo", "3", 3, 3.0, True, 1, None, ["a"], ["missing"], {"any_of": ["Oslo", 3]}, {}])
ARGUMENTS = st.dictionaries(st.sampled_from(["city", "missing", "question", "reason", "answer"]), VALUES, max_size=3)
NAMES = st.sampled_from(["book", "find", "talk_to_user", "change_tools", "finish"])
CALLS = st.builds(lambda name, arguments: ToolCall(name=name, arguments=arguments), NAMES, ARGUMENTS)
QUESTION = ToolCall(name="talk_to_user", arguments={"question": "Where?", "missing": ["city"]})
BROKEN = MalformedCall(text="{", reason="no JSON")
TOOLS = tuple(
    ToolSpec(name=name, parameters={"type": "object", "properties": {"city": {"type": "string"}}})
    for name in ("book", "find")
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    """One turn, most of them with the very calls of the reference."""
    reference = tuple(draw(st.lists(CALLS | st.just(QUESTION), max_size=3)))
    calls: list[Call] = list(reference) if draw(st.integers(0, 3)) else draw(st.lists(CALLS, max_size=3))
    if draw(st.integers(0, 4)) == 0:
        calls.insert(draw(st.integers(0, len(calls))), draw(CALLS | st.just(BROKEN)))
    task = Task(
        task_id="1",
        prompt=(Message(role="user", content="Book Oslo for 3 days"),),
        tools=TOOLS,
        reference=draw(st.just(reference) | st.none()),
        ordered=draw(st.booleans()),
        kind=draw(st.sampled_from([TaskKind.SINGLE, TaskKind.MISSING_ARGUMENT, TaskKind.UNMATCHED_TOOLS])),
    )
    tools = (*TOOLS, *ACTIONS)[: draw(st.sampled_from([1, 2, 5, 5, 5]))]
    message = Message(role="assistant", calls=tuple(calls))
    made = unrendered(task, [(message, ())], tools=tools, finished=draw(st.booleans()))
    if draw(st.integers(0, 5)):
        return made
    failed = draw(st.booleans())
    return replace(made, ending=Ending.ENV_FAILED) if failed else replace(made, outcome=Outcome(answer="no"))


@settings(max_examples=600, deadline=None, database=None)
@given(trajectories())
def test_a_turn_that_is_its_reference_is_judged_as_the_walk_judges_it(trajectory):
    quick = _verdict_of_one_right_turn(trajectory)
    assert quick is None or quick == _Judge(trajectory).run()
    assert judge(trajectory) == _Judge(trajectory).run()


def test_usual_replies_need_no_walk():
    for call in (ToolCall(name="book", arguments={"city": "Oslo"}), QUESTION):
        task = Task(task_id="1", prompt=(), tools=TOOLS, reference=(call,))
        message = Message(role="assistant", calls=(call,))
        assert _verdict_of_one_right_turn(unrendered(task, [(message, ())], tools=(*TOOLS, *ACTIONS))) is not None


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(trajectories())
def test_a_right_reply_is_worth_what_the_long_way_says(monkeypatch, trajectory):
    verdict = judge(trajectory)
    schemes = [scheme(name) for name in SCHEMES]
    quick = [one.reply(trajectory, verdict) for one in schemes]
    with monkeypatch.context() as patch:
        for module in (error_reward, esm, utility):
            patch.setattr(module, "is_right", lambda *_: False)
        assert [one.reply(trajectory, verdict) for one in schemes] == quick


SCALARS = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([0.0, 1.0, -1.0, 2.5, "", "1", "true"])
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)


@settings(max_examples=400, deadline=None, database=None)
@given(NESTED, NESTED)
def test_the_same_json_is_equal_with_the_same_booleans_in_the_same_places(made, other):
    assert identical(made, other) == (_marked(made) == _marked(other))


def _marked(value: object) -> object:
    """The value with booleans that equal no number."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value
