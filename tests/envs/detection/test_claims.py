import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.detection.arithmetic import read
from envs.detection.claims import DateClaim, date_claims, results, sums
from envs.detection.counting import Relation, Unit, count, holds
from envs.detection.dates import NoDate, parse
from envs.detection.demands import LengthClaim, lengths
from envs.detection.matching import OverlapMatcher
from envs.detection.programs import Program, program


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Bolts of white fiber = 2287720 / 2 = 1143860", ["2287720 / 2 = 1143860"]),
        ("He needs 3 hours + 2 hours = 5 hours, so x = 5.", ["3 hours + 2 hours = 5 hours"]),
        ("It came to 80,000+50,000=$<<80000+50000=130000>>130,000", ["80000+50000 = 130000"]),
        ("So 12 * 4 = 48, and 48 / 3 = 16.", ["12 * 4 = 48", "48 / 3 = 16"]),
        ("80 plus 50 is 130 dollars.", ["80 plus 50 = 130 dollars"]),
        ("一共3×4=12元。", ["3×4 = 12元"]),
        ("3加5等于9。", ["3加5 = 9"]),
        ("2x + 3x = 5x", ["2x + 3x = 5x"]),
        ("2x = 10", []),
        ("1905-05-29 is 1871 days after 1900-04-14.", []),
        ("x = 13", []),
        ("In 2023 the version 3.11 is out.", []),
        ("The ratio is a/b = c.", []),
        ("1990-2000 = ?", []),
        ("2 hours and 15 minutes = 2 x 60 + 15", []),
        ("2 squared = 2 x 2", []),
        ("the function is (x-2)/(x-2) = 1 for x < 2.", []),
        ("√(55/5) = 3.32", []),
        ("12 = 3*4", ["12 = 3*4"]),
        ("== Heading ==", []),
        ("Set a=1 and b=2.", []),
    ],
)
def test_calculations_are_found_in_text_and_nothing_else(text, found):
    assert sums(text) == found


def test_results_are_the_numbers_written_down():
    assert results("2 * 3 = 6 = 1,200 / 200") == ["6"]


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        (
            "From 2024-01-05 to 2024-03-01 there are 56 days.",
            [DateClaim(first="2024-01-05", second="2024-03-01", days=56)],
        ),
        ("从2024年1月5日到2024年3月1日共有56天。", [DateClaim(first="2024年1月5日", second="2024年3月1日", days=56)]),
        ("Two weeks is not a number, 2 weeks from March 1, 2024 is March 15, 2024.", None),
        ("March 1, 2024 is a Friday.", [DateClaim(first="March 1, 2024", weekday="Friday")]),
        ("2024年3月1日是星期五", [DateClaim(first="2024年3月1日", weekday="Friday")]),
        ("It was Sunday, 3 March 2024.", [DateClaim(first="3 March 2024", weekday="Sunday")]),
        ("2023-02-29 was a Wednesday", [DateClaim(first="2023-02-29")]),
        ("2024年3月1日到2024年3月5日，包括首尾共5天", [DateClaim(first="2024年3月1日", second="2024年3月5日", days=4)]),
        (
            "从2024-01-05到2024-03-01一共有56天。",
            [DateClaim(first="2024-01-05", second="2024-03-01", days=56)],
        ),
        ("He was born on March 1, 1990 and died on May 2, 2020.", []),
        ("It took 5 days.", []),
    ],
)
def test_claims_about_dates(text, claims):
    if claims is None:
        claims = [DateClaim(first="March 1, 2024", second="March 15, 2024", days=14)]
    assert date_claims(text) == claims


@pytest.mark.parametrize(
    ("question", "unit", "relation", "number"),
    [
        ("Write exactly 50 words about cats", Unit.WORDS, Relation.EXACTLY, 50),
        ("Write a poem of at least 1,000 words", Unit.WORDS, Relation.AT_LEAST, 1000),
        ("In no more than 20 characters, say hi", Unit.CHARACTERS, Relation.AT_MOST, 20),
        ("Give a 100-word summary", Unit.WORDS, Relation.EXACTLY, 100),
        ("Answer in fewer than 30 words", Unit.WORDS, Relation.AT_MOST, 29),
        ("Use more than 30 words", Unit.WORDS, Relation.AT_LEAST, 31),
        ("Write about 3 sentences", Unit.SENTENCES, Relation.ABOUT, 3),
        ("请写一段50字的介绍", Unit.CHARACTERS, Relation.EXACTLY, 50),
        ("写不少于100个汉字的故事", Unit.CJK, Relation.AT_LEAST, 100),
        ("写一篇200字左右的短文", Unit.CHARACTERS, Relation.ABOUT, 200),
        ("用20字以内回答", Unit.CHARACTERS, Relation.AT_MOST, 20),
        ("不超过3句话", Unit.SENTENCES, Relation.AT_MOST, 3),
    ],
)
def test_demanded_lengths(question, unit, relation, number):
    assert lengths(question) == [LengthClaim(unit=unit, relation=relation, number=number)]


