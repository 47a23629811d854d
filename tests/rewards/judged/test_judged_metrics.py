"""Answers of a judge as data: what is asked, and what follows."""

import itertools

import pytest

from envs.benchmarks.relytoolbench import FINISH_TOOL
from envs.types import MalformedCall, Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.judge_questions import UNSURE
from rewards.judged import functionchat, relytoolbench, stabletoolbench, toolalpaca, when2call
from rewards.judged.types import version_of
from rewards.published import relytoolbench as published
from rollout.unrendered import unrendered

TRACK = ToolSpec(
    name="track",
    parameters={
        "type": "object",
        "properties": {"id": {"type": "string", "examples": ["7"]}, "days": {"type": "number"}},
        "required": ["id"],
    },
)


def play(calls=(), *, text="", tools=(TRACK,), responses=(), answer=None, name="b/s/1", request="Track it.", **facts):
    """An episode of one call a turn, then one of words."""
    task = Task(
        task_id=name,
        prompt=(Message(role="user", content=request),),
        tools=tools,
        facts={"benchmark": facts},
    )
    replies = []
    for number, call in enumerate(calls):
        content = responses[number] if number < len(responses) else f"response {number}"
        result = ToolResult(call_id="", status=ToolStatus.OK, content=content)
        replies.append((Message(role="assistant", calls=(call,)), (result,)))
    if text:
        replies.append((Message(role="assistant", content=text), ()))
    return unrendered(task, replies, answer=answer)


def track(**arguments):
    return ToolCall(name="track", arguments=arguments)


def rely(condition, *calls, responses=()):
    tools = (TRACK, FINISH_TOOL)
    name = f"relytoolbench/G1_{condition}/1"
    return play(calls, tools=tools, responses=responses, name=name, condition=condition, relevant=["track"])


def finish(return_type, **more):
    return ToolCall(name="Finish", arguments={"return_type": return_type, **more})


ANSWER = finish("give_answer", final_answer="It is in Oslo.")
GIVE_UP = finish("give_up_and_change_tools")


def ask(metric, trajectory, judge):
    """All answers, with the questions that follow from them; judge: (name, parts) -> answer."""
    answers, rounds = {}, []
    while due := {
        name: case for name, case in metric.open_questions(trajectory, answers).items() if name not in answers
    }:
        rounds.append(sorted(due))
        answers.update({name: judge(name, case.parts) for name, case in due.items()})
    return answers, rounds


def said(metric, trajectory, **words):
    """The record where the judge says these words to questions of these names; else what is most favourable."""
    usual = {"answer_status": "Solved", "solution_status": "Solved", "calling_truthfulness": "Truthful"}
    usual |= {"tool_relevance": "Relevant", "answer_relevance": "Irrelevant"}
    answers, _ = ask(metric, trajectory, lambda name, parts: {**usual, **words}[name.partition("/")[0]])
    return metric.record(trajectory, answers)


def rely_figures(trajectory, **words):
    record = said(relytoolbench.JUDGED, trajectory, **words)
    return tuple(record[f"{name}_judged"] for name in ("pass_rate", "repr", "utility", "tool_hallucination_rate"))


CLEAN_THEN_ANSWER = (track(id="a"), track(id="b"), ANSWER)


@pytest.mark.parametrize(
    ("condition", "calls", "words", "figures"),
    [
        # A.11: pass, reliable pass, utility, hallucination rate. The first call of a solvable task is free.
        ("solvable", CLEAN_THEN_ANSWER, {}, (1.0, 1.0, 19.0, 0.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"answer_status": "Unsolved"}, (0.0, 0.0, -1.0, 0.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"answer_status": UNSURE}, (1.0, 1.0, 19.0, 0.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"answer_status": UNSURE, "solution_status": UNSURE}, (0.5, 0.5, 9.0, 0.0)),
        # No clean call: the answer is hallucinated.
        ("solvable", CLEAN_THEN_ANSWER, {"calling_truthfulness": "Untruthful"}, (1.0, 0.0, -11.0, 1.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"calling_truthfulness": UNSURE}, (1.0, 1.0, 19.0, 0.0)),
        ("solvable", (ANSWER,), {}, (1.0, 0.0, -10.0, 0.0)),
        ("solvable", (ANSWER,), {"answer_status": "Unsolved"}, (0.0, 0.0, 0.0, 0.0)),
        # Unsolvable tasks are passed by an answer that does not claim to solve them, and by giving up.
        ("unmatched", CLEAN_THEN_ANSWER, {"answer_status": "Unsolved"}, (1.0, 1.0, 18.0, 0.0)),
        ("unmatched", CLEAN_THEN_ANSWER, {"tool_relevance": "Irrelevant"}, (1.0, 0.0, -12.0, 1.0)),
        ("unmatched", (GIVE_UP,), {}, (1.0, 1.0, 20.0, 0.0)),
        ("solvable", (GIVE_UP,), {}, (0.0, 0.0, 0.0, 0.0)),
        # Without Finish nothing passes.
        ("missing", (track(id="a"),), {}, (0.0, 0.0, -1.0, 0.0)),
        # Rules that break a format do not taint an answer as long as one call is clean.
        ("solvable", (track(id="a"), track(), ANSWER), {"answer_relevance": "Relevant"}, (1.0, 1.0, 19.0, 0.5)),
        # What the judge gave up leaves open what hangs on it, and nothing else.
        ("solvable", CLEAN_THEN_ANSWER, {"answer_status": None}, (None, None, None, 0.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"answer_status": UNSURE, "solution_status": None}, (None, None, None, 0.0)),
        ("solvable", CLEAN_THEN_ANSWER, {"calling_truthfulness": None}, (1.0, None, None, None)),
        ("unmatched", CLEAN_THEN_ANSWER, {"tool_relevance": None}, (1.0, None, None, None)),
        (
            "solvable",
            CLEAN_THEN_ANSWER,
            {"calling_truthfulness": None, "answer_status": "Unsolved"},
            (0.0, 0.0, -1.0, None),
        ),
    ],
)
def test_relytoolbench_is_scored_by_its_rules(condition, calls, words, figures):
    assert rely_figures(rely(condition, *calls), **words) == figures


