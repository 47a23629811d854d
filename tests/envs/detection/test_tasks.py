from __future__ import annotations

import re
from collections import Counter

import pytest

from envs.detection.dates import find
from envs.detection.env import DetectionEnv, make_toolbox
from envs.detection.prompts import parts
from envs.detection.rules import RulePolicy
from envs.detection.sets.mixed import KINDS, side
from envs.detection.tasks import DetectionTasks
from envs.schema import signature
from envs.types import ToolStatus
from rollout.episode import converse

CHEAP = {kind: 1.0 for kind in KINDS if kind != "code"}
CALCULATION = re.compile(r"(\d+) ?(\+|-|\*|/|×|÷|加|减|乘以|除以) ?(\d+)")
SIGNS = {"×": "*", "÷": "/", "加": "+", "减": "-", "乘以": "*", "除以": "/"}


def test_a_task_follows_from_its_index_alone():
    assert DetectionTasks(seed=3).task(7) == DetectionTasks(seed=3, num=9).task(7)
    assert DetectionTasks(seed=3).task(7) != DetectionTasks(seed=4).task(7)
    assert len(list(DetectionTasks(num=4))) == len(DetectionTasks(num=4)) == 4


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_calculation_and_date_is_on_its_side_of_the_split(split):
    num = Counter()
    for index in range(300):
        response = DetectionTasks(split, kinds=CHEAP, seed=1).item(index).response
        text = response
        for place in reversed(find(response)):
            assert place.value is not None and side("date", place.value) == split
            text = text[: place.start] + text[place.end :]
            num["dates"] += 1
        for left, sign, right in CALCULATION.findall(text):
            assert side("calculation", (int(left), SIGNS.get(sign, sign), int(right))) == split
            num["calculations"] += 1
    assert min(num["dates"], num["calculations"]) > 100


def test_no_sentence_of_the_heldout_split_is_put_together_as_one_of_training():
    def shapes(split):
        found = set()
        for index in range(600):
            item = DetectionTasks(split, kinds={"arithmetic": 1}, seed=2).item(index)
            for one in item.sentences:
                text = item.response[one.start : one.end]
                found.add(CALCULATION.sub("#", re.sub(r"(?<== )\d+|(?<==)\d+", "#", text)))
        return {shape for shape in found if not re.search(r"\d", shape)}

    train, heldout = shapes("train"), shapes("heldout")
    assert len(train) > 20 and len(heldout) > 5 and not train & heldout


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("short", [True, False])
async def test_the_rules_reach_the_truth_without_a_call_in_vain(language, short):
    toolbox = make_toolbox()
    tasks = DetectionTasks("heldout", language, kinds=CHEAP, seed=5, num=40, short=short)
    truths = Counter()
    for task in tasks:
        found = await converse(
            task, lambda task: DetectionEnv(task, toolbox), RulePolicy(), trajectory_id=task.task_id, max_turns=40
        )
        assert found.outcome.facts["success"] is True, task
        assert {result.status for turn in found.turns for result in turn.results} == {ToolStatus.OK}
        truths[task.answer] += 1
    assert min(truths["yes"], truths["no"]) > 8


def test_labels_of_sentences_agree_with_the_truth_of_the_response():
    for index in range(200):
        item = DetectionTasks(kinds={"arithmetic": 1, "dates": 1}, seed=6).item(index)
        assert item.sentences and any(one.label for one in item.sentences) == item.hallucinated


def test_a_calculation_that_is_right_and_called_wrong_begins_with_a_wrong_result():
    claim = re.compile(CALCULATION.pattern + r"\D*(\d+)")
    num_chained = 0
    for index in range(4000):
        item = DetectionTasks(kinds={"arithmetic": 1.0}, seed=2).item(index)
        before = None
        for sentence in item.sentences:
            found = claim.search(item.response, sentence.start, sentence.end)
            assert found is not None
            left, sign, right, said = found.groups()
            is_right = eval(f"{left} {SIGNS.get(sign, sign)} {right} == {said}")
            if sentence.label == 1 and is_right:
                assert left == before, (item.response, left)
                num_chained += 1
            before = said
    assert num_chained > 100


def test_a_program_disagrees_with_its_example_where_it_is_wrong():
    truths = set()
    for index in range(30):
        item = DetectionTasks(kinds={"code": 1}, seed=7).item(index)
        _, call, value = item.question.split("\n")
        scope: dict = {}
        exec(item.response, scope)
        assert (eval(call.removeprefix(">>> "), scope) == int(value)) is not item.hallucinated
        truths.add(item.hallucinated)
    assert truths == {True, False}


def test_short_tasks_have_little_to_read():
    task = DetectionTasks().task(0)
    assert len(task.prompt[0].content) < 400 and parts(task.prompt[0].content)[2] == task.facts["response"]
    assert [signature(tool) for tool in task.tools if tool.name in ("calculator", "date", "word_count")] == [
        "calculator(sentence?: integer)",
        "word_count(sentence?: integer)",
        "date(sentence?: integer)",
    ]
    assert task.facts["actions"] == ["finish"]


def test_kinds_and_languages_are_those_asked_for():
    tasks = list(DetectionTasks(languages="zh", kinds={"dates": 1.0, "lengths": 0.0}, num=20))
    assert {task.kind for task in tasks} == {"dates"} and {task.facts["language"] for task in tasks} == {"zh"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"split": "test"}, "split 'test'"),
        ({"languages": "fr"}, "languages 'fr'"),
        ({"kinds": {"poems": 1.0}}, "poems"),
        ({"kinds": {"dates": 0.0}}, "positive weights"),
        ({"kinds": {"dates": -1.0, "code": 2.0}}, "positive weights"),
    ],
)
def test_options_that_make_no_tasks_are_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        DetectionTasks(**options)
