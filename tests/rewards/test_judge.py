"""The judge against a server of the standard library in this process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.types import TaskKind, ToolCall, ToolSpec
from rewards.agreement import agreement, grounding_labels
from rewards.judge import AnswerCache, Budget, Judge, JudgeReward, choice_in
from rewards.judge_questions import CALLING_TRUTHFULNESS, UNSURE, about_call
from rollout.trajectory import Ending

pytest.importorskip("openai")

Reply = tuple[int, object]
TOOL = ToolSpec(name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
CALL = ToolCall(name="f", arguments={"a": "Oslo"})


def says(text: object, tokens: int | None = 7) -> Reply:
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}], **usage}


def in_order(*replies: Reply) -> Callable[[dict], Reply]:
    """Gives these one after the other, and the last one from then on."""
    left = list(replies)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def endpoint(json_server):
    return json_server(lambda request: says("Truthful"))


def ask(endpoint, *, history=("to Oslo",), times=1, budget=None, cache=None, url=None, **options):
    """Ask about one call, `times` at once; returns (answers, judge)."""

    async def work():
        judge = Judge(
            url or endpoint.url,
            "m",
            budget=budget or Budget(max_requests=100, max_tokens=10_000),
            cache=cache or AnswerCache(None),
            pause=0.001,
            timeout=10.0,
            **options,
        )
        async with judge:
            questions = [judge.calling_truthfulness(history, TOOL, CALL) for _ in range(times)]
            return await asyncio.gather(*questions), judge

    return asyncio.run(work())


def test_a_question_is_a_forced_choice_at_temperature_zero(endpoint):
    (answer,), judge = ask(endpoint)
    assert answer == "Truthful"
    (request,) = endpoint.requests
    assert (request["model"], request["temperature"]) == ("m", 0)
    system, user = request["messages"]
    assert "exactly one word: Truthful, Untruthful, Unsure" in system["content"]
    for part in ("to Oslo", '"required": ["a"]', '{"arguments": {"a": "Oslo"}, "name": "f"}'):
        assert part in user["content"]
    assert (judge.budget.num_requests, judge.budget.num_tokens) == (1, 7)


def test_the_other_questions_show_what_they_are_about(endpoint):
    endpoint.reply = lambda request: says("irrelevant.")

    async def work():
        budget = Budget(max_requests=9, max_tokens=999)
        async with Judge(endpoint.url, "m", budget=budget, cache=AnswerCache(None)) as judge:
            return await judge.tool_relevance("sing", TOOL), await judge.answer_relevance(["r1", "r2"], "done")

    assert asyncio.run(work()) == ("Irrelevant", "Irrelevant")
    about_tool, about_answer = (request["messages"][1]["content"] for request in endpoint.requests)
    assert "sing" in about_tool and '"name": "f"' in about_tool
    assert "r1" in about_answer and "r2" in about_answer and "done" in about_answer


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Untruthful", "Untruthful"),
        (" truthful.\n", "Truthful"),
        ("**Unsure**", "Unsure"),
        ("<think>Truthful? No.</think>Untruthful", "Untruthful"),
        ("<think>Truthful, as the user sa", None),
        ("Truthful or Untruthful", None),
        ("yes", None),
        ("", None),
    ],
)
def test_an_answer_is_read_only_where_it_names_one_choice(text, choice):
    assert choice_in(text, CALLING_TRUTHFULNESS.choices) == choice


def test_answers_are_cached_on_disk_by_model_and_messages(endpoint, tmp_path):
    path = tmp_path / "sub" / "answers.sqlite"
    for _ in range(2):
        cache = AnswerCache(path)
        assert ask(endpoint, cache=cache)[0] == ["Truthful"]
        cache.close()
    assert len(endpoint.requests) == 1
    ask(endpoint, cache=AnswerCache(path), history=("to Rome",))
    assert len(endpoint.requests) == 2
    assert sqlite3.connect(path).execute("SELECT COUNT(*) FROM answers").fetchone() == (2,)


def test_a_question_asked_twice_at_a_time_is_paid_once(endpoint):
    answers, _ = ask(endpoint, times=5)
    assert answers == ["Truthful"] * 5
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "fault", [(500, {"error": "x"}), (429, {"error": "x"}), (200, "<html>"), (200, {}), says(None)]
)
def test_faults_of_the_server_are_tried_again(endpoint, fault):
    endpoint.reply = in_order(fault, fault, says("Untruthful"))
    (answer,), judge = ask(endpoint)
    assert answer == "Untruthful"
    assert len(endpoint.requests) == judge.budget.num_requests == 3


def test_retries_are_bounded_and_the_judge_then_gives_up(endpoint):
    endpoint.reply = in_order((503, {"error": "x"}))
    (answer,), judge = ask(endpoint, max_retries=2)
    assert answer is None
    assert len(endpoint.requests) == 3
    assert judge.failures == {"status 503": 1}


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_request_that_is_refused_is_not_repeated(endpoint, status):
    endpoint.reply = in_order((status, {"error": "x"}))
    assert ask(endpoint)[0] == [None]
    assert len(endpoint.requests) == 1


def test_an_answer_that_is_no_choice_is_asked_for_again_and_never_cached(endpoint, tmp_path):
    cache = AnswerCache(tmp_path / "answers")
    endpoint.reply = in_order(says("Well ..."), says("I think so"))
    assert ask(endpoint, cache=cache, max_retries=1)[0] == [None]
    assert endpoint.requests[1]["messages"][2]["content"] == "Well ..."
    endpoint.reply = in_order(says("Unsure"))
    assert ask(endpoint, cache=cache)[0] == [UNSURE]


def test_an_endpoint_that_is_not_there_is_given_up(endpoint):
    endpoint.close()
    (answer,), judge = ask(endpoint, max_retries=1)
    assert answer is None
    assert judge.failures == {"APIConnectionError": 1}
    assert ask(endpoint, url="no url", max_retries=0)[0] == [None]


def test_an_answer_that_is_nested_too_deeply_is_given_up(endpoint):
    endpoint.reply = lambda request: (200, "[" * 100_000)
    (answer,), judge = ask(endpoint, max_retries=0)
    assert answer is None and sum(judge.failures.values()) == 1


def test_after_failures_in_a_row_no_more_is_asked(endpoint, caplog):
    endpoint.reply = in_order((400, {"error": "x"}))

    async def work():
        budget = Budget(max_requests=100, max_tokens=10_000)
        judge = Judge(endpoint.url, "m", budget=budget, cache=AnswerCache(None), max_failures=2)
        async with judge:
            return [await judge.calling_truthfulness((f"to {turn}",), TOOL, CALL) for turn in range(5)], judge

    answers, judge = asyncio.run(work())
    assert answers == [None] * 5 and len(endpoint.requests) == 2
    assert judge.failures == {"status 400": 2, "no answer to those before": 3}
    # Each kind of failure is told once, and counted.
    assert len(caplog.records) == 2


def test_an_answer_between_failures_goes_on(endpoint):
    endpoint.reply = lambda request: (400, {}) if "to 1" in request["messages"][1]["content"] else says("Truthful")

    async def work():
        budget = Budget(max_requests=100, max_tokens=10_000)
        async with Judge(endpoint.url, "m", budget=budget, cache=AnswerCache(None), max_failures=2) as judge:
            return [await judge.calling_truthfulness((f"to {turn}",), TOOL, CALL) for turn in (1, 2, 10, 3, 11, 4)]

    assert asyncio.run(work()) == [None, "Truthful"] * 3


def test_the_budget_bounds_requests_and_tokens(endpoint):
    endpoint.reply = in_order((500, {"error": "x"}))
    (answer,), judge = ask(endpoint, budget=Budget(max_requests=2, max_tokens=10_000), max_retries=9)
    assert answer is None
    assert len(endpoint.requests) == 2
    assert judge.failures == {"the budget is spent": 1}
    endpoint.reply = in_order(says("Truthful", tokens=50))
    budget = Budget(max_requests=100, max_tokens=60)
    for number in range(4):
        ask(endpoint, budget=budget, history=(f"turn {number}",))
    assert len(endpoint.requests) == 4
    assert budget.num_tokens == 100


def test_tokens_are_estimated_where_the_endpoint_does_not_count_them(endpoint):
    endpoint.reply = in_order(says("Truthful", tokens=None))
    _, judge = ask(endpoint)
    assert 200 < judge.budget.num_tokens < 1000


def test_documentation_is_shown_without_examples_where_a_value_is_missing():
    schema = {
        "properties": {"default": {"type": "string", "default": "Oslo", "description": "e.g. Oslo", "enum": ["x"]}},
        "required": ["default"],
    }
    tool = ToolSpec(name="f", parameters=schema)
    call = ToolCall(name="f", arguments={"default": "Rome"})
    assert "Oslo" in about_call(["?"], tool, call, missing=False)["Parameters"]
    shown = json.loads(about_call(["?"], tool, call, missing=True)["Parameters"])
    assert shown == {"properties": {"default": {"type": "string", "enum": ["x"]}}, "required": ["default"]}


def test_a_cache_that_is_none_is_one_clear_error(tmp_path):
    path = tmp_path / "answers"
    path.write_text("this is no database, and long enough to be read as one " * 20)
    with pytest.raises(ValueError, match="not a cache of answers"):
        AnswerCache(path)


def judge_bergen(request) -> Reply:
    """A judge who knows that Bergen was made up."""
    return says("Untruthful" if '"Bergen"' in request["messages"][1]["content"] else "Truthful")


def test_the_reward_is_the_share_of_calls_that_are_not_untruthful(endpoint, build):
    endpoint.reply = judge_bergen
    reward = JudgeReward(endpoint.url, "m", pause=0.001)
    weather = [build.call("get_weather", city=city) for city in ("Oslo", "Bergen")]
    trajectory = build.play(build.task(), weather[0], weather[1], build.call("fly", a=1), build.finish())
    score = reward(trajectory)
    assert score.per_turn.tolist() == [0.5, 0.0, 0.0, 0.0]
    assert [(error.turn, error.call, error.kind) for error in score.errors] == [(1, 0, "ungrounded_value")]

    async def within_a_loop():
        return reward(trajectory)

    assert asyncio.run(within_a_loop()).total == 0.5
    assert len(endpoint.requests) == 2


def test_what_the_judge_gave_up_is_unscored_and_not_zero(endpoint, build):
    endpoint.reply = in_order((400, {"error": "x"}))
    reward = JudgeReward(endpoint.url, "m", pause=0.001)
    trajectory = build.play(build.task(), build.call("get_weather", city="Oslo"), build.finish())
    assert reward(trajectory).unscored == "the judge gave up 1 of 1 calls"
    assert reward(build.play(build.task(), build.finish())).unscored == "no call to judge"
    failed = replace(trajectory, ending=Ending.ENV_FAILED)
    assert reward(failed).unscored == "infrastructure: env_failed"


def test_agreement_counts_pairs_of_labels():
    found = agreement([("a", "a"), ("a", "a"), ("b", "b"), ("a", "b"), (None, "a")])
    assert (found.num, found.num_unscored, found.share) == (4, 1, 0.75)
    assert found.kappa == pytest.approx(0.5)
    assert agreement([]).kappa is None
    assert agreement([("a", "a")]).kappa is None
    assert agreement([("a", "b"), ("b", "a")]).kappa == pytest.approx(-1.0)


def test_the_deterministic_check_is_compared_with_the_judge_call_by_call(endpoint, build):
    endpoint.reply = judge_bergen
    trajectories = [
        build.play(build.task(request="Oslo or Rome?"), *(build.call("get_weather", city=city) for city in cities))
        for cities in (["Oslo", "Rome"], ["Bergen", "Paris"])
    ]

    async def work(budget):
        async with Judge(endpoint.url, "m", budget=budget, cache=AnswerCache(None), max_retries=0) as judge:
            return agreement([pair for made in trajectories for pair in await grounding_labels(judge, made)])

    found = asyncio.run(work(Budget(max_requests=9, max_tokens=9999)))
    assert found.counts == {
        ("grounded", "grounded"): 2,
        ("ungrounded", "ungrounded"): 1,
        ("ungrounded", "grounded"): 1,
    }
    assert found.kappa == pytest.approx(0.5)
    assert asyncio.run(work(Budget(max_requests=0, max_tokens=9999))).num_unscored == 4


def test_defaults_do_not_ground_where_a_value_is_missing(endpoint, build):
    tool = build.spec("get_weather", {"city": {"type": "string", "default": "Bergen"}})
    judged = []
    for kind in (TaskKind.SINGLE, TaskKind.MISSING_ARGUMENT):
        task = build.task(tools=(tool,), kind=kind)
        trajectory = build.play(task, build.call("get_weather", city="Bergen"))

        async def work(trajectory=trajectory):
            budget = Budget(max_requests=9, max_tokens=9999)
            async with Judge(endpoint.url, "m", budget=budget, cache=AnswerCache(None)) as judge:
                return agreement(await grounding_labels(judge, trajectory))

        judged.append(asyncio.run(work()).counts)
    assert judged == [{("grounded", "grounded"): 1}, {("ungrounded", "grounded"): 1}]
    assert '"default": "Bergen"' not in endpoint.requests[1]["messages"][1]["content"]


def test_importing_the_judge_loads_nothing_heavy():
    heavy = ("openai", "torch", "ray")
    code = f"import rewards.judge, rewards.agreement, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
