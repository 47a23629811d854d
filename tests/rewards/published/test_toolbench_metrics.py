import math

import pytest

from envs.benchmarks import tau_bench as reader
from envs.benchmarks.relytoolbench import FINISH_TOOL
from envs.types import MalformedCall, Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.published import relytoolbench, stabletoolbench, tau_bench
from rollout.dialogues import from_dialogue
from rollout.unrendered import unrendered

TRACK = ToolSpec(
    name="track",
    parameters={
        "type": "object",
        "properties": {"id": {"type": "string"}, "days": {"type": "number"}, "all": {"type": "boolean"}},
        "required": ["id"],
    },
)


def episode(condition, *calls, subset="G1_solvable", responses=()):
    task = Task(
        task_id=f"relytoolbench/{subset}/1",
        prompt=(Message(role="user", content="Track it."),),
        tools=(TRACK, FINISH_TOOL),
        kind=condition,
        facts={"benchmark": {"condition": condition, "relevant": ["track", "list"]}},
    )
    replies = []
    for number, call in enumerate(calls):
        content = responses[number] if number < len(responses) else str(number)
        result = ToolResult(call_id="", status=ToolStatus.OK, content=content)
        replies.append((Message(role="assistant", calls=(call,)), (result,)))
    return unrendered(task, replies)


def track(**arguments):
    return ToolCall(name="track", arguments=arguments)


def finish(return_type, **more):
    return ToolCall(name="Finish", arguments={"return_type": return_type, **more})


ANSWER = finish("give_answer", final_answer="It is in Oslo.")
GIVE_UP = finish("give_up_and_change_tools")


@pytest.mark.parametrize(
    ("condition", "calls", "passed", "reliable", "utility"),
    [
        # Only what ends by Finish can pass.
        ("solvable", [track(id="a")], (0, 0), (0, 0), (0, 0)),
        ("unmatched", [track(id="a")], (0, 0), (0, 0), (-1, -1)),
        # Giving up is right exactly where nothing can be done.
        ("solvable", [GIVE_UP], (0, 0), (0, 0), (0, 0)),
        ("unmatched", [GIVE_UP], (1, 1), (1, 1), (20, 20)),
        ("missing", [track(id="a"), track(id="b"), GIVE_UP], (1, 1), (1, 1), (18, 18)),
        # An answer without text is none.
        ("solvable", [finish("give_answer", final_answer=" ")], (0, 0), (0, 0), (0, 0)),
        ("missing", [finish("give_answer", final_answer="")], (1, 1), (1, 1), (20, 20)),
        # An answer after a clean call is the judge's to decide; the first call is free.
        ("solvable", [track(id="a"), track(id="b"), ANSWER], (0, 1), (0, 1), (-11, 19)),
        # An answer after no clean call is hallucinated if it is one at all.
        ("solvable", [track(), ANSWER], (0, 1), (0, 0), (-10, 0)),
        ("solvable", [ANSWER], (0, 1), (0, 0), (-10, 0)),
        ("unmatched", [track(), ANSWER], (0, 1), (0, 1), (-11, 19)),
    ],
)
def test_what_is_certain_without_a_judge(condition, calls, passed, reliable, utility):
    record = relytoolbench.METRIC.record(episode(condition, *calls))
    for name, bounds in (("pass_rate", passed), ("repr", reliable), ("utility", utility)):
        assert (record[f"{name}_at_least"], record[f"{name}_at_most"]) == bounds


def test_the_cost_of_calls_has_a_limit():
    calls = [track(id=str(number)) for number in range(30)]
    assert relytoolbench.METRIC.record(episode("solvable", *calls))["cost"] == 9
    assert relytoolbench.METRIC.record(episode("missing", *calls))["cost"] == 10


@pytest.mark.parametrize(
    ("call", "label"),
    [
        (track(id="a"), None),
        (track(id="a", days=3, all=False), None),
        (ToolCall(name="trace", arguments={}), "tool_name_hallucination"),
        (MalformedCall(text="track(", reason="unclosed"), "parameter_json_format_hallucination"),
        (track(days=3), "parameter_required_missing"),
        (track(id="a", colour="red"), "parameter_name_hallucination"),
        (track(id=3), "parameter_value_type_error"),
        # As published: NUMBER is declared integer, and a boolean passes for one.
        (track(id="a", days=0.5), "parameter_value_type_error"),
        (track(id="a", days=True), None),
        (track(colour="red"), "parameter_required_missing"),
    ],
)
def test_the_first_rule_that_fires_gives_the_label(call, label):
    assert relytoolbench.detect([(call, None)], (TRACK,)) == [label]


def test_a_call_is_repeated_only_if_its_answer_is():
    first = (track(id="a"), ToolResult(call_id="", status=ToolStatus.OK, content="1"))
    other = (track(id="a"), ToolResult(call_id="", status=ToolStatus.OK, content="2"))
    assert relytoolbench.detect([first, other, first], (TRACK,)) == [None, None, "tool_duplicated_hallucination"]


def test_hallucinated_calls_are_a_share_of_those_that_are_no_finish():
    made = episode("solvable", track(id="a"), track(), track(id="a"), ToolCall(name="x", arguments={}), ANSWER)
    record = relytoolbench.METRIC.record(made)
    assert record["hallucination_rate_of_rules"] == 0.5
    assert (record["type_rate_of_rules"], record["format_rate_of_rules"], record["timing_rate_of_rules"]) == (
        0.25,
        0.25,
        0,
    )