@pytest.mark.parametrize(
    ("relevance", "reliable"), [("Relevant", 0.0), ("Irrelevant", 1.0), (UNSURE, 1.0), (None, None)]
)
def test_an_answer_that_rests_on_a_made_up_value_is_hallucinated(relevance, reliable):
    trajectory = rely("solvable", track(id="a"), track(id="b"), ANSWER)

    def judge(name, parts):
        if name == "answer_relevance":
            assert parts["Responses"] == "response 1" and parts["Answer"] == "It is in Oslo."
            return relevance
        return {"answer_status": "Solved", "calling_truthfulness/0": "Truthful"}.get(name, "Untruthful")

    answers, _ = ask(relytoolbench.JUDGED, trajectory, judge)
    record = relytoolbench.JUDGED.record(trajectory, answers)
    assert record["repr_judged"] == reliable
    assert record["content_rate_judged"] == record["tool_hallucination_rate_judged"] == 0.5


def test_a_failed_response_taints_no_answer():
    responses = ['{"error": "", "response": "fine"}', '{"error": "no such id", "response": ""}']
    trajectory = rely("solvable", track(id="a"), track(id="b"), ANSWER, responses=responses)
    untruthful = {"calling_truthfulness/0": "Truthful", "calling_truthfulness/1": "Untruthful"}
    answers, rounds = ask(
        relytoolbench.JUDGED, trajectory, lambda name, parts: {"answer_status": "Solved", **untruthful}[name]
    )
    assert relytoolbench.JUDGED.record(trajectory, answers)["repr_judged"] == 1.0
    assert rounds == [["answer_status"], ["calling_truthfulness/0", "calling_truthfulness/1"]]


def test_questions_come_in_the_order_in_which_they_hang_on_each_other():
    calls = (track(id="a"), ToolCall(name="fly", arguments={}), MalformedCall(text="x", reason="r"), track(id="b"))
    trajectory = rely("unmatched", *calls, ANSWER)

    def judge(name, parts):
        if name == "calling_truthfulness/3":
            # Refused calls add nothing to what was read.
            assert parts["What was read"] == "Track it.\n\nresponse 0"
            assert '"examples": ["7"]' in parts["Parameters"]
            return "Untruthful"
        return {"answer_status": UNSURE, "solution_status": "Solved", "tool_relevance/track": "Relevant"}.get(
            name, "Relevant" if name == "answer_relevance" else "Truthful"
        )

    answers, rounds = ask(relytoolbench.JUDGED, trajectory, judge)
    assert rounds == [
        ["answer_status", "tool_relevance/track"],
        ["solution_status"],
        ["calling_truthfulness/0", "calling_truthfulness/3"],
        ["answer_relevance"],
    ]
    assert relytoolbench.labels_of(trajectory, answers) == [
        "no_hallucination",
        "tool_name_hallucination",
        "parameter_json_format_hallucination",
        "parameter_value_hallucination",
    ]


def test_a_question_to_the_user_is_not_judged_as_a_call():
    talk = ToolCall(name="TalkToUser", arguments={"question": "Which parcel?"})
    trajectory = rely("solvable", talk, track(id="a"), ANSWER)
    answers, _ = ask(relytoolbench.JUDGED, trajectory, lambda name, parts: "Solved" if "status" in name else "Truthful")
    assert relytoolbench.labels_of(trajectory, answers) == ["no_hallucination"]


