import ast
import json
import re
from datetime import date, timedelta

import pytest

from envs.detection.sets import made, public
from envs.detection.sets.mutations import mutants
from envs.detection.sets.types import LabelledSentence, of_claims


@pytest.mark.parametrize("language", ["en", "zh"])
def test_made_sets_are_half_hallucinations_and_the_same_for_the_same_seed(language):
    for make in (made.word_count, made.dates):
        items = list(make(language, num=200))
        assert sum(item.hallucinated is True for item in items) == 100
        assert items == list(make(language, num=200)) != list(make(language, seed=1, num=200))
        assert len({item.item_id for item in items}) == 200


def test_truth_of_english_lengths_holds_by_another_count():
    checks = {
        "at least": int.__ge__,
        "no fewer": int.__ge__,
        "or more": int.__ge__,
        "at most": int.__le__,
        "no more": int.__le__,
        "within": int.__le__,
    }
    num_checked = 0
    for item in made.word_count("en", num=400):
        demanded, unit = re.search(r"(\d+) (words|characters)", item.question).groups()  # type: ignore[union-attr]
        length = len(item.response.split()) if unit == "words" else len(item.response)
        kind = next((kind for kind in checks if kind in item.question.lower()), None)
        if kind is None and "about" not in item.question.split(demanded)[0] and "roun" not in item.question:
            kind = "exactly" if "approx" not in item.question else None
        if kind is not None:
            num_checked += 1
            holds = checks.get(kind, int.__eq__)(length, int(demanded))
            assert holds is not item.hallucinated, item
    assert num_checked > 250


def test_truth_of_chinese_dates_holds_by_another_reading():
    for item in made.dates("zh", num=400):
        found = [date(*map(int, numbers)) for numbers in re.findall(r"(\d{4})[年-](\d+)[月-](\d+)", item.response)]
        rest = re.sub(r"\d{4}[年-]\d+[月-]\d+日?", "", item.response)
        if len(found) == 2:
            (num,) = map(int, re.findall(r"\d+", rest))
            holds = abs(found[1] - found[0]) == timedelta(days=num)
        else:
            holds = "一二三四五六日"[found[0].weekday()] in rest
        assert holds is not item.hallucinated, item


CODE = 'def f(x):\n    """Say."""\n    if x > 0 and x != 3:\n        return x + 1\n    return "abc"[1:]\n'


def test_mutations_change_one_thing_and_are_programs():
    found = mutants(CODE, "f", num=50)
    assert {what for what, _ in found} == {
        "comparison",
        "operator",
        "connective",
        "condition",
        "constant",
        "text",
        "return",
        "slice",
    }
    assert len({text for _, text in found}) == len(found)
    for _, text in found:
        ast.parse(text)
        assert '"""Say."""' in text


def test_mutations_follow_from_the_seed():
    assert mutants(CODE, "f", num=3) == mutants(CODE, "f", num=3)
    assert len(mutants(CODE, "f", num=3)) == 3
    assert any(mutants(CODE, "f", seed=seed, num=3) != mutants(CODE, "f", num=3) for seed in range(1, 5))
    with pytest.raises(ValueError, match="no function g"):
        mutants(CODE, "g")


def test_claims_become_sentences_with_labels_in_their_places():
    item = of_claims("x", [("a\nb", True), ("open", None), ("c", False)])
    assert item.response == "a b\nopen\nc"
    assert item.sentences == (LabelledSentence(start=0, end=3, label=1), LabelledSentence(start=9, end=10, label=0))


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


TASK = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


def test_programs_come_with_their_tests(tmp_path):
    write(tmp_path / "humaneval/HumanEval.jsonl", TASK)
    (item,) = public.humaneval(tmp_path)
    assert (
        item.response
        == "def f(x):\n    return x + 1\n\n\ndef check(candidate):\n    assert candidate(1) == 2\n\ncheck(f)\n"
    )
    judged = []

    def judge(program):
        judged.append(program)
        return "return x + 1" in program

    found = list(public.humaneval_mutants(tmp_path, judge, num=2))
    assert [item.response for item in found] == judged and all(item.hallucinated for item in found)


def test_solutions_find_the_task_with_their_entry_point(tmp_path):
    write(tmp_path / "humaneval/HumanEval.jsonl", TASK)
    solution = {"entry_point": "f", "response": "def f(x):\n    return 2\n", "label": True}
    write(tmp_path / "factool/code.jsonl", solution)
    (item,) = public.factool_code(tmp_path)
    assert item.hallucinated is False and "return 2" in item.response and "check(f)" in item.response
    write(tmp_path / "factool/code.jsonl", solution, solution)
    with pytest.raises(ValueError, match=r"code.jsonl:2: no HumanEval task number 2 with the entry point f"):
        list(public.factool_code(tmp_path))


def test_true_means_no_hallucination(tmp_path):
    claim = {"math_calculation": "1 + 1", "calculated_answer": "3"}
    write(
        tmp_path / "factool/math.jsonl",
        {
            "claims": [
                {"claim": claim, "label": False},
                {"claim": claim, "label": "null"},
                {"claim": claim, "label": True},
            ]
        },
    )
    (item,) = public.factool_math(tmp_path)
    assert [sentence.label for sentence in item.sentences] == [1, 0] and item.response.count("1 + 1 = 3") == 3
    solution = {"is_correct": True, "solution": "2"}
    write(tmp_path / "gsm8k_solutions/example_model_solutions.jsonl", {"question": "?", "m": solution})
    (item,) = public.gsm8k(tmp_path)
    assert item.hallucinated is False


def test_public_sets_are_read_whole(benchmark_data):
    sizes = {
        "humaneval": len(list(public.humaneval(benchmark_data))),
        "factool_code": len(list(public.factool_code(benchmark_data))),
        "factool_math": sum(len(item.sentences) for item in public.factool_math(benchmark_data)),
        "gsm8k": len(list(public.gsm8k(benchmark_data))),
        "halluqa": len(list(public.halluqa(benchmark_data))),
        "halueval": len(list(public.halueval(benchmark_data))),
        "factool_chinese": len(list(public.factool_chinese(benchmark_data))),
    }
    assert all(sizes.values()), sizes
    assert sizes["gsm8k"] % 4 == 0 and sizes["humaneval"] == sizes["factool_code"]
    assert all(list(public.factool_chinese_evidence(benchmark_data)))
    assert all(list(public.halluqa_evidence(benchmark_data)))
