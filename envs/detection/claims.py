"""What a text claims that can be checked without knowing the world: sums, dates, lengths, programs.

Finds claims and judges none. What has the form of no known claim is not found: better none than a wrong one.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envs.detection import dates
from envs.detection.arithmetic import Chain, NotArithmetic, read
from envs.detection.counting import Relation, Unit

# Sums.

_MARK = re.compile(r"<<([^<>]*)>>")
"""A calculation as GSM8K notes it beside the text: 80,000+50,000=$<<80000+50000=130000>>130,000."""
_RELATION = re.compile(r"≈|(?<![<>!=])==?(?![=>])|\bis equal to\b|\bequals\b|约等于|等于|＝")
_WEAK_RELATION = re.compile(r"\b(?:is|are|makes|gives|totals)\b|[是为]|得到?")
"""Words that say a result only if what stands before them is a calculation."""
_PLACE = re.compile(r"[\d.(\[（$€£¥￥+\-−]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
"""Where an expression may begin."""
_WINDOW = 200
"""Characters before and after a relation that are looked at."""


def sums(text: str) -> list[str]:
    """Chains of equations with a calculation in them, as they stand in the text, in its order.

    Equations with an unknown are left out unless both sides are the same whatever it is: whether `2x = 10` is right
    depends on what was said of x.
    """
    found: list[str] = []
    for place in dates.find(text):
        # 2024-03-01 is no subtraction.
        text = f"{text[: place.start]}{'#' * (place.end - place.start)}{text[place.end :]}"
    marks = list(_MARK.finditer(text))
    for mark in marks:
        found += _chain_of([mark.group(1)])
    if marks:
        # What a mark says is in the text once more, and often rounded.
        return list(dict.fromkeys(found))
    for pieces in _equations(text, _RELATION):
        found += _chain_of(pieces) or _chain_of(pieces[:2])
    if not found:
        for pieces in _equations(text, _WEAK_RELATION):
            chain = _chain(pieces)
            if chain and chain.sides[0].num_operators and chain.sides[-1].decimals is not None:
                found += _chain_of(pieces)
    return list(dict.fromkeys(found))


def results(formula: str) -> list[str]:
    """Numbers that a chain of equations gives as results, as they stand in the text without separators."""
    try:
        sides = read(formula).sides
    except NotArithmetic:
        return []
    return [side.text.replace(",", "") for side in sides if side.decimals is not None]


def numbers(text: str) -> list[str]:
    """Numbers in a text, without separators."""
    return [match.replace(",", "") for match in re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?", text)]


def _chain(pieces: Sequence[str]) -> Chain | None:
    try:
        return read("=".join(pieces))
    except NotArithmetic:
        return None


def _chain_of(pieces: Sequence[str]) -> list[str]:
    """The chain as a list of one, or none if it claims nothing that can be checked."""
    chain = _chain(pieces)
    if chain is None or not chain.relations or not chain.num_operators:
        return []
    has_unknowns = any(side.value.unknowns for side in chain.sides)
    return [] if has_unknowns and str(chain.truth) == "open" else [" = ".join(side.text for side in chain.sides)]


def _equations(text: str, relation: re.Pattern[str]) -> Iterator[list[str]]:
    """Neighbouring pieces around relations that are expressions: the end of the first one, the start of the last."""
    signs = list(relation.finditer(text))
    number = 0
    while number < len(signs):
        left = _last_expression(text[max(0, signs[number].start() - _WINDOW) : signs[number].start()])
        if left is None:
            number += 1
            continue
        pieces = [left]
        while number < len(signs):
            after = signs[number].end()
            before_next = signs[number + 1].start() if number + 1 < len(signs) else len(text)
            whole = text[after:before_next].strip()
            if number + 1 < len(signs) and _is_expression(whole):
                pieces.append(whole)
                number += 1
                continue
            right = _first_expression(text[after : min(before_next, after + _WINDOW)])
            if right is not None:
                pieces.append(right)
            number += 1
            break
        if len(pieces) > 1:
            yield pieces


def _is_expression(text: str) -> bool:
    try:
        return not read(text).relations
    except NotArithmetic:
        return False


def _last_expression(text: str) -> str | None:
    """The longest end of a text that is an expression."""
    for place in _PLACE.finditer(text):
        before = text[: place.start()]
        # Not within a number or a word.
        if re.search(r"[A-Za-z0-9_]$|\d[.,]$", before) and text[place.start()].isalnum():
            continue
        piece = text[place.start() :].strip()
        if _is_expression(piece):
            return piece
    return None


_STOP = re.compile(
    r"[,;:。，；：、!?！？\n]|\.(?!\d)|\s(?:and|so|which|because|then|but|where|since|if|或|和|所以|因此)\b"
)


def _first_expression(text: str) -> str | None:
    """The longest start of a text that is an expression."""
    ends = [match.start() for match in _STOP.finditer(text)] + [len(text)]
    thousands = re.compile(r"\d,\d{3}(?!\d)")
    kept = [end for end in ends if not thousands.match(text, max(0, end - 1))]
    piece = text[: kept[0]].strip()
    if _is_expression(piece):
        return piece
    # An expression may also end at any space before words that are no unit.
    words = [match.start() for match in re.finditer(r"\s+", piece)]
    for end in reversed(words):
        if _is_expression(piece[:end]):
            return piece[:end].strip()
    return None


# Dates.


@dataclass(frozen=True, slots=True, kw_only=True)
class DateClaim:
    """That a date has a weekday, or lies so many days from another."""

    first: str
    second: str | None = None
    days: int | None = None
    weekday: str | None = None


_DAYS = re.compile(
    r"(?<![\d.-])(\d{1,6}(?:,\d{3})*)\s*(?:full\s+|whole\s+)?(days?|weeks?|天|日(?!期)|周(?![一二三四五六日年])|星期(?![一二三四五六日]))"
)
_INCLUSIVE = re.compile(r"inclusive|including both|both days|包括(?:首尾|两端|起止)|首尾(?:都|均)?(?:算|计)|含首尾")


def date_claims(text: str) -> list[DateClaim]:
    """Claims about full dates in one sentence: two dates and a number of days, or a date and its weekday."""
    found = dates.find(text)
    if not found:
        return []
    claims: list[DateClaim] = []
    spelled = [text[place.start : place.end] for place in found]
    claims += [DateClaim(first=spelled[number]) for number, place in enumerate(found) if place.value is None]
    if claims:
        return claims
    spans = [match for match in _DAYS.finditer(text) if not any(p.start <= match.start() < p.end for p in found)]
    if len(found) == 2 and len(spans) == 1:
        num = int(spans[0][1].replace(",", "")) * (7 if spans[0][2].startswith(("week", "周", "星期")) else 1)
        num -= bool(_INCLUSIVE.search(text))
        claims.append(DateClaim(first=spelled[0], second=spelled[1], days=num))
    for place, number in dates.weekdays(text):
        # The weekday belongs to the date before it, or, if there is none, to the one that follows.
        before = [written for at, written in zip(found, spelled, strict=True) if at.end <= place]
        claims.append(DateClaim(first=before[-1] if before else spelled[0], weekday=dates.WEEKDAYS[number]))
    return claims


# Lengths.


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthClaim:
    """A demand on the length of a response."""

    unit: Unit
    relation: Relation
    number: int


_ENGLISH_UNITS = {
    "word": Unit.WORDS,
    "character": Unit.CHARACTERS,
    "sentence": Unit.SENTENCES,
    "paragraph": Unit.PARAGRAPHS,
}
_CHINESE_UNITS = {
    "个字符": Unit.CHARACTERS,
    "字符": Unit.CHARACTERS,
    "个汉字": Unit.CJK,
    "汉字": Unit.CJK,
    "个字": Unit.CHARACTERS,
    "字": Unit.CHARACTERS,
    "个单词": Unit.WORDS,
    "单词": Unit.WORDS,
    "句话": Unit.SENTENCES,
    "个句子": Unit.SENTENCES,
    "段": Unit.PARAGRAPHS,
}
_ENGLISH_LENGTH = re.compile(
    r"(?P<before>(?:[A-Za-z,']+\s+){0,4}?)(?P<number>\d{1,3}(?:,\d{3})+|\d{1,6})[\s-]+(?P<unit>word|character|sentence|paragraph)s?\b"
    r"(?P<after>\s+(?:or\s+(?:more|less|fewer)|at\s+(?:least|most)|exactly|minimum|maximum))?",
    re.IGNORECASE,
)
_CHINESE_LENGTH = re.compile(
    r"(?P<before>[\u4e00-\u9fff]{0,6})\s*(?P<number>\d{1,6})\s*(?P<unit>"
    + "|".join(sorted(_CHINESE_UNITS, key=len, reverse=True))
    + r")"
    r"(?P<after>(?:以上|以下|以内|之内|左右|上下)?)"
)
_RELATION_WORDS = (
    (
        Relation.AT_LEAST,
        re.compile(
            r"at least|not? (?:less|fewer) than|minimum|or more|(?<!no )(?<!not )more than"
            r"|至少|不少于|不低于|最少|以上"
        ),
    ),
    (
        Relation.AT_MOST,
        re.compile(
            r"at most|no more than|not more than|up to|within|maximum|or (?:less|fewer)|under|fewer than|less than"
            r"|至多|最多|不超过|不多于|以内|之内|以下"
        ),
    ),
    (Relation.ABOUT, re.compile(r"about|around|approximately|roughly|some|circa|nearly|大约|约|大概|左右|上下|近")),
)
_STRICTLY = re.compile(r"\b(?:under|(?<!no )(?<!not )(?:less|fewer|more) than)\b")
"""Not the number itself."""


def lengths(question: str) -> list[LengthClaim]:
    """What a question demands of the length of its answer."""
    found: list[LengthClaim] = []
    for pattern, units in ((_ENGLISH_LENGTH, _ENGLISH_UNITS), (_CHINESE_LENGTH, _CHINESE_UNITS)):
        for match in pattern.finditer(question):
            around = f"{match['before']} {match['after'] or ''}".lower()
            relation = next((kind for kind, words in _RELATION_WORDS if words.search(around)), Relation.EXACTLY)
            number = int(match["number"].replace(",", ""))
            if _STRICTLY.search(around):
                number += 1 if relation is Relation.AT_LEAST else -1
            found.append(LengthClaim(unit=units[match["unit"].lower()], relation=relation, number=number))
    return found


# Programs.

_FENCED = re.compile(
    r"^[ \t]*(?:```|~~~)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*(?:```|~~~)[ \t]*$", re.MULTILINE | re.DOTALL
)
_PYTHON = frozenset({"", "python", "py", "python3"})
MAX_CODE_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Code of a response, and what tests it: tests that come with it, or the examples of the question."""

    code: str
    tests: str | None