@pytest.mark.parametrize(
    "question",
    [
        "What is a word?",
        "Who wrote 1984?",
        "汉字有多少年历史？",
        "第3段说了什么",
        "Jenna must write a 450 word essay at 20 words per minute. How long does it take her?",
    ],
)
def test_questions_without_a_demand(question):
    assert [one for one in lengths(question) if one.number != 3] == []


@pytest.mark.parametrize(
    ("text", "unit", "length"),
    [
        ("Hello, world!", Unit.CHARACTERS, 13),
        ("Hello, world!", Unit.VISIBLE, 12),
        ("don't re-do it 3.5 times", Unit.WORDS, 5),
        ("我有2个apple。", Unit.WORDS, 5),
        ("我有2个apple。", Unit.CJK, 3),
        ("我有2个apple。", Unit.CHARACTERS, 10),
        ("", Unit.WORDS, 0),
        ("One. Two.", Unit.SENTENCES, 2),
        ("a\n\nb", Unit.PARAGRAPHS, 2),
    ],
)
def test_lengths_are_counted(text, unit, length):
    assert count(text, unit) == length


def test_about_is_within_a_tenth():
    assert [holds(length, Relation.ABOUT, 100) for length in (89, 90, 110, 111)] == [False, True, True, False]


@pytest.mark.parametrize(
    "text", ["2024-3-1", "2024/03/01", "March 1, 2024", "Mar. 1 2024", "1st of March 2024", "2024年3月1日"]
)
def test_dates_in_every_form(text):
    assert str(parse(text)) == "2024-03-01"


@pytest.mark.parametrize(("text", "fault"), [("2023-02-29", "there is no"), ("soon", "is no date"), ("", "is no date")])
def test_what_is_no_date_is_told(text, fault):
    with pytest.raises(NoDate, match=fault):
        parse(text)


HEAD = 'from typing import List\n\ndef f(x: List[int]) -> int:\n    """Sum.\n\n    >>> f([1, 2])\n    3\n    """\n'


def test_tests_stand_apart_from_the_code():
    response = (
        "def f(x):\n    return sum(x)\n\n"
        "METADATA = {}\n\ndef check(candidate):\n    assert candidate([]) == 0\n\ncheck(f)\n"
    )
    assert program("", response) == Program(
        code="def f(x):\n    return sum(x)\n\n", tests=response[response.index("METADATA") :]
    )


def test_head_of_the_question_goes_before_the_code_and_its_examples_are_tests():
    found = program(HEAD, "def f(x: List[int]) -> int:\n    return sum(x)\n")
    assert found == Program(
        code=f"{HEAD}\ndef f(x: List[int]) -> int:\n    return sum(x)\n", tests="assert (f([1, 2])) == (3)"
    )


def test_a_body_without_its_head_belongs_to_the_question():
    found = program(HEAD, "    return sum(x)\n")
    assert found is not None and found.code == f"{HEAD}\n    return sum(x)\n"


def test_code_in_fences_and_code_that_does_not_compile_are_programs():
    fenced = program("", "Sure:\n```python\ndef f():\n    return 1\n```\nGood luck.")
    assert fenced == Program(code="def f():\n    return 1\n", tests=None)
    assert program("", "def f(x)\n    return x\n") is not None


def test_fences_that_nothing_closes_are_read_once():
    # 20,000 openings: a search for the end of each from its beginning would take minutes.
    assert program("", "```python\n" * 20_000) is None
    closed = program("", "```python\n" * 20_000 + "x = 1\nassert x\n```")
    assert closed is not None and closed.code.endswith("x = 1\nassert x\n")


def test_blocks_of_other_languages_and_of_output_are_no_programs():
    response = "```\n5 4 3 2 1\n```\n```sql\nSELECT 1\n```\n"
    assert program("", response) is None
    assert program("", response + "```\nimport os\n```\n") == Program(code="import os\n", tests=None)


@pytest.mark.parametrize(
    "text", ["Hello.", "1 + 1 = 2", "x", "Define a function f. It returns 1.", "", "pass", "a = 1"]
)
def test_prose_is_no_program(text):
    assert program("", text) is None


def test_tests_that_use_a_class_stay_with_the_code():
    response = "class A:\n    x = 1\n\nassert A().x == 1\n"
    assert program("", response) == Program(code=response, tests=None)


FRAGMENTS = [
    "1", "2.5", "3,000", "+", "*", "/", "=", "≈", "(", ")", "x", "$", "%", " ", "\n", ".", "。", "word", "字", "天",
    "days", "2024-03-01", "2023年2月30日", "星期五", "Friday", "<<", ">>", "```", "```python\n", "def f():\n",
    "    return 1\n", "assert f(1) == 2\n", ">>> f(1)\n", "at least", "不少于", "等于", "is", "of", "million",
    "Write ", "写", "^", "\ud800", "\0",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join), st.sampled_from(["", "def f():\n", ">>> f(\n1"]))
def test_no_text_makes_a_finder_raise(text, question):
    for formula in sums(text):
        assert read(formula).relations
        results(formula)
    for claim in date_claims(text):
        assert claim.first in text
    lengths(text)
    program(question, text)
    OverlapMatcher().match(text[:20], text)
