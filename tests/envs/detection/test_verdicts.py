"""Verdicts of the rules on what models write, in English and Chinese."""

from __future__ import annotations

import asyncio

import pytest

from rl.detecting import Detector, Record, Settings


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(Settings())


def verdict(detector: Detector, response: str, question: str = "") -> bool | None:
    line = asyncio.run(detector.detect(Record(record_id=1, response=response, question=question)))
    assert "failed" not in line, line
    return line["hallucinated"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "response",
    [
        "100 / 7 = 14.2857 ≈ 14.29",
        "7 / 2 = 3.5 ≈ 4",
        "45/67 = 0.6716 ≈ 67.2%",
        "12万 × 3 = 36万元",
        "1500万 + 500万 = 2000万元",
        "3.5亿+2.5亿=6亿人",
        "5千 + 5千 = 1万",
        "2千克 + 3千克 = 5千克",
        "11/4 = 2 3/4",
        "1 1/2 + 1/2 = 2",
        "2 × 1 3/4 = 3 1/2",
        "**15 + 27 = 42**",
        "5 + 7 = **12**",
        r"\\( 3 \\times 4 = 12 \\)".replace("\\\\", "\\"),
        r"$3 \times 4 = 12$",
        r"$\frac{1}{2} + \frac{1}{4} = \frac{3}{4}$",
        "10² = 100",
        "3×4=12（元）。",
    ],
)
def test_right_calculations_as_models_write_them(detector, response):
    assert verdict(detector, response) is False


@pytest.mark.parametrize(
    "response",
    [
        "100 / 7 = 14.2857 ≈ 14.39",
        "7 / 2 = 3.5 = 4",
        "12万 × 3 = 35万元",
        "5千 + 5千 = 2万",
        "11/4 = 2 1/4",
        "**15 + 27 = 43**",
        "5 + 7 = **13**",
        r"$3 \times 4 = 13$",
        r"$\frac{1}{2} + \frac{1}{4} = \frac{2}{4}$",
        "10² = 1000",
        "3×4=13（元）。",
        "On Saturday, March 1, 2024 we met.",
        "2024-02-30 was a sunny day.",
        "星期六是2024年3月1日。",
    ],
)
def test_wrong_claims_as_models_write_them(detector, response):
    assert verdict(detector, response) is True


@pytest.mark.parametrize(
    "response",
    [
        "2010-2020年为10年",
        "Born 1950-2000 is 50 years",
        "Tel 555-1234 is 7 digits",
        "2+2不等于5。",
        "2 feet + 6 inches = 30 inches",
        "1小时 + 30分钟 = 90分钟",
        "$1 + 50 cents = $1.50",
        "$100 - 20% = $80",
        "It is not true that 5 + 5 = 11.",
        "Is 5 + 5 = 11?",
        "5 + 5 = 11 is wrong.",
        "On Friday, March 1, 2024 we met, and on Saturday, March 2, 2024 we left.",
        "星期五是2024年3月1日，星期六是2024年3月2日。",
        "2024-03-01 is not a Monday.",
        "2024年3月1日不是星期一。",
        "2024-02-30 does not exist.",
        "2023年2月29日不存在。",
        "2024年3月1日（周五），请在下周一前回复。",
        "On 2024-03-01 the store announced that it would be closed every Sunday.",
        "From July 14, 1789 to November 9, 1799, more than 3,000 days.",
        "3 + 4 = 7. On March 8, 2024 it rained.",
    ],
)
def test_what_is_no_wrong_claim_is_none(detector, response):
    assert verdict(detector, response) is not True


SEVEN = "春天来了花开。"
FIVE = "one two three four five"


