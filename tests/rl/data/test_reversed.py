from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from envs.checks import check_env
from envs.component import Component
from envs.tasks import read_tasks
from envs.toolworld.catalogue import ProceduralCatalogue
from envs.types import Message, ToolCall
from rewards.classify import judge
from rl.__main__ import main
from rl.algorithms.sft import SFT
from rl.data.conversations import right_episode
from rl.data.datasets import DataSet
from rl.data.job import Job, run_job
from rl.data.overlap import request_of
from rl.data.reversed import (
    Rejected,
    Reversed,
    RuleGenerator,
    Sample,
    expect_answerable,
    expect_no_leak,
    expect_size,
)
from rl.errors import RunFailed
from rl.sample import ScoredGroup
from rollout.demonstrations import read_demonstrations


def generator(seed: int = 0, num_calls: tuple[int, int] = (2, 4)) -> RuleGenerator:
    return RuleGenerator(
        [ProceduralCatalogue("train")], split="train", seed=seed, num_calls=num_calls, num_distractors=2
    )


def samples(num: int, **options: Any) -> list[Sample]:
    attempts = generator(**options).samples(0)
    return [next(attempts) for _ in range(num)]


def read(path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def reversed_(*words: str) -> int:
    return main(["data", "reversed", *words])


def test_every_request_is_answered_by_the_calls_that_were_made_before_it():
    made = samples(60)
    assert check_env(Component(factory="envs.toolworld:ToolWorldEnv"), [sample.task for sample in made]) == []
    for sample in made:
        verdict = judge(sample.trajectory)
        assert verdict.success
        assert not verdict.errors


def test_the_scenario_gives_what_results_do_not():
    for sample in samples(60):
        facts = sample.task.facts
        earlier: set[str] = set()
        for call, turn in zip(sample.task.reference or (), sample.trajectory.turns, strict=False):
            for name, value in call.arguments.items():
                assert facts["user"].get(name) == value or str(value) in earlier
            earlier.update(map(str, json.loads(turn.results[0].content).values()))
        assert len(facts["constraints"]) == len(facts["user"]) <= 7
        assert not any(tool.name in facts["scenario"] for tool in sample.task.tools)


def test_many_calls_take_a_value_from_the_result_before_them():
    num_linked = sum(
        any(value not in sample.task.facts["user"].values() for value in call.arguments.values())
        for sample in samples(60)
        for call in sample.task.reference or ()
    )
    assert num_linked > 20


def test_held_out_requests_are_put_together_as_no_training_request_is():
    catalogue = ProceduralCatalogue("heldout")
    heldout = RuleGenerator([catalogue], split="heldout", seed=0, num_calls=(2, 2), num_distractors=1).samples(0)
    names = {tool.name for sample in samples(40) for tool in sample.task.tools}
    for _ in range(20):
        assert not names & {tool.name for tool in next(heldout).task.tools}


# The filters.


def right_calls(sample: Sample) -> list[ToolCall]:
    return list(sample.task.reference or ())


def sample_with(sample: Sample, request: str) -> Sample:
    return Sample(
        task=replace(sample.task, prompt=(Message(role="user", content=request),)), trajectory=sample.trajectory
    )


@pytest.fixture
def sample() -> Sample:
    return next(one for one in samples(20) if _is_clean(one))


def _is_clean(one: Sample) -> bool:
    try:
        expect_answerable(one)
        expect_no_leak(one)
    except Rejected:
        return False
    return any(isinstance(value, str) for value in right_calls(one)[0].arguments.values())


def test_a_request_that_lacks_a_value_cannot_be_answered(sample):
    with pytest.raises(Rejected, match="given by nothing that was read"):
        expect_answerable(sample_with(sample, "Please do it"))


def test_a_sample_needs_two_tools_and_no_failure(sample):
    first = right_calls(sample)[0]
    once = replace(sample.task, reference=(first, first), answer="done")
    with pytest.raises(Rejected, match="fewer than 2 tools"):
        expect_answerable(Sample(task=once, trajectory=right_episode(once)))
    wrong = replace(sample.task, reference=(ToolCall(name=first.name, arguments={}), first))
    with pytest.raises(Rejected, match="a call failed"):
        expect_answerable(Sample(task=wrong, trajectory=right_episode(wrong)))


def test_a_request_must_not_hold_the_name_of_a_tool(sample):
    request = request_of(sample.task)
    with pytest.raises(Rejected, match="the name of a tool"):
        expect_no_leak(sample_with(sample, f"{request} Use {sample.task.tools[0].name.upper()}."))


def test_a_request_must_not_hold_what_only_a_result_tells(sample):
    result = json.loads(sample.trajectory.turns[0].results[0].content)
    telling = {**result, "found": "Timbuktu"}
    turn = sample.trajectory.turns[0]
    told = replace(turn, results=(replace(turn.results[0], content=json.dumps(telling)),))
    trajectory = replace(sample.trajectory, turns=(told, *sample.trajectory.turns[1:]))
    with pytest.raises(Rejected, match="the request holds a result"):
        expect_no_leak(replace(sample_with(sample, f"{request_of(sample.task)} in Timbuktu"), trajectory=trajectory))
    expect_no_leak(replace(sample, trajectory=trajectory))


def test_a_sample_has_the_calls_and_distractors_that_are_asked_for(sample):
    num_calls = len(right_calls(sample))
    expect_size(sample, min_calls=num_calls, num_distractors=2)
    with pytest.raises(Rejected, match="too few calls could be made"):
        expect_size(sample, min_calls=num_calls + 1, num_distractors=2)
    with pytest.raises(Rejected, match="too few tools are left"):
        expect_size(sample, min_calls=num_calls, num_distractors=3)


class Repeating:
    """Gives the same samples over and over."""

    def __init__(self, given: list[Sample]) -> None:
        self._given = given

    def samples(self, start: int) -> Iterator[Sample]:
        number = start
        while True:
            yield self._given[number % len(self._given)]
            number += 1


def test_no_request_is_kept_twice_and_too_few_samples_are_a_failure(tmp_path, sample):
    other = next(one for one in samples(40, seed=1) if _is_clean(one))
    nearly = sample_with(sample, f"{request_of(sample.task)} !!")
    job = Job(command="test", out=tmp_path / "out.jsonl")
    with pytest.raises(RunFailed, match="only 2 of"):
        run_job(job, Reversed(Repeating([sample, nearly, other]), num=3), total=None)
    assert not job.out.exists()
    run_job(job, Reversed(Repeating([sample, nearly, other]), num=2), total=None)
    assert len(read(job.out)) == 2


def test_a_request_that_is_nearly_there_is_dropped_although_a_longer_one_holds_more_of_it(tmp_path, sample):
    words = request_of(sample.task).split()
    like = sample_with(sample, " ".join(words[1:]))
    longer = sample_with(sample, " ".join([*words, *(f"and {word} too" for word in words)]))
    other = next(one for one in samples(40, seed=1) if _is_clean(one))
    job = Job(command="test", out=tmp_path / "out.jsonl")
    run_job(job, Reversed(Repeating([like, longer, sample, other]), num=3, conversations=False), total=None)
    requests = [record["prompt"][0]["content"] for record in read(job.out)]
    assert requests == [request_of(one.task) for one in (like, longer, other)]


def test_no_request_is_kept_that_a_benchmark_has(tmp_path, sample):
    benchmark = DataSet(name="exam", tasks=[replace(sample.task, task_id="exam/1")])
    given = [sample, *(one for one in samples(40, seed=1) if _is_clean(one))]
    job = Job(command="test", out=tmp_path / "out.jsonl")
    run_job(job, Reversed(Repeating(given), num=5, against=[benchmark]), total=None)
    requests = [record["messages"][0]["content"] for record in read(job.out)]
    assert request_of(sample.task) not in requests
    summary = json.loads(job.summary.read_text())
    assert summary["counts"]["dropped"]["the request is met in exam"] == 1


# The command.


def test_conversations_can_be_learned_from_and_tasks_pass_in_the_environment(tmp_path, renderer):
    conversations, tasks = tmp_path / "c.jsonl", tmp_path / "t.parquet"
    assert reversed_("procedural", "--num", "30", "--calls", "2-3", "--out", str(conversations)) == 0
    assert reversed_("procedural", "--num", "30", "--calls", "2-3", "--out", str(tasks), "--tasks") == 0
    trajectories = list(read_demonstrations(conversations, renderer))
    assert len(SFT().samples([ScoredGroup(trajectories=(one,)) for one in trajectories])) == 30
    made = read_tasks(tasks)
    assert check_env(Component(factory="envs.toolworld:ToolWorldEnv"), made) == []
    assert [one.prompt[0].content for one in made] == [
        record["messages"][0]["content"] for record in read(conversations)
    ]
    assert all(record["scenario"] and record["constraints"] for record in read(conversations))


def test_a_stopped_call_goes_on_and_still_keeps_no_request_twice(tmp_path, sample):
    class Stopping(Repeating):
        def samples(self, start: int) -> Iterator[Sample]:
            yield from (one for one, _ in zip(super().samples(start), range(2), strict=False))
            raise KeyboardInterrupt

    given = [sample, sample, sample, *(one for one in samples(40, seed=1) if _is_clean(one))]
    job = Job(command="test", out=tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, Reversed(Stopping(given), num=6), total=None)
    run_job(job, Reversed(Repeating(given), num=6), total=None)
    requests = [record["messages"][0]["content"] for record in read(job.out)]
    assert len(set(requests)) == len(requests) == 6
    assert requests[0] == request_of(sample.task)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere.jsonl"], "no such data set"),
        (["procedural", "--calls", "1-3"], "expected A-B with 2 <= A <= B"),
        (["procedural", "--calls", "many"], "expected A-B"),
        (["procedural", "--num", "0"], "expected at least 1"),
        (["procedural", "--endpoint", "http://localhost:1/v1"], "expected both or none"),
        (["procedural", "--against", "exam"], "exam: no such data set"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, expected):
    assert reversed_(*words, "--out", str(tmp_path / "out.jsonl")) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--calls", "50-60"], "too few calls could be made"),
        (["--distractors", "40"], "too few tools are left to offer beside those that are called"),
    ],
)
def test_what_no_sample_can_have_ends_the_call_with_its_reason(tmp_path, capsys, words, reason):
    assert reversed_("procedural", "--num", "1", *words, "--out", str(tmp_path / "out.jsonl")) == 1
    assert f"only 0 of 200 attempts were kept; most often dropped (200): {reason}" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