def program(question: str, response: str) -> Program | None:
    """The program that a response is or holds; None if it holds none.

    A question that is the head of a function goes before the code, as its imports and helpers belong to both.
    """
    written = _code_of(response)
    head = question if _is_code(question) else ""
    if written is None and head and _is_code(f"{question}\n{response}"):
        # The response goes on where the question stops: a body without its head.
        written, head = f"{question}\n{response}", ""
    if written is None:
        return None
    code, tests = _parted(written)
    return Program(code=f"{head}\n{code}" if head else code, tests=tests or _examples(question))


def _code_of(response: str) -> str | None:
    blocks = [textwrap.dedent(body) for language, body in _FENCED.findall(response) if language.lower() in _PYTHON]
    if blocks:
        return "\n".join(blocks)
    return response if _is_code(response) or _looks_like_code(response) else None


def _looks_like_code(text: str) -> bool:
    """Whether a text that does not compile was meant as a program: nearly every line of it is one of Python's."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not re.search(r"^(?:def \w+\(|class \w+|import \w+$|from [\w.]+ import )", text, re.MULTILINE) or len(lines) < 2:
        return False
    like = re.compile(
        r"\s+\S|def |class |import |from |@|#|assert |return\b|if |for |while |try:|print\(|[\w.\[\]]+ ?[-+*/]?= ?\S"
        r"|\w+\(.*\)$|[\])}]"
    )
    return sum(bool(like.match(line)) for line in lines) >= 0.8 * len(lines)


def _parse(text: str) -> ast.Module | None:
    if len(text) > MAX_CODE_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_code(text: str) -> bool:
    """Whether a text is a program: one that defines, imports or asserts something."""
    tree = _parse(text)
    kinds = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Import,
        ast.ImportFrom,
        ast.Assert,
        ast.For,
        ast.While,
    )
    return tree is not None and any(isinstance(node, kinds) for node in tree.body)


def _parted(code: str) -> tuple[str, str | None]:
    """The code, and the tests that stand at its end; in one piece if the tests use its classes.

    Tests call from another process, where plain data passes and objects do not.
    """
    tree = _parse(code)
    if tree is None:
        return code, None
    first = next((number for number, node in enumerate(tree.body) if _is_test(node)), None)
    if not first:
        return code, None
    classes = {node.name for node in tree.body[:first] if isinstance(node, ast.ClassDef)}
    used = {node.id for part in tree.body[first:] for node in ast.walk(part) if isinstance(node, ast.Name)}
    if classes & used:
        return code, None
    lines = code.splitlines(keepends=True)
    start = (
        min(tree.body[first].lineno, *(d.lineno for d in getattr(tree.body[first], "decorator_list", ())), 10**9) - 1
    )
    return "".join(lines[:start]), "".join(lines[start:])


def _is_test(node: ast.stmt) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.FunctionDef(name=name):
            return name == "check" or name.startswith("test_")
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name == "check" or name.startswith("test_")
    return False


def _examples(question: str) -> str | None:
    """The examples of a docstring (>>> f(1)) as assertions, where what is expected is plain data."""
    tree = _parse(question)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [question] if tree is None else [ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, documented)]
    tests: list[str] = []
    try:
        found = [example for text in texts for example in doctest.DocTestParser().get_examples(text or "")]
    except ValueError:
        return None
    for example in found:
        source, want = example.source.strip(), example.want.strip()
        try:
            ast.parse(source, mode="eval")
            ast.literal_eval(want)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        tests.append(f"assert ({source}) == ({want})")
    return "\n".join(tests) or None
