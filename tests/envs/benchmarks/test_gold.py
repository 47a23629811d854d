from envs.benchmarks.alternatives import ALTERNATIVES, accepted_references, alternatives_to_json
from envs.benchmarks.gold import CONTRADICTIONS, contradiction, only
from envs.types import Task, ToolCall, ToolSpec

TOOL = ToolSpec(
    name="f", parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}
)


def test_the_first_contradiction_in_their_order_is_named():
    assert contradiction([ToolCall(name="f", arguments={"a": 1})], [TOOL]) is None
    assert contradiction([ToolCall(name="f", arguments={"a": "1", "c": 2})], [TOOL]) == "unknown_argument"
    assert contradiction([ToolCall(name="f", arguments={"a": "1"})], [TOOL]) == "bad_type"
    calls = [ToolCall(name="f", arguments={}), ToolCall(name="g", arguments={})]
    assert contradiction(calls, [TOOL]) == "unlisted_tool"
    assert only("bad_type") == {"bad_type": CONTRADICTIONS["bad_type"]}


def test_a_task_accepts_its_reference_and_its_alternatives():
    first, second = ToolCall(name="f", arguments={"a": 1}), ToolCall(name="f", arguments={"a": 2})
    task = Task(
        task_id="t",
        prompt=(),
        tools=(TOOL,),
        reference=(first,),
        facts={ALTERNATIVES: alternatives_to_json([[second], []])},
    )
    assert accepted_references(task) == ((first,), (second,), ())
    assert accepted_references(Task(task_id="t", prompt=(), tools=())) == ()
