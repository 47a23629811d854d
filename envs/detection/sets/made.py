"""Sets made from a seed: demanded lengths and dates, in English and Chinese, half of them hallucinations.

The truth is known by construction: a text is put together from counted pieces, a date by adding days. Nothing of the
detector is used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import date, timedelta

from envs.detection.prompts import Language
from envs.detection.sets.types import Labelled

NUM = 1_000

_WORDS = tuple(
    re.findall(
        r"\w+",
        """river green stone window quiet paper morning yellow garden silver mountain simple letter summer bridge early
        market little forest ocean bright corner winter music northern table street gentle evening cloud""",
    )
)
_CHARACTERS = "山水风云花草树木鱼鸟春夏秋冬东南西北红黄蓝白天地人心日月星光江河湖海石路桥城村田家门窗书画琴茶"
_TOPICS = {
    "en": ("the sea", "autumn", "a small town", "trains", "an old garden"),
    "zh": ("大海", "秋天", "小镇", "火车", "老花园"),
}


def word_count(language: Language, *, seed: int = 0, num: int = NUM) -> Iterator[Labelled]:
    """Texts of a demanded length: exactly, at least, at most and about so many words, characters or Chinese characters.

    Args:
        language: of question and response.
        seed: the same one gives the same texts.
        num: how many.
    """
    choose = random.Random(f"word_count {language} {seed}")
    for number in range(num):
        is_wrong = number % 2 == 1
        relation = choose.choice(("exactly", "at_least", "at_most", "about"))
        demanded = choose.randint(8, 120)
        length = _length(choose, relation, demanded, is_wrong)
        if language == "en":
            unit = choose.choice(("words", "characters"))
            response = _words(choose, length) if unit == "words" else _english(choose, length)
        else:
            unit = choose.choice(("字", "个字符", "个汉字"))
            response = _ideographs(choose, length) if unit == "个汉字" else _chinese(choose, length)
        yield Labelled(
            item_id=f"word_count/{language}/{seed}/{number}",
            question=_demand(choose, language, relation, demanded, unit),
            response=response,
            hallucinated=is_wrong,
        )


def _length(choose: random.Random, relation: str, demanded: int, is_wrong: bool) -> int:
    far = choose.randint(1, max(1, demanded // 2))
    beyond_a_tenth = demanded // 10 + far
    match relation, is_wrong:
        case "exactly", False:
            return demanded
        case "exactly", True:
            return max(1, demanded + choose.choice((-1, 1)) * min(far, demanded - 1))
        case ("at_least", False) | ("at_most", True):
            return demanded + (far if is_wrong else choose.choice((0, far)))
        case ("at_least", True) | ("at_most", False):
            return max(
                1, demanded - (min(far, demanded - 1) if is_wrong else choose.choice((0, min(far, demanded - 1))))
            )
        case "about", True:
            below = demanded - beyond_a_tenth
            return below if below > 0 and choose.random() < 0.5 else demanded + beyond_a_tenth
    return demanded + choose.randint(-(demanded // 10), demanded // 10)


def _words(choose: random.Random, length: int) -> str:
    words = [choose.choice(_WORDS) for _ in range(length)]
    for at in range(choose.randint(5, 9), length, choose.randint(6, 11)):
        words[at - 1] += choose.choice((".", ",", "!"))
    return " ".join(words).capitalize() + "."


def _english(choose: random.Random, length: int) -> str:
    """A text of so many characters, space and full stop among them."""
    text = ""
    while len(text) < length - 1:
        text += choose.choice(_WORDS) + " "
    return f"{text[: length - 1].rstrip().ljust(length - 1, 'a')}." if length > 1 else "a"


def _chinese(choose: random.Random, length: int) -> str:
    """A text of so many characters, marks among them."""
    text = "".join(choose.choice(_CHARACTERS) if at % 9 else "，" for at in range(1, length))
    return f"{text}。" if length > 1 else choose.choice(_CHARACTERS)


def _ideographs(choose: random.Random, length: int) -> str:
    """A text of so many Chinese characters; its marks are not counted."""
    return "".join(choose.choice(_CHARACTERS) + ("，" if at % 7 == 6 else "") for at in range(length)) + "。"


_ENGLISH_DEMANDS = {
    "exactly": ("Write exactly {n} {u} about {t}.", "Describe {t} in {n} {u}.", "Write a text of {n} {u} on {t}."),
    "at_least": (
        "Write at least {n} {u} about {t}.",
        "Describe {t} in no fewer than {n} {u}.",
        "Write {n} {u} or more on {t}.",
    ),
    "at_most": (
        "Write at most {n} {u} about {t}.",
        "Describe {t} in no more than {n} {u}.",
        "Describe {t} within {n} {u}.",
    ),
    "about": ("Write about {n} {u} on {t}.", "Describe {t} in approximately {n} {u}.", "Write around {n} {u} on {t}."),
}
_CHINESE_DEMANDS = {
    "exactly": ("请写一段正好{n}{u}的文字，主题是{t}。", "用{n}{u}描写{t}。"),
    "at_least": ("请写一段不少于{n}{u}的文字，主题是{t}。", "用至少{n}{u}描写{t}。", "写{n}{u}以上的文字，主题是{t}。"),
    "at_most": ("请写一段不超过{n}{u}的文字，主题是{t}。", "用最多{n}{u}描写{t}。", "用{n}{u}以内描写{t}。"),
    "about": ("请写一段大约{n}{u}的文字，主题是{t}。", "用{n}{u}左右描写{t}。"),
}


def _demand(choose: random.Random, language: Language, relation: str, demanded: int, unit: str) -> str:
    forms = (_ENGLISH_DEMANDS if language == "en" else _CHINESE_DEMANDS)[relation]
    return choose.choice(forms).format(n=demanded, u=unit, t=choose.choice(_TOPICS[language]))


_MONTHS = re.findall(r"\w+", "January February March April May June July August September October November December")
_ENGLISH_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CHINESE_DAYS = "一二三四五六日"
_ENGLISH_DATES = (
    "From {a} to {b} there are {n} days.",
    "{b} is {n} days after {a}.",
    "There are {n} days between {a} and {b}.",
    "{n} days after {a} it is {b}.",
    "{a} is {n} days before {b}.",
)
_CHINESE_DATES = (
    "从{a}到{b}一共有{n}天。",
    "{a}与{b}之间相隔{n}天。",
    "{a}之后{n}天是{b}。",
    "{b}是{a}之后的第{n}天。",
    "{a}距离{b}还有{n}天。",
)


def dates(language: Language, *, seed: int = 0, num: int = NUM) -> Iterator[Labelled]:
    """Differences between dates, and weekdays.

    Args:
        language: of the response.
        seed: the same one gives the same dates.
        num: how many.
    """
    choose = random.Random(f"dates {language} {seed}")
    for number in range(num):
        is_wrong = number % 2 == 1
        first = date(1900, 1, 1) + timedelta(days=choose.randrange(60_000))
        make = _weekday if choose.random() < 0.4 else _difference
        yield Labelled(
            item_id=f"date/{language}/{seed}/{number}",
            question="Is that right?" if language == "en" else "这样说对吗？",
            response=make(choose, language, first, is_wrong),
            hallucinated=is_wrong,
        )


def _difference(choose: random.Random, language: Language, first: date, is_wrong: bool) -> str:
    num = choose.randint(3, choose.choice((40, 400, 4_000)))
    second = first + timedelta(days=num)
    said = num + (choose.choice((-2, -1, 1, 2, 10)) if is_wrong else 0)
    form = choose.choice(_ENGLISH_DATES if language == "en" else _CHINESE_DATES)
    return form.format(a=_written(choose, language, first), b=_written(choose, language, second), n=said)


def _weekday(choose: random.Random, language: Language, day: date, is_wrong: bool) -> str:
    number = (day.weekday() + (choose.randint(1, 6) if is_wrong else 0)) % 7
    written = _written(choose, language, day)
    if language == "en":
        return choose.choice(("{a} is a {w}.", "{a} falls on a {w}.", "The weekday of {a} is {w}.")).format(
            a=written, w=_ENGLISH_DAYS[number]
        )
    name = choose.choice(("星期", "周")) + _CHINESE_DAYS[number]
    return choose.choice(("{a}是{w}。", "{a}那天是{w}。")).format(a=written, w=name)


def _written(choose: random.Random, language: Language, day: date) -> str:
    if language == "zh":
        return choose.choice((f"{day.year}年{day.month}月{day.day}日", day.isoformat()))
    month = _MONTHS[day.month - 1]
    forms = (f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}", day.isoformat())
    return choose.choice(forms)
