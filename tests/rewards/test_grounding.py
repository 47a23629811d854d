from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.actions import ACTIONS
from envs.schema import check
from envs.types import Message, Task, TaskKind, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.agreement import GROUNDED, UNGROUNDED, agreement, grounding_label
from rewards.classify import classify
from rewards.grounding import Context, context_before, is_paging, schema_grounds, ungrounded_places
from rewards.moments import Moments
from rewards.quantities import numbers_in
from rollout.recorded import message_of_openai
from rollout.unrendered import unrendered

FOLLOWS = [
    # text, value
    ("Book a flight to Oslo for 3 days", "oslo"),
    ("Book a flight to Oslo for 3 days", 3),
    ("Book a flight for three days", 3),
    ("twenty-five guests", 25),
    ("a population of 8.5 million", 8500000),
    ("two hundred shares", 200),
    ("I have 5k followers", 5000),
    ("half a million people", 500000),
    ("charges of 1e-9 C", 1e-9),
    ("a charge of -1.6 x 10^-19 Coulombs", -1.6e-19),
    ("interest of 5%", 0.05),
    ("interest of 5 percent", 0.05),
    ("inductance of 50mH", 0.05),
    ("capacitance of 100\u00b5F", 0.0001),
    ("for 3 minutes", 180),
    ("in 1 hour and 30 minutes", 90),
    ("height 5ft 10in", 70),
    ("over the past decade", 10),
    ("for the next week", 7),
    ("the third page", 3),
    ("on the 22nd", 22),
    ("half an hour", 30),
    ("costs $1,250.50", 1250.5),
    ("a loss of $1000", -1000),
    ("112.0740 W", -112.074),
    ("3 days", "3"),
    ("[1, 2, 3]", [3, 1]),
    ("pandas in China", "panda"),
    ("which opens on Sundays", "open on Sunday"),
    ("live in New York", "New York, NY"),
    ("in Berkeley California", "Berkeley, CA"),
    ("tax in Chicago, Illinois", "IL"),
    ("tax in Portland, OR", "Oregon"),
    ("150 Euros", "EUR"),
    ("20000 Japanese Yen", "JPY"),
    ("convert $5", "USD"),
    ("holidays of Spain", "ES"),
    ("German history", "Germany"),
    ("hotels in LA", "Los Angeles, CA"),
    ("New York time", "America/New_York"),
    ("\u83b7\u53d6\u963f\u8fea\u8fbe\u65af\u7684\u5de5\u5355", "\u963f\u8fea\u8fbe\u65af"),
    ("on March 3rd, 2023", "2023-03-03"),
    ("on 15th October,2023", "15-10-2023"),
    ("May 12, 2022", "05-12-2022"),
    ("May 12, 2022", "12/05/2022"),
    ("today is 2023.4.15", "2023-04-15"),
    ("2024\u5e743\u670810\u65e5", "2024-03-10"),
    ("tomorrow", "2024-05-01"),
    ("It is 2024-05-15. Next Friday", "2024-05-24"),
    ("at 2 PM", "14:00"),
    ("at 7:30 p.m.", "19:30"),
    ("at noon", "12:00"),
    ("4 in the afternoon", "16:00"),
    ("9 o'clock", "09:00"),
    ("on 2024-05-01 at 9am", "2024-05-01T09:00:00Z"),
    ("on 2024-05-01", "2024-05-01T00:00:00"),
    ("write to ann@x.org", "ann@x.org"),
    ("anything", None),
    ("anything", True),
    ("anything", "true"),
    ("stops: Rome (2 nights)", {"via": ["Rome"], "nights": 2}),
]
INVENTED = [
    ("Book a flight to Oslo for 3 days", "Bergen"),
    ("Book a flight to Oslo for 3 days", 4),
    ("Book a flight to Oslo for 3 days", -3),
    ("a flight to Oslo", "Oslo, Bergen"),
    ("a flight to Chicago or Boston", "Oregon"),
    ("visit me in Berkeley", "Oakland, CA"),
    ("100 dollars", "EUR"),
    ("8.5 million", 85),
    ("50mH", 0.5),
    ("3 minutes", 190),
    ("on March 3rd, 2023", "2023-03-04"),
    ("on March 3rd, 2023", "2024-03-03"),
    ("It is 2024-05-15. Next Friday", "2029-05-24"),
    ("what is her last name", "2024-05-15"),
    ("at 2 PM", "15:00"),
    ("on 2024-05-01", "2024-05-01T09:00:00"),
    ("my order", "A12345"),
    ("a video about the Taj Mahal", "The Secrets of the Taj Mahal"),
    ("hotels in LA", "Las Vegas"),
    ("New York time", "Europe/London"),
    ("\u963f\u8fea\u8fbe\u65af", "\u8010\u514b"),
]


@pytest.mark.parametrize(("text", "value"), FOLLOWS)
def test_what_follows_from_the_text_is_held(text, value):
    assert Context([text]).holds(value)