def test_a_question_to_the_user_is_no_tool_call():
    ask = ToolCall(name="TalkToUser", arguments={"question": "Which parcel?"})
    record = relytoolbench.METRIC.record(episode("missing", ask, track(), ask, GIVE_UP))
    assert (record["cost"], record["hallucination_rate_of_rules"]) == (1.0, 1.0)
    assert (record["ends_with_finish"], record["repr_at_least"], record["utility_at_least"]) == (1.0, 1.0, 19.0)
    assert relytoolbench.METRIC.record(episode("missing", ask))["ends_with_finish"] == 0.0


def test_figures_are_means_over_subsets():
    few = [episode("solvable", GIVE_UP)]
    many = [episode("unmatched", GIVE_UP, subset="G1_unmatched") for _ in range(3)]
    records = [(one.task, relytoolbench.METRIC.record(one)) for one in (*few, *many)]
    assert relytoolbench.METRIC.total(records)["pass_rate_at_least"] == 0.5


def test_no_figure_has_the_published_name_of_what_needs_a_judge():
    figures = relytoolbench.METRIC.record(episode("solvable", ANSWER))
    assert not set(figures) & set(relytoolbench.METRIC.missing)
    figures = stabletoolbench.METRIC.record(episode("solvable", ANSWER))
    assert not set(figures) & set(stabletoolbench.METRIC.missing)


def test_the_deterministic_part_of_stabletoolbench():
    made = episode("solvable", track(id="a"), ToolCall(name="x", arguments={}), ANSWER)
    assert stabletoolbench.METRIC.record(made) == {
        "ends_with_answer": 1.0,
        "gives_up": 0.0,
        "relevant_called": 0.5,
        "unlisted_name_rate": pytest.approx(1 / 3),
    }
    nothing = stabletoolbench.METRIC.record(episode("solvable"))
    assert (nothing["ends_with_answer"], nothing["unlisted_name_rate"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("last", "answers", "gives_up"),
    [
        (ANSWER, 1.0, 0.0),
        (GIVE_UP, 0.0, 1.0),
        (MalformedCall(text="track(", reason="unclosed"), 0.0, 0.0),
        (track(id="a"), 0.0, 0.0),
    ],
)
def test_an_episode_ends_by_finish_only_if_its_last_call_is_one_that_can_be_read(last, answers, gives_up):
    made = episode("solvable", track(id="a"), ANSWER, last)
    record = stabletoolbench.METRIC.record(made)
    assert (record["ends_with_answer"], record["gives_up"]) == (answers, gives_up)
    assert relytoolbench.METRIC.record(made)["ends_with_finish"] == max(answers, gives_up)


def trial(task, reward):
    return Task(task_id=f"{task}", prompt=(), tools=(), facts={"benchmark": {"task": task}}), {"reward": reward}


def test_pass_hat_is_the_chance_that_all_of_k_trials_succeed():
    records = [trial(1, value) for value in (1.0, 1.0, 0.0)] + [trial(2, value) for value in (1.0, 0.0, 0.0)]
    assert tau_bench.pass_hat(records) == {"pass^1": 0.5, "pass^2": pytest.approx(1 / 6), "pass^3": 0.0}
    assert tau_bench.pass_hat([trial(1, None)]) == {}


def test_what_stands_beside_a_call_is_not_told_to_the_user():
    facts = {"task": 1, "actions": [], "writing": [], "outputs": ["1800"]}
    task = Task(task_id="tau_bench/airline/1", prompt=(), tools=(TRACK,), facts={"benchmark": facts})
    beside = (Message(role="assistant", content="It is 1,800.", calls=(track(id="a"),)), ())
    alone = (Message(role="assistant", content="It is 1,800."), ())
    other = (Message(role="assistant", content="Done."), ())
    for replies, told in (([beside, other], 0.0), ([beside, alone], 1.0), ([alone], 1.0), ([other], 0.0)):
        assert tau_bench.METRIC.record(unrendered(task, replies))["outputs_told"] == told


def test_the_reward_is_the_recorded_one_and_the_calls_agree_with_it(benchmark_data):
    records = []
    for dialogue in reader.traces(benchmark_data / "tau_bench"):
        records.append((dialogue.task, tau_bench.METRIC.record(from_dialogue(dialogue))))
    figures = tau_bench.METRIC.total(records)
    assert math.isclose(figures["reward"] or 0.0, 46 / 120)
    assert figures["pass^1"] == figures["reward"] and "pass^4" in figures and "pass^5" not in figures
    agreed = [
        record["reward"] == float(record["actions_match"] == record["outputs_told"] == 1.0) for _, record in records
    ]
    assert sum(agreed) == 118


def test_without_a_recorded_reward_there_is_none(benchmark_data):
    task = next(reader.read(benchmark_data / "tau_bench", "airline"))
    record = tau_bench.METRIC.record(unrendered(task, [(Message(role="assistant", content="Hello."), ())]))
    assert record["reward"] is None
    assert tau_bench.METRIC.total([(task, record)])["reward"] is None