@pytest.mark.parametrize(
    ("question", "response", "is_wrong"),
    [
        ("Write an essay of 5-10 words.", f"{FIVE} six", False),
        ("Write an essay of 5 to 10 words.", "one two", True),
        ("Write between 5 and 10 words.", f"{FIVE} {FIVE} more", True),
        ("写一篇5到10个字的短文", SEVEN, False),
        ("Write 3-4 sentences.", "One. Two. Three.", False),
        ("写一篇作文，字数不得少于5个字。", SEVEN, False),
        ("写一篇作文，不能超过10个字。", SEVEN, False),
        ("写一篇小于10个字的短文", SEVEN, False),
        ("请用少于7个字回答", SEVEN, True),
        ("Write over 5 words.", FIVE, True),
        ("Keep it below 5 words.", FIVE, True),
        ("Write a tweet (max 280 characters).", FIVE, False),
        ("Summarize the 500 word article.", FIVE, None),
        ("概括这篇2000字的文章", SEVEN, None),
        ("Write a haiku about autumn in 3 words.", f"{FIVE}", True),
        ("写一篇关于节约的10字短文", SEVEN, True),
        ("Write about 5 words.", FIVE, False),
    ],
)
def test_demanded_lengths_are_read_as_they_are_meant(detector, question, response, is_wrong):
    assert verdict(detector, response, question) is is_wrong


def fenced(code: str, end: str = "\n") -> str:
    return f"```python\n{code}\n```\n".replace("\n", end)


@pytest.mark.parametrize(
    ("code", "is_wrong"),
    [
        ("def double(x):\n    return x + 1\n\ndef test_double():\n    assert double(3) == 6", True),
        ("def double(x):\n    return x * 2\n\ndef test_double():\n    assert double(3) == 6", False),
        # Tests that need the code's own objects say nothing where the two are apart.
        (
            "def order(x):\n    x.sort()\n\ndef test_it():\n    xs = [2, 1]\n    order(xs)\n    assert xs == [1, 2]",
            None,
        ),
        ("def order(x):\n    x.sort()\n\nxs = [2, 1]\norder(xs)\nassert xs == [1, 2]", False),
        (
            "def gen():\n    n = 0\n    while True:\n        yield n\n        n += 1\n\ng = gen()\nassert next(g) == 0",
            None,
        ),
        ("def add(a, b):\n    return a - b\n\nassert add(1, 2) == 3", True),
        ("from zoneinfo import ZoneInfo\nprint(ZoneInfo('Europe/Atlantis'))", None),
    ],
)
def test_programs_are_judged_by_their_own_tests(detector, code, is_wrong):
    assert verdict(detector, fenced(code)) is is_wrong


def test_windows_line_ends_hide_no_program(detector):
    assert verdict(detector, fenced("def f(x):\n    return x\n\nassert f(1) == 2", end="\r\n")) is True


GOOD = fenced("def f(x):\n    return x\n\nassert f(1) == 1")


def test_prose_beside_a_program_is_checked_too(detector):
    assert verdict(detector, f"2 + 2 = 5 is why we add.\n{GOOD}") is True
    assert verdict(detector, f"{GOOD}So 3 * 3 = 10.") is True
    assert verdict(detector, f"So 3 * 3 = 9:\n{GOOD}It is easy.") is False
    bad = fenced("def f(x):\n    return x\n\nassert f(1) == 2")
    line = asyncio.run(detector.detect(Record(record_id=1, response=f"So 3 * 3 = 9:\n{bad}")))
    assert [row["label"] for row in line["sentences"]] == [0, 1]  # type: ignore[index,union-attr]


def test_examples_that_prepare_others_and_shown_output_are_no_failures(detector):
    head = 'def sort_it(xs):\n    """Sorted.\n\n    >>> data = [3, 1]\n    >>> sort_it(data)\n    [1, 3]\n    """\n'
    assert verdict(detector, "    return sorted(xs)", head) is False
    assert verdict(detector, "    return xs", head) is True
    shown = 'def hello():\n    """Says one.\n\n    >>> hello()\n    1\n    """\n'
    assert verdict(detector, "    print(1)", shown) is False
    assert verdict(detector, "    return 2", shown) is True
    assert verdict(detector, "def g(x):\n    return x\n", "Write f.\n>>> f(3)\n3") is True, "there is no f"


def test_a_search_that_does_not_answer_is_no_clean_result():
    detector = Detector(Settings(search_url="http://127.0.0.1:9/"))
    line = asyncio.run(detector.detect(Record(record_id=1, response="2 + 2 = 4. Paris is in Germany.")))
    assert line["hallucinated"] is None
    assert str(line["failed"]).startswith("the endpoint failed: ")
    line = asyncio.run(detector.detect(Record(record_id=1, response="2 + 2 = 5. Paris is in Germany.")))
    assert line["hallucinated"] is True, "one wrong sentence is enough"
