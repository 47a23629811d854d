"""Mixed responses made from a seed: sentences of arithmetic and dates, demanded lengths, and programs; right and wrong.

Training and held-out responses are disjoint by construction. A hash puts every calculation, date, demand and program on
one side of the split, and every combination of the pieces that a sentence is put together from; a response of one side
holds nothing of the other. The truth is known by construction, and nothing of the detector is used.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, TypeVar

from envs.detection.prompts import Language
from envs.detection.sets.types import Labelled, LabelledSentence

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.2
"""Of all values and of all combinations of pieces."""
WRONG_SHARE = 0.5
"""Of the responses."""
KINDS = ("arithmetic", "dates", "lengths", "code", "mixed")
MAX_SENTENCES = 4

T = TypeVar("T")


def side(*names: object) -> Split:
    """The side of the split that something is on, by a hash of its names."""
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return "heldout" if int.from_bytes(digest[:8]) < HELDOUT_SHARE * 2**64 else "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A sentence of a response."""

    text: str
    label: int | None
    """1: a hallucination, 0: none, None: it states nothing that could be checked."""


class MixedResponses:
    """Makes responses of one side of the split in one language."""

    def __init__(self, choose: random.Random, split: Split, language: Language) -> None:
        """Prepare.

        Args:
            choose: decides everything; the same state gives the same responses.
            split: the side that every value and every combination of pieces is on.
            language: of questions and responses.
        """
        self._choose = choose
        self._split: Split = split
        self._language: Language = language

    def make(self, kind: str, item_id: str) -> Labelled:
        """One response.

        Args:
            kind: of KINDS.
            item_id: its name.

        Raises:
            ValueError: no such kind.
        """
        is_wrong = self._choose.random() < WRONG_SHARE
        match kind:
            case "arithmetic":
                return self._sentences(item_id, is_wrong, [self._calculation, self._chained])
            case "dates":
                return self._sentences(item_id, is_wrong, [self._difference, self._weekday])
            case "mixed":
                return self._mixed(item_id, is_wrong)
            case "lengths":
                return self._length(item_id, is_wrong)
            case "code":
                return self._code(item_id, is_wrong)
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")

    def _drawn(self, draw: Callable[[], T], *names: object) -> T:
        """The first of what is drawn that is on our side of the split."""
        while True:
            found = draw()
            if side(*names, found) == self._split:
                return found

    # Several sentences.

    def _sentences(self, item_id: str, is_wrong: bool, makers: Sequence[Callable[[bool], list[Piece]]]) -> Labelled:
        """Sentences that each state something, sometimes with one among them that does not."""
        pieces = self._stated(is_wrong, self._choose.randint(1, MAX_SENTENCES), makers)
        if len(pieces) < MAX_SENTENCES and self._choose.random() < 0.3:
            pieces.insert(self._choose.randint(0, len(pieces)), self._filler())
        return self._labelled(item_id, self._choose.choice(_QUESTIONS[self._language]), is_wrong, pieces)

    def _stated(self, is_wrong: bool, num: int, makers: Sequence[Callable[[bool], list[Piece]]]) -> list[Piece]:
        """`num` sentences, or one more; if they are to be wrong, one of them is and each later one may be."""
        pieces: list[Piece] = []
        wrong = self._choose.randrange(num) if is_wrong else num
        while len(pieces) < num:
            is_due = len(pieces) >= wrong and not any(piece.label for piece in pieces)
            pieces += self._choose.choice(makers)(is_due or (len(pieces) > wrong and self._choose.random() < 0.3))
        return pieces if not is_wrong or any(piece.label for piece in pieces) else self._stated(True, num, makers)

    def _mixed(self, item_id: str, is_wrong: bool) -> Labelled:
        """Arithmetic and dates together, half of them with a demanded number of sentences."""
        makers = [self._calculation, self._chained, self._difference, self._weekday]
        num = self._choose.randint(2, MAX_SENTENCES)
        if self._choose.random() < 0.5:
            return self._sentences(item_id, is_wrong, makers)
        wrong_length = is_wrong and self._choose.random() < 0.5
        pieces = self._stated(is_wrong and not wrong_length, num, makers)
        demanded = len(pieces) + (self._choose.choice((-1, 1, 2)) if wrong_length else 0)
        forms, topics = _NUM_SENTENCES[self._language], _TOPICS[self._language]
        form, topic = self._drawn(lambda: (self._choose.choice(forms), self._choose.choice(topics)), "sentences")
        return self._labelled(item_id, form.format(n=demanded, t=topic), is_wrong, pieces)

    def _labelled(self, item_id: str, question: str, is_wrong: bool, pieces: Sequence[Piece]) -> Labelled:
        text, labelled = "", []
        for piece in pieces:
            text += " " if text and self._language == "en" else ""
            if piece.label is not None:
                end = len(text) + len(piece.text)
                labelled.append(LabelledSentence(start=len(text), end=end, label=piece.label))
            text += piece.text
        return Labelled(
            item_id=item_id, question=question, response=text, hallucinated=is_wrong, sentences=tuple(labelled)
        )

    def _put(self, kind: str, **values: object) -> str:
        """A sentence put together from an opening and a form, in a combination that is on our side."""
        openings, forms = _OPENINGS[self._language], _FORMS[kind, self._language]
        opening, form = self._drawn(
            lambda: (self._choose.choice(openings), self._choose.choice(forms)), kind, self._language
        )
        text = opening + form.format(**values)
        return text[0].upper() + text[1:]

    def _filler(self) -> Piece:
        return Piece(text=self._choose.choice(_FILLERS[self._language]), label=None)

    # Arithmetic.

    def _calculation(self, is_wrong: bool, first: int | None = None) -> list[Piece]:
        return [self._computed(is_wrong, first)[0]]

    def _chained(self, is_wrong: bool) -> list[Piece]:
        """A calculation and another one with its result: where the first is wrong, the second rests on it."""
        first, result = self._computed(is_wrong, None)
        second, _ = self._computed(False, result)
        return [first, Piece(text=second.text, label=first.label)]

    def _computed(self, is_wrong: bool, first: int | None) -> tuple[Piece, int]:
        """A calculation and the result that it claims."""
        left, sign, right = self._drawn(lambda: self._operands(first), "calculation")
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
        said = self._other_number(result) if is_wrong else result
        written = _SIGNS[self._language][sign]
        text = self._put("calculation", a=left, b=right, s=self._choose.choice(written), c=said)
        return Piece(text=text, label=int(is_wrong)), said

    def _operands(self, first: int | None) -> tuple[int, str, int]:
        choose = self._choose
        # From a first number below 2 nothing is taken away: a sum that goes on from a result begins with it.
        signs = "+-*/" if first is None else "+-*" if first >= 2 else "+*"
        sign = choose.choice(signs)
        if sign == "/":
            right = choose.randint(2, 12)
            return right * choose.randint(2, 60), sign, right
        left = choose.randint(2, choose.choice((20, 200, 2000))) if first is None else first
        if sign == "*":
            return left, sign, choose.randint(2, 12)
        if sign == "-":
            return left, sign, choose.randint(1, left - 1)
        return left, sign, choose.randint(2, choose.choice((20, 200, 2000)))

    def _other_number(self, number: int) -> int:
        other = number + self._choose.choice((-10, -2, -1, 1, 2, 10, 100))
        return other if other > 0 else number + 3

    # Dates.

    def _difference(self, is_wrong: bool) -> list[Piece]:
        first = self._day()
        second = self._drawn(lambda: first + timedelta(days=self._choose.randint(3, 400)), "date")
        said = (second - first).days + (self._choose.choice((-2, -1, 1, 2, 10)) if is_wrong else 0)
        text = self._put("difference", a=self._written(first), b=self._written(second), n=max(said, 1))
        return [Piece(text=text, label=int(is_wrong))]

    def _weekday(self, is_wrong: bool) -> list[Piece]:
        day = self._day()
        number = (day.weekday() + (self._choose.randint(1, 6) if is_wrong else 0)) % 7
        text = self._put("weekday", a=self._written(day), w=_WEEKDAYS[self._language][number])
        return [Piece(text=text, label=int(is_wrong))]

    def _day(self) -> date:
        return self._drawn(lambda: date(1950, 1, 1) + timedelta(days=self._choose.randrange(36_500)), "date")

    def _written(self, day: date) -> str:
        if self._language == "zh":
            return self._choose.choice((f"{day.year}年{day.month}月{day.day}日", day.isoformat()))
        month = _MONTHS[day.month - 1]
        return self._choose.choice((f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}", day.isoformat()))

    # Demanded lengths.

    def _length(self, item_id: str, is_wrong: bool) -> Labelled:
        choose, language = self._choose, self._language
        relation = choose.choice(_RELATIONS)
        form, topic, demanded = self._drawn(
            lambda: (
                choose.choice(_DEMANDS[relation, language]),
                choose.choice(_TOPICS[language]),
                choose.randint(4, 24),
            ),
            "length",
        )
        length = _of_length(choose, relation, demanded, is_wrong)
        response = self._text(length)
        return Labelled(
            item_id=item_id, question=form.format(n=demanded, t=topic), response=response, hallucinated=is_wrong
        )

    def _text(self, length: int) -> str:
        """A text of so many words, or of so many Chinese characters."""
        if self._language == "zh":
            return "".join(self._choose.choice(_CHARACTERS) for _ in range(length)) + "。"
        return " ".join(self._choose.choice(_WORDS) for _ in range(length)).capitalize() + "."

    # Programs.

    def _code(self, item_id: str, is_wrong: bool) -> Labelled:
        """A function of one line, with an example of it in the question."""
        choose, language = self._choose, self._language
        bodies = tuple(_BODIES)
        name, body, factor, term = self._drawn(
            lambda: (choose.choice(_NAMES), choose.choice(bodies), choose.randint(2, 9), choose.randint(1, 9)),
            "program",
        )
        argument = choose.randint(2, 9)
        value = _BODIES[body](argument, factor, term)
        written = body
        while is_wrong and _BODIES[written](argument, factor, term) == value:
            written = choose.choice(bodies)
        form = choose.choice(_CODE_QUESTIONS[language])
        question = f"{form.format(f=name)}\n>>> {name}({argument})\n{value}"
        comment = "# 计算并返回结果\n" if language == "zh" else ""
        code = f"{comment}def {name}(x):\n    return {written.format(a=factor, b=term)}"
        return Labelled(item_id=item_id, question=question, response=code, hallucinated=is_wrong)


def _of_length(choose: random.Random, relation: str, demanded: int, is_wrong: bool) -> int:
    far = choose.randint(1, max(1, demanded // 2))
    less, more = max(1, demanded - far), demanded + far
    match relation, is_wrong:
        case "exactly", True:
            return choose.choice((less, more))
        case ("at_least", True) | ("at_most", False):
            return less
        case ("at_least", False) | ("at_most", True):
            return more
    return demanded


# The pieces.

_MONTHS = re.findall(r"\w+", "January February March April May June July August September October November December")
_WEEKDAYS: Mapping[Language, Sequence[str]] = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": tuple(f"星期{day}" for day in "一二三四五六日"),
}
_SIGNS: Mapping[Language, Mapping[str, Sequence[str]]] = {
    "en": {"+": ("+",), "-": ("-",), "*": ("*", "×"), "/": ("/", "÷")},
    "zh": {"+": ("+", "加"), "-": ("-", "减"), "*": ("×", "乘以"), "/": ("÷", "除以")},
}
_OPENINGS: Mapping[Language, Sequence[str]] = {
    "en": ("", "first, ", "then ", "so ", "as we know, ", "in fact, ", "note that ", "of course, "),
    "zh": ("", "首先，", "然后，", "所以，", "我们知道，", "其实，", "注意，", "当然，"),
}
_FORMS: Mapping[tuple[str, Language], Sequence[str]] = {
    ("calculation", "en"): (
        "{a} {s} {b} = {c}.",
        "the result is {a} {s} {b} = {c}.",
        "we get {a} {s} {b} = {c}.",
        "{a} {s} {b} equals {c}.",
        "that makes {a} {s} {b} = {c} in all.",
        "the total is {a} {s} {b} = {c} dollars.",
        "there are {a} {s} {b} = {c} apples.",
        "{a} {s} {b} is equal to {c}.",
    ),
    ("calculation", "zh"): (
        "{a}{s}{b}={c}。",
        "结果是{a}{s}{b}={c}。",
        "可以算出{a}{s}{b}={c}。",
        "{a}{s}{b}等于{c}。",
        "一共是{a}{s}{b}={c}元。",
        "总共有{a}{s}{b}={c}个苹果。",
    ),
    ("difference", "en"): (
        "from {a} to {b} there are {n} days.",
        "{b} is {n} days after {a}.",
        "there are {n} days between {a} and {b}.",
        "{n} days after {a} it is {b}.",
        "{a} is {n} days before {b}.",
        "it takes {n} days from {a} to {b}.",
    ),
    ("difference", "zh"): (
        "从{a}到{b}一共有{n}天。",
        "{a}与{b}之间相隔{n}天。",
        "{a}之后{n}天是{b}。",
        "{a}距离{b}还有{n}天。",
        "{b}在{a}之后{n}天。",
    ),
    ("weekday", "en"): (
        "{a} is a {w}.",
        "{a} falls on a {w}.",
        "the weekday of {a} is {w}.",
        "{a} was a {w}.",
        "the shop opened on {a}, a {w}.",
    ),
    ("weekday", "zh"): ("{a}是{w}。", "{a}那天是{w}。", "{a}正好是{w}。", "商店在{a}开业，那天是{w}。"),
}
_FILLERS: Mapping[Language, Sequence[str]] = {
    "en": ("That is easy to see.", "It is a nice question.", "I hope this helps.", "Please ask again at any time."),
    "zh": ("这很容易看出。", "这是一个好问题。", "希望对你有帮助。", "欢迎随时再问。"),
}
_QUESTIONS: Mapping[Language, Sequence[str]] = {
    "en": ("Is that right?", "Can you work it out?", "How does it go?", "Please help me.", "What is the answer?"),
    "zh": ("这样说对吗？", "你能算一算吗？", "结果是多少？", "请帮帮我。", "答案是什么？"),
}
_NUM_SENTENCES: Mapping[Language, Sequence[str]] = {
    "en": (
        "Answer in exactly {n} sentences for a page on {t}.",
        "Write exactly {n} sentences for a page on {t}.",
        "Use exactly {n} sentences for a page on {t}.",
    ),
    "zh": (
        "用{n}句话回答，主题是{t}。",
        "请写正好{n}句话，主题是{t}。",
        "用正好{n}个句子介绍{t}。",
    ),
}
_RELATIONS = ("exactly", "at_least", "at_most")
_DEMANDS: Mapping[tuple[str, Language], Sequence[str]] = {
    ("exactly", "en"): ("Write exactly {n} words about {t}.", "Describe {t} in exactly {n} words."),
    ("at_least", "en"): ("Write at least {n} words about {t}.", "Describe {t} in at least {n} words."),
    ("at_most", "en"): ("Write at most {n} words about {t}.", "Describe {t} in at most {n} words."),
    ("exactly", "zh"): ("请写正好{n}个汉字，主题是{t}。", "用正好{n}个汉字描写{t}。"),
    ("at_least", "zh"): ("请写至少{n}个汉字，主题是{t}。", "用至少{n}个汉字描写{t}。"),
    ("at_most", "zh"): ("请写最多{n}个汉字，主题是{t}。", "用最多{n}个汉字描写{t}。"),
}
_TOPICS: Mapping[Language, Sequence[str]] = {
    "en": ("the sea", "autumn", "a town", "trains", "a garden", "winter", "a bridge", "the rain", "music", "a street"),
    "zh": ("大海", "秋天", "小镇", "火车", "花园", "冬天", "大桥", "下雨", "音乐", "街道"),
}
_WORDS = tuple(
    re.findall(
        r"\w+",
        """river green stone window quiet paper morning yellow garden silver mountain simple letter summer bridge early
        market little forest ocean bright corner winter music northern table street gentle evening cloud""",
    )
)
_CHARACTERS = "山水风云花草树木鱼鸟春夏秋冬东南西北红黄蓝白天地人心日月星光江河湖海石路桥城村田家门窗书画琴茶"
_NAMES = ("scale", "shift", "price", "score", "total", "level", "change", "weight", "cost", "rate", "size", "count")
_BODIES: Mapping[str, Callable[[int, int, int], int]] = {
    "x * {a} + {b}": lambda x, a, b: x * a + b,
    "x * {a} - {b}": lambda x, a, b: x * a - b,
    "x + {a} * {b}": lambda x, a, b: x + a * b,
    "(x + {a}) * {b}": lambda x, a, b: (x + a) * b,
    "x * x + {a} + {b}": lambda x, a, b: x * x + a + b,
    "max(x, {a}) + {b}": lambda x, a, b: max(x, a) + b,
}
_CODE_QUESTIONS: Mapping[Language, Sequence[str]] = {
    "en": ("Write a function {f}(x).", "Please define {f}(x) in Python.", "Give me {f}(x) for this example."),
    "zh": ("写一个函数{f}(x)。", "请用Python定义{f}(x)。", "按例子给出函数{f}(x)。"),
}
