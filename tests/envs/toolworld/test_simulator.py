import json

from hypothesis import given
from hypothesis import strategies as st

from envs.actions import ACTIONS
from envs.toolworld import ToolWorldEnv, ToolWorldTasks
from envs.toolworld.simulator import simulate
from envs.types import Message, ToolCall

FIELDS = {"total": {"type": "integer"}, "place": {"type": "string"}, "date": {"type": "string", "format": "date"}}


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.booleans(), max_size=4))
def test_results_follow_from_seed_tool_and_arguments_whatever_their_order(arguments):
    result = simulate(1, "f", arguments, FIELDS)
    assert result == simulate(1, "f", dict(reversed(arguments.items())), FIELDS)
    assert list(result) == list(FIELDS) and isinstance(result["total"], int)


def test_other_seeds_tools_and_arguments_give_other_results():
    base = simulate(1, "f", {"a": 1}, FIELDS)
    assert base not in (
        simulate(2, "f", {"a": 1}, FIELDS),
        simulate(1, "g", {"a": 1}, FIELDS),
        simulate(1, "f", {"a": 2}, FIELDS),
    )


def test_results_are_short():
    for task in ToolWorldTasks(num=500):
        for name, fields in task.facts["results"].items():
            assert len(json.dumps(simulate(task.seed, name, {}, fields))) <= 60


async def test_new_tools_are_told_in_one_line_each_and_can_be_called():
    task = next(task for task in ToolWorldTasks(kinds={"unmatched_tools": 1}) if task.facts["new_tools"])
    env = ToolWorldEnv(task)
    await env.open()
    ask = ToolCall(call_id="a", name="change_tools", arguments={"reason": "none"})
    step = await env.step(Message(role="assistant", calls=(ask,)))
    lines = json.loads(step.results[0].content)["tools"]
    wanted = task.facts["wanted"]
    assert any(line.startswith(f"{wanted['name']}(") for line in lines)
    assert step.tools is not None and step.tools[-3:] == ACTIONS and len(step.tools) == len(lines) + 3
    call = ToolCall(call_id="b", name=wanted["name"], arguments=wanted["arguments"])
    step = await env.step(Message(role="assistant", calls=(call,)))
    assert step.results[0].status == "ok"