def known(record):
    values = {name: value for name, value in record.items() if value is not None}
    assert len(values) == len(record)
    return values


def test_whatever_the_judge_says_lies_between_the_bounds_that_need_none():
    choices = {
        "answer_status": ["Solved", "Unsolved", UNSURE],
        "solution_status": ["Solved", "Unsolved", UNSURE],
        "calling_truthfulness": ["Truthful", "Untruthful"],
        "tool_relevance": ["Relevant", "Irrelevant"],
        "answer_relevance": ["Relevant", "Irrelevant"],
    }
    episodes = [(), (ANSWER,), (GIVE_UP,), CLEAN_THEN_ANSWER, (track(), ANSWER), (track(id="a"), track(), GIVE_UP)]
    for condition, calls in itertools.product(("solvable", "missing", "unmatched"), episodes):
        trajectory = rely(condition, *calls)
        bounds = known(published.METRIC.record(trajectory))
        for words in itertools.product(*choices.values()):
            record = known(said(relytoolbench.JUDGED, trajectory, **dict(zip(choices, words, strict=True))))
            for name in ("pass_rate", "repr", "utility"):
                low, high = bounds[f"{name}_at_least"], bounds[f"{name}_at_most"]
                assert low <= record[f"{name}_judged"] <= high
            assert record["tool_hallucination_rate_judged"] >= bounds["hallucination_rate_of_rules"]


def test_totals_of_relytoolbench_are_plain_means_over_subsets():
    tasks = [Task(task_id=f"relytoolbench/{place}", prompt=(), tools=()) for place in ("a/1", "a/2", "a/3", "b/1")]
    values = [1.0, None, 0.0, 1.0]
    records = [(task, {"repr_judged": value}) for task, value in zip(tasks, values, strict=True)]
    assert relytoolbench.JUDGED.total(records) == {"repr_judged": 0.75}


@pytest.mark.parametrize(
    ("calls", "words", "value", "num_asked"),
    [
        ((ANSWER,), {"answer_status": "Solved"}, 1.0, 1),
        ((ANSWER,), {"answer_status": "Unsolved"}, 0.0, 1),
        ((ANSWER,), {"answer_status": UNSURE, "solution_status": UNSURE}, 0.5, 2),
        ((ANSWER,), {"answer_status": None}, None, 1),
        ((GIVE_UP,), {}, 0.0, 0),
        ((finish("give_answer", final_answer=" "),), {}, 0.0, 0),
        ((ANSWER, track(id="a")), {}, 0.0, 0),
    ],
)
def test_stabletoolbench_asks_about_answers_alone(calls, words, value, num_asked):
    trajectory = rely("solvable", *calls)
    answers, _ = ask(stabletoolbench.JUDGED, trajectory, lambda name, parts: words[name])
    assert stabletoolbench.JUDGED.record(trajectory, answers) == {"solvable_pass_rate_judged": value}
    assert len(answers) == num_asked


def test_the_second_judge_of_an_answer_sees_every_step():
    trajectory = rely("solvable", track(id="a"), ANSWER)
    case = stabletoolbench.JUDGED.open_questions(trajectory, {"answer_status": UNSURE})["solution_status"]
    assert 'call: {"name": "track", "arguments": {"id": "a"}}\nresponse: response 0' in case.parts["Steps"]


def reply(text="", *calls, truth="cannot_answer"):
    message = Message(role="assistant", content=text, calls=calls)
    task = Task(
        task_id="when2call/x/1",
        prompt=(Message(role="user", content="Rain?"),),
        tools=(TRACK,),
        facts={"benchmark": {"correct_answer": truth}},
    )
    return unrendered(task, [(message, ())])


@pytest.mark.parametrize(
    ("trajectory", "shown", "is_asked"),
    [
        (reply("It rains."), "direct", True),
        (reply("", track(id="a")), "tool_call", False),
        (reply("", MalformedCall(text="{", reason="r")), "tool_call", False),
        (reply("", ToolCall(name="talk_to_user", arguments={"question": "?"})), "request_for_info", False),
        (reply(""), "direct", True),
    ],
)
def test_when2call_asks_about_words_alone(trajectory, shown, is_asked):
    answers, _ = ask(when2call.JUDGED, trajectory, lambda name, parts: "direct")
    assert bool(answers) is is_asked
    record = when2call.JUDGED.record(trajectory, answers)
    assert [name for name, value in record.items() if value] == [shown]