@pytest.mark.parametrize(("text", "value"), INVENTED)
def test_what_does_not_follow_is_not_held(text, value):
    assert not Context([text]).holds(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
PIECES = [
    "5", "12", "1,2", ".5", "e9", "-", "/", ":", "%", " ", "am", "pm", "may", "2024", "th", "x 10^", "million", "ft",
    "in", "5ft", "mh", "hour", "the", "second", "next", "\u0665", "\u00b2", "T", "Z", "9" * 400, "\u5e74", "CA", ",",
    "US", "half a", "1/0", "1e999",
]  # fmt: skip
TEXTS = st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@settings(max_examples=3000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, TEXTS | JSON)
def test_no_text_and_no_value_make_it_raise(text, value):
    context = Context([text])
    context.holds(value)
    ungrounded_places("a", value, {"description": text, "enum": [text]}, context, defaults=True)
    if isinstance(value, str):
        assert Context([f"so: {value} :so"]).holds(value) or not value.strip()


def test_numbers_are_read_in_every_spelling():
    assert {3.0, 180.0, 0.05} <= numbers_in("3 minutes")
    assert numbers_in("no number") == frozenset()
    assert 1 / 3 not in numbers_in("1/0")


def test_moments_tell_dates_and_times_from_other_values():
    moments = Moments("on 2024-05-01 at 9:30")
    assert moments.holds("oslo") is None
    assert moments.holds("12.5") is None
    assert moments.holds("2024-05-01") is True
    assert moments.holds("1 may 2024, 9:30 am") is True
    assert moments.holds("10:30") is False


def test_nested_values_are_ungrounded_where_their_leaf_is():
    schema = {"items": {"properties": {"via": {"enum": ["Rome"]}, "page": {}}}}
    value = [{"via": "Rome", "page": 2, "x/y": "Bonn"}, {"via": "Oslo"}]
    context = Context(["from Oslo"])
    assert ungrounded_places("stops", value, schema, context, defaults=True) == ["/stops/0/x~1y"]


@pytest.mark.parametrize(
    "name", ["page", "pageNum", "page_size", "limit", "maxResults", "max_entries_per_page", "offset"]
)
def test_pages_and_limits_are_common_knowledge(name):
    assert is_paging(name, 20)
    assert is_paging(name, "1")
    assert not is_paging(name, 123456)
    assert not is_paging(name, "abc")
    assert not is_paging(name, True)


@pytest.mark.parametrize("name", ["credit_limit", "speedLimit", "participant_count", "number", "id", "page_id", "size"])
def test_other_numbers_are_not(name):
    assert not is_paging(name, 20)


def test_a_value_without_preference_claims_nothing_unless_it_was_to_be_asked_for(build):
    assert ungrounded_places("genre", "Any", {}, Context(["a film"]), defaults=False) == []
    task = build.task(build.ask("city"), build.call("get_weather", city="Oslo"), kind=TaskKind.MISSING_ARGUMENT)
    errors = classify(build.play(task, build.call("get_weather", city="any")))
    assert "ungrounded_value" in {error.kind for error in errors}


def test_defaults_examples_and_descriptions_ground_only_where_nothing_is_missing():
    schemas = [
        {"default": "San Francisco"},
        {"examples": ["San Francisco"]},
        {"example": "San Francisco"},
        {"description": "The city, e.g. San Francisco."},
    ]
    for schema in schemas:
        assert schema_grounds("san francisco", schema, defaults=True)
        assert not schema_grounds("san francisco", schema, defaults=False)
        assert not schema_grounds("Francis", schema, defaults=True)
    for schema in ({"enum": ["a", 1]}, {"const": 1}):
        assert schema_grounds(1, schema, defaults=False)
    assert schema_grounds(3, {"description": "1: sedentary, 2: light, 3: moderate"}, defaults=True)
    assert not schema_grounds(3, {"description": "up to 3"}, defaults=True)
    assert not schema_grounds(True, {"description": "1: true"}, defaults=True)


def test_the_words_of_the_user_between_turns_ground_later_values():
    task = Task(task_id="t", prompt=(Message(role="user", content="Book."),), tools=())
    asks = Message(role="assistant", content="Where to?")
    trajectory = unrendered(task, [(asks, ()), (asks, ())], heard=[[Message(role="user", content="Oslo")], []])
    assert not context_before(trajectory, 0).holds("Oslo")
    assert context_before(trajectory, 1).holds("Oslo")


# On data.


def json_schema(value: Any) -> Any:
    """BFCL's dialect, as far as these tests need it."""
    if isinstance(value, list):
        return [json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    types = {"dict": "object", "float": "number", "tuple": "array"}
    return {
        key: types.get(item, item) if key == "type" and isinstance(item, str) else json_schema(item)
        for key, item in value.items()
        if not (key == "type" and item == "any")
    }


def when2call(folder):
    """(task, made call, the parameter whose value was taken out of the question) of each reply that guesses it."""
    for line in (folder / "when2call" / "when2call_test_llm_judge.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["correct_answer"] != "request_for_info":
            continue
        made = ToolCall(**json.loads(record["answers"]["tool_call"]))
        held_out = record["held_out_param"]
        tools = [json.loads(tool) for tool in record["tools"]]
        due = ToolCall(name="talk_to_user", arguments={"missing": [held_out]})
        task = Task(
            task_id=record["uuid"],
            prompt=(Message(role="user", content=record["question"]),),
            tools=tuple(
                ToolSpec(name=tool["name"], parameters=json_schema(tool["parameters"]) | {"type": "object"})
                for tool in tools
            ),
            kind=TaskKind.MISSING_ARGUMENT,
            # After the question comes the same call with the value that only the user knows.
            reference=(due, ToolCall(name=made.name, arguments={**made.arguments, held_out: "\u2047"})),
        )
        yield task, made, held_out


def test_made_up_required_values_of_when2call_are_found(benchmark_data):
    num_absent = num_found = num_deferrals = 0
    for task, made, held_out in when2call(benchmark_data):
        reply = Message(role="assistant", calls=(made,))
        errors = classify(unrendered(task, [(reply, ())], tools=(*task.tools, *ACTIONS), finished=False))
        num_deferrals += any(error.kind == "missed_deferral" for error in errors)
        value = made.arguments[held_out]
        text = value if isinstance(value, str) else json.dumps(value)
        if text.casefold() in task.prompt[0].content.casefold():
            continue
        num_absent += 1
        num_found += any(
            error.kind == "ungrounded_value" and (error.argument or "").startswith(f"/{held_out}") for error in errors
        )
    assert num_absent >= 50
    assert num_deferrals == 56
    assert num_found / num_absent >= 0.95


def tau_bench(folder):
    """(reward, trajectory) of each recorded dialogue, with the user's words between the turns."""
    tools = tuple(
        ToolSpec.from_json(tool) for tool in json.loads((folder / "tau_bench/tools_airline.json").read_text())
    )
    with gzip.open(folder / "tau_bench" / "gpt-4o-airline.jsonl.gz", "rt") as lines:
        for line in lines:
            record = json.loads(line)
            messages = [message_of_openai(value, "traj") for value in record["traj"]]
            first = next(index for index, message in enumerate(messages) if message.role == "assistant")
            replies, heard = [], []
            for message in messages[first:]:
                if message.role == "assistant":
                    replies.append((message, []))
                    heard.append([])
                elif message.role == "tool":
                    replies[-1][1].append(
                        ToolResult(call_id=message.call_id, status=ToolStatus.OK, content=message.content)
                    )
                else:
                    heard[-1].append(message)
            task = Task(task_id="tau", prompt=tuple(messages[:first]), tools=tools, kind="dialogue")
            yield record["reward"], unrendered(task, replies, heard=heard)


def test_calls_of_solved_dialogues_of_tau_bench_are_grounded(benchmark_data):
    num_calls = num_alarms = 0
    for reward, trajectory in tau_bench(benchmark_data):
        specs = {tool.name: tool for tool in trajectory.tools}
        for turn in trajectory.turns:
            for call in turn.message.calls:
                assert isinstance(call, ToolCall)
                assert check(call.arguments, specs[call.name].parameters) == []
                num_calls += reward == 1
        if reward == 1:
            num_alarms += sum(error.kind == "ungrounded_value" for error in classify(trajectory))
    assert num_calls > 200
    assert num_alarms / num_calls <= 0.01


def test_labels_of_when2call_agree_with_the_check(benchmark_data):
    """Fixed calls of which the data says that a value was made up, or that all of them are right."""
    labels = []
    for task, made, _ in when2call(benchmark_data):
        reply = unrendered(task, [(Message(role="assistant", calls=(made,)), ())])
        labels.append((grounding_label(reply, 0, 0), UNGROUNDED))
    for line in (benchmark_data / "when2call" / "when2call_test_llm_judge.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["correct_answer"] == "tool_call":
            tools = [json.loads(tool) for tool in record["tools"]]
            task = Task(
                task_id=record["uuid"],
                prompt=(Message(role="user", content=record["question"]),),
                tools=tuple(ToolSpec(name=tool["name"], parameters=json_schema(tool["parameters"])) for tool in tools),
            )
            made = ToolCall(**json.loads(record["answers"]["tool_call"]))
            reply = unrendered(task, [(Message(role="assistant", calls=(made,)), ())])
            labels.append((grounding_label(reply, 0, 0), GROUNDED))
    found = agreement(labels)
    assert (found.num, found.num_unscored) == (113, 0)
    assert found.kappa is not None
    assert found.kappa >= 0.7, found.counts