# A language model behind an endpoint.


def _value(name: str, schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date":
        return "2026-05-04"
    return {"integer": 17, "number": 17.5, "boolean": True}.get(schema["type"], f"Alpha {len(name)}")


def obedient(request: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """A model that does what it is told: the name and the arguments of its call."""
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in request["tools"]}
    if "scenario" in offered:
        names = re.findall(r'"name": "(\w+)", "description"', request["messages"][0]["content"])
        return "scenario", {"scenario": "A trip", "constraints": ["a: 1", "b: 2", "c: 3", "d: 4"], "tools": names[:3]}
    if "question" in offered:
        steps = re.findall(r"\d+\. \w+\((\{.*?\})\) gave", request["messages"][0]["content"])
        values = [f"{name} {value}" for step in steps for name, value in json.loads(step).items()]
        return "question", {"question": f"I want it all with {', '.join(values)}"}
    made = [call["function"]["name"] for m in request["messages"] for call in m.get("tool_calls", ())]
    fresh = [name for name in offered if name not in ("answer", "restart", *made)]
    if not fresh:
        return "answer", {"answer": "It is done."}
    schema = offered[fresh[0]]
    return fresh[0], {name: _value(name, schema["properties"][name]) for name in schema["required"]}


@pytest.fixture
def serve(json_server):
    """Starts an endpoint that calls what `model` makes of a request, and fails while `is_broken()`."""

    def start(model, is_broken=lambda: False):
        def reply(request: dict[str, Any]) -> tuple[int, Any]:
            message: dict[str, Any] = {"role": "assistant", "content": None}
            made = model(request)
            if made is not None:
                function = {"name": made[0], "arguments": json.dumps(made[1])}
                message["tool_calls"] = [{"id": "x", "type": "function", "function": function}]
            return 400 if is_broken() else 200, endpoint.completion(message)

        endpoint = json_server(reply)
        return endpoint

    return start


def test_a_language_model_makes_the_calls_first_and_writes_the_request_last(tmp_path, serve):
    endpoint, out = serve(obedient), tmp_path / "out.jsonl"
    words = ["procedural", "--num", "3", "--calls", "2-3", "--endpoint", endpoint.url, "--model", "m", "--writer", "w"]
    assert reversed_(*words, "--concurrency", "2", "--out", str(out)) == 0
    records = read(out)
    assert len(records) == 3
    for record in records:
        assert record["scenario"] == "A trip"
        assert record["messages"][0]["content"].startswith("I want it all with")
        calls = [call for m in record["messages"] for call in m.get("tool_calls", ())]
        assert [call["function"]["name"] for call in calls][:-1] == [call["name"] for call in record["reference"]]
        assert json.loads(calls[-1]["function"]["arguments"]) == {"answer": "It is done."}
        assert len(record["tools"]) > len(record["reference"]) + 3
    writers = {request["model"] for request in endpoint.requests if request["tool_choice"] != "auto"}
    assert writers == {"m", "w"}
    nudges = [request["messages"][-1]["content"] for request in endpoint.requests if request["tool_choice"] == "auto"]
    assert {"Begin.", "One more tool at most, then the answer."} <= set(nudges)


@pytest.mark.parametrize(
    ("spoils", "reason"),
    [
        ("scenario", "the model gave no scenario"),
        ("calls", "a reply holds no call that can be read"),
        ("restart", "the model gave up"),
        ("arguments", "a call failed"),
        ("question", "a value is given by nothing that was read"),
        ("name", "the scenario holds the name of a tool"),
    ],
)
def test_what_a_language_model_spoils_is_dropped_with_its_reason(tmp_path, serve, spoils, reason):
    def model(request: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        made = obedient(request)
        assert made is not None
        is_first = len(endpoint.requests) < 9
        is_call = made[0] not in ("scenario", "question", "answer")
        if not is_first:
            return made
        if spoils == "scenario" and made[0] == "scenario":
            return "scenario", {**made[1], "constraints": []}
        if spoils == "name" and made[0] == "scenario":
            return "scenario", {**made[1], "scenario": f"Call {made[1]['tools'][0]}"}
        if spoils == "question" and made[0] == "question":
            return "question", {"question": "Do it?"}
        if is_call and spoils in ("calls", "restart", "arguments"):
            return {"calls": None, "restart": ("restart", {"error_summary": "x"}), "arguments": (made[0], {})}[spoils]
        return made

    endpoint = serve(model)
    out = tmp_path / "out.jsonl"
    words = [
        "procedural",
        "--num",
        "1",
        "--calls",
        "2",
        "--endpoint",
        endpoint.url,
        "--model",
        "m",
        "--concurrency",
        "1",
    ]
    assert reversed_(*words, "--out", str(out)) == 0
    dropped = json.loads((tmp_path / "out.jsonl.summary.json").read_text())["counts"]["dropped"]
    assert reason in dropped


def test_an_endpoint_that_fails_stops_the_call_and_nothing_is_lost(tmp_path, serve):
    repaired: list[bool] = []
    endpoint = serve(obedient, is_broken=lambda: len(endpoint.requests) > 12 and not repaired)
    out = tmp_path / "out.jsonl"
    words = [
        "procedural",
        "--num",
        "6",
        "--calls",
        "2",
        "--endpoint",
        endpoint.url,
        "--model",
        "m",
        "--concurrency",
        "1",
    ]
    assert reversed_(*words, "--out", str(out)) == 1
    num_asked = len(endpoint.requests)
    kept = [line for line in (tmp_path / "out.jsonl.partial").read_text().splitlines()[1:] if '"kept"' in line]
    assert kept
    repaired.append(True)
    assert reversed_(*words, "--out", str(out)) == 0
    assert len(read(out)) == 6
    assert len(endpoint.requests) - num_asked < 6 * 5
    assert read(out)[0] | {"source": 0} == json.loads(kept[0])["records"][0] | {"source": 0}