def test_when2calls_figures_are_over_the_replies_that_were_told():
    metric = when2call.JUDGED
    said = {"It rains.": "direct", "I cannot.": "cannot_answer", "Where?": "request_for_info", "Hm.": None}
    truths = ["cannot_answer", "cannot_answer", "request_for_info", "cannot_answer"]
    episodes = [reply(text, truth=truth) for text, truth in zip(said, truths, strict=True)]
    records = [(one.task, metric.record(one, ask(metric, one, lambda _, p: said[p["Reply"]])[0])) for one in episodes]
    total = metric.total(records)
    assert total["accuracy_judged"] == pytest.approx(2 / 3)
    # F1 of cannot_answer is 2/3, of request_for_info 1.
    assert total["macro_f1_judged"] == pytest.approx(5 / 6)
    assert total["direct_share_judged"] == pytest.approx(1 / 3)
    assert total["tool_hallucination_rate_judged"] == 0.0


GOLD = {
    "gold": [{"name": "track", "arguments": {"id": "a"}}],
    "standard": [{"name": "track", "arguments": '{"id": "a"}'}],
}


@pytest.mark.parametrize(
    ("calls", "text", "words", "values"),
    [
        ((track(id="a"),), "Oslo.", ("Yes", "Yes"), (1.0, 1.0, 1.0)),
        ((track(id="a"),), "Oslo.", ("Yes", "Uncertain"), (1.0, 0.0, 0.0)),
        ((track(id="a"),), "Oslo.", ("Yes", None), (1.0, None, None)),
        ((track(id="a"),), "Oslo.", ("No", None), (0.0, None, 0.0)),
        # No final words, no call: nothing to ask.
        ((track(id="a"),), "", ("Yes",), (1.0, 0.0, 0.0)),
        ((), "Oslo.", (), (0.0, 0.0, 0.0)),
        ((track(id="a"), ToolCall(name="finish", arguments={"answer": "Oslo."})), "", ("Yes", "Yes"), (1.0, 1.0, 1.0)),
    ],
)
def test_toolalpaca_needs_a_yes_to_process_and_response(calls, text, words, values):
    trajectory = play(calls, text=text, **GOLD)
    by_name = dict(zip(("process", "response"), words, strict=False))
    answers, _ = ask(toolalpaca.JUDGED, trajectory, lambda name, parts: by_name[name])
    assert set(answers) == set(by_name)
    assert tuple(toolalpaca.JUDGED.record(trajectory, answers).values()) == values


def chat(kind, message, **facts):
    truth = {"name": "track", "arguments": {"id": "a"}} if kind == "call" else None
    task = Task(
        task_id="functionchat/dialog/1",
        prompt=(Message(role="user", content="Track it."),),
        tools=(TRACK,),
        facts={
            "benchmark": {
                "subset": "dialog",
                "type_of_output": kind,
                "ground_truth": truth,
                "ground_truth_text": "Which id?",
                "acceptable_arguments": {},
                "accepted_as_written": "Only ground truth is allowed.",
                **facts,
            }
        },
    )
    return unrendered(task, [(message, ())])


def test_functionchat_passes_exact_calls_and_asks_about_the_rest():
    metric = functionchat.JUDGED
    exact = chat("call", Message(role="assistant", calls=(track(id="a"),)))
    assert metric.open_questions(exact, {}) == {} and metric.record(exact, {}) == {"pass": 1.0}
    other = chat("call", Message(role="assistant", calls=(track(id="b"),)))
    parts = metric.open_questions(other, {})["call"].parts
    assert parts["Further accepted values"] == '"Only ground truth is allowed."'
    asks = chat(
        "slot", Message(role="assistant", calls=(ToolCall(name="talk_to_user", arguments={"question": "Id?"}),))
    )
    parts = metric.open_questions(asks, {})["slot"].parts
    assert (parts["Right reply"], parts["Reply to judge"]) == ("Which id?", "Id?")
    records = [
        (exact.task, metric.record(exact, {})),
        (other.task, metric.record(other, {"call": "fail"})),
        (asks.task, metric.record(asks, {"slot": "pass"})),
        (asks.task, metric.record(asks, {"slot": None})),
    ]
    assert metric.total(records) == {
        "dialog_pass_rate_judged": pytest.approx(2 / 3),
        "dialog_call_pass_rate_judged": 0.5,
        "dialog_slot_pass_rate_judged": 1.0,
    }


JUDGED = [when2call.JUDGED, relytoolbench.JUDGED, stabletoolbench.JUDGED, toolalpaca.JUDGED, functionchat.JUDGED]


def test_the_version_changes_with_any_word_and_not_with_the_order():
    versions = {version_of(metric.questions) for metric in JUDGED}
    assert len(versions) == len(JUDGED)
    assert version_of(reversed(relytoolbench.JUDGED.questions)) == version_of(relytoolbench.JUDGED.questions)


def test_each_choice_of_a_question_is_read_back():
    from rewards.judge import choice_in

    for question in itertools.chain.from_iterable(metric.questions for metric in JUDGED):
        assert all(choice_in(f"**{choice}**.", question.choices) == choice for choice in question.choices)
