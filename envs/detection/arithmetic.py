"""Arithmetic in text: expressions and chains of equations, in exact rationals. Never evaluates Python.

    chain    := sum { relation sum }                 relation: = == ≈ < > <= >= ≤ ≥ ≠
    sum      := product { (+|-) product }
    product  := power { (*|/|×|÷|x|of) power | power }       a value beside a value multiplies: 2(3), 5x
    power    := unary [ (^|**) unary ]
    unary    := (+|-) unary | value
    value    := number | letter | ( sum )            with $ before, % or a unit after: $3, 20%, 3 hours, 8 元

A letter is an unknown, so values are polynomials; `x` between two values multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

MAX_CHARACTERS = 2_000
MAX_TOKENS = 400
MAX_DEPTH = 40
MAX_DIGITS = 60
"""Of one number as it is written."""
MAX_EXPONENT = 256
MAX_BITS = 20_000
"""Of numerator or denominator of any value on the way."""
MAX_TERMS = 64
MAX_DECIMALS = 9
"""That count when a number is rounded: further ones are what binary floating point makes of it."""

Monomial = tuple[tuple[str, int], ...]
"""Letters with their exponents, in the order of the alphabet."""


class NotArithmetic(ValueError):
    """Text that is no chain of expressions, or a value beyond the limits."""


class Truth(StrEnum):
    """What became of a chain of equations."""

    EXACT = "exact"
    """Every relation holds exactly."""
    ROUNDED = "rounded"
    """Every relation holds if a number that is written down stands for what rounds to it."""
    FALSE = "false"
    OPEN = "open"
    """It depends on the value of an unknown."""
    NONE = "none"
    """Nothing is claimed: an expression alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """A sum of monomials with rational coefficients, none of them zero."""

    terms: Mapping[Monomial, Fraction]

    @property
    def constant(self) -> Fraction | None:
        """The value if no unknown is in it."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(()) if set(self.terms) == {()} else None

    @property
    def unknowns(self) -> set[str]:
        """Its letters."""
        return {letter for monomial in self.terms for letter, _ in monomial}

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        pieces = [_term(monomial, value) for monomial, value in sorted(self.terms.items(), reverse=True)]
        return " + ".join(pieces).replace("+ -", "- ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of an equation."""

    text: str
    value: Polynomial
    decimals: int | None
    """Decimals of a number that is written down, None of anything else."""
    is_percent: bool
    """Whether it is a percentage that is written down."""
    num_operators: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Sides with the relations between them."""

    sides: tuple[Side, ...]
    relations: tuple[str, ...]

    @property
    def truth(self) -> Truth:
        """Of all relations together: the worst of them, OPEN being better than FALSE and worse than all else."""
        if not self.relations:
            return Truth.NONE
        found = [
            _truth(left, relation, right)
            for left, relation, right in zip(self.sides, self.relations, self.sides[1:], strict=False)
        ]
        order = (Truth.FALSE, Truth.OPEN, Truth.ROUNDED, Truth.EXACT)
        return next(truth for truth in order if truth in found)

    @property
    def num_operators(self) -> int:
        """Of all sides."""
        return sum(side.num_operators for side in self.sides)

    def solution(self) -> tuple[str, Fraction] | None:
        """The unknown and its value, if the chain is one linear equation of one unknown that has one."""
        if self.relations not in (("=",), ("≈",)):
            return None
        difference = _sum(self.sides[0].value, _scaled(self.sides[1].value, Fraction(-1)))
        unknowns = difference.unknowns
        if len(unknowns) != 1 or any(monomial and monomial[0][1] > 1 for monomial in difference.terms):
            return None
        (letter,) = unknowns
        return letter, -difference.terms.get((), Fraction(0)) / difference.terms[((letter, 1),)]


def read(text: str) -> Chain:
    """Read a chain of expressions.

    Raises:
        NotArithmetic: it is something else, or beyond the limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise NotArithmetic(f"{len(text)} characters: at most {MAX_CHARACTERS} are read")
    reader = _Reader(text, tokens(text))
    chain = reader.chain()
    if reader.position < len(reader.tokens):
        raise NotArithmetic(f"unexpected {reader.tokens[reader.position].text!r}")
    return chain


def shown(value: Fraction) -> str:
    """A number as people write it: whole, as a decimal that ends, or as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 12:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"


# Tokens.

_OPERATORS = {
    "+": "+",
    "＋": "+",
    "-": "-",
    "−": "-",
    "–": "-",
    "－": "-",
    "*": "*",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∗": "*",
    "＊": "*",
    "/": "/",
    "÷": "/",
    "／": "/",
    "**": "^",
    "^": "^",
    "(": "(",
    "（": "(",
    "[": "(",
    ")": ")",
    "）": ")",
    "]": ")",
    "=": "=",
    "==": "=",
    "＝": "=",
    "≈": "≈",
    "≃": "≈",
    "≅": "≈",
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "!=": "!=",
    "%": "%",
    "％": "%",
    "percent": "%",
    "plus": "+",
    "minus": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "of": "*",
    "equals": "=",
    "is equal to": "=",
    "加上": "+",
    "加": "+",
    "减去": "-",
    "减": "-",
    "乘以": "*",
    "乘": "*",
    "除以": "/",
    "等于": "=",
    "约等于": "≈",
}
_SIGNS = sorted((text for text in _OPERATORS if not text.replace(" ", "").isalpha()), key=len, reverse=True)
_ENGLISH = sorted((text for text in _OPERATORS if text.isascii() and text not in _SIGNS), key=len, reverse=True)
_CHINESE = sorted((text for text in _OPERATORS if not text.isascii() and text not in _SIGNS), key=len, reverse=True)
_RELATIONS = frozenset({"=", "≈", "<", ">", "<=", ">=", "!="})
_SCALES = {
    "hundred": 100,
    "dozen": 12,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "百": 10**2,
    "千": 10**3,
    "万": 10**4,
    "亿": 10**8,
}
_NO_UNITS = frozenset(
    re.findall(
        r"\w+",
        """a all an and any are as at but by choose cubed doubled each every factorial for from half if in is multiples
        more nor not on or over power root so squared than that the then there third to total twice until when where
        which with without""",
    )
)
"""Words that may follow a number and say more of it than what it counts."""
MAX_UNIT_WORDS = 4
_CURRENCIES = "$€£¥￥"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+[ ]+\d+/\d+(?![\d.])|\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    rf"|(?P<operator>{'|'.join(map(re.escape, _SIGNS))}|(?:{'|'.join(_ENGLISH)})(?![A-Za-z])|{'|'.join(_CHINESE)})"
    rf"|(?P<currency>(?:US|USD|RMB)?[{_CURRENCIES}])"
    rf"|(?P<word>[A-Za-z]+|[万亿]|千(?![克米瓦卡帕赫伏焦字])|百(?!分)|(?:(?!{'|'.join(_CHINESE)})[\u4e00-\u9fff])+|°[CF]?))"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A number, operator, currency sign, letter or unit with its place."""

    kind: str
    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """The tokens of a text.

    Raises:
        NotArithmetic: a character that belongs to none, or too many tokens.
    """
    found: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotArithmetic(f"unexpected {text[position:].strip()[:10]!r}")
        kind = match.lastgroup or ""
        piece = match[kind]
        found.append(Token(kind, _OPERATORS.get(piece, piece), match.start(kind), match.end()))
        position = match.end()
        if len(found) > MAX_TOKENS:
            raise NotArithmetic(f"more than {MAX_TOKENS} numbers and signs")
    return found


class _Reader:
    def __init__(self, text: str, found: list[Token]) -> None:
        self.text = text
        self.tokens = found
        self.position = 0
        self._depth = 0
        self._num_operators = 0

    def chain(self) -> Chain:
        sides, relations = [self._side()], []
        while (relation := self._take(*_RELATIONS)) is not None:
            relations.append(relation)
            sides.append(self._side())
        return Chain(sides=tuple(sides), relations=tuple(relations))

    def _side(self) -> Side:
        start, self._num_operators = self.position, 0
        value = self._sum()
        pieces = self.tokens[start : self.position]
        numbers = [piece for piece in pieces if piece.kind == "number"]
        others = [piece for piece in pieces if piece.kind == "operator" and piece.text not in "-%"]
        is_percent = any(piece.text == "%" for piece in pieces)
        is_scaled = any(piece.text.lower() in _SCALES for piece in pieces)
        is_written = (
            len(numbers) == 1
            and "/" not in numbers[0].text
            and not others
            and not is_scaled
            and value.constant is not None
        )
        decimals = len(numbers[0].text.partition(".")[2]) + 2 * is_percent if is_written else None
        return Side(
            text=self.text[pieces[0].start : pieces[-1].end],
            value=value,
            decimals=decimals,
            is_percent=is_written and is_percent,
            num_operators=self._num_operators,
        )

    def _peek(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _take(self, *signs: str) -> str | None:
        token = self._peek()
        if token is None or token.kind != "operator" or token.text not in signs:
            return None
        self.position += 1
        return token.text

    def _sum(self) -> Polynomial:
        value = self._product()
        while (sign := self._take("+", "-")) is not None:
            self._num_operators += 1
            other = self._product()
            value = _sum(value, other if sign == "+" else _scaled(other, Fraction(-1)))
        return value

    def _product(self) -> Polynomial:
        value = self._power()
        while True:
            sign = self._sign_of_product(value)
            if sign is None:
                return value
            self._num_operators += 1
            other = self._power()
            if sign == "*":
                value = _product(value, other)
                continue
            divisor = other.constant
            if divisor is None:
                raise NotArithmetic("division by an unknown")
            if divisor == 0:
                raise NotArithmetic("division by zero")
            value = _scaled(value, 1 / divisor)

    def _sign_of_product(self, value: Polynomial) -> str | None:
        token = self._peek()
        sign = self._take("*", "/")
        if sign is not None:
            assert token is not None, "it was taken"
            if self.text[token.start : token.end] == "of" and not self._is_share(value):
                raise NotArithmetic("unexpected 'of'")
            return sign
        if token is None:
            return None
        if token.kind == "word" and token.text in ("x", "X") and self._starts_value(self.position + 1):
            self.position += 1
            return "*"
        is_beside = (token.kind == "operator" and token.text == "(") or _is_letter(token)
        return "*" if is_beside else None

    def _is_share(self, value: Polynomial) -> bool:
        """Whether a value is one of which one says `of`: a percentage or a fraction."""
        before = self.tokens[self.position - 2]
        constant = value.constant
        return before.text == "%" or (constant is not None and 0 < constant < 1)

    def _starts_value(self, position: int) -> bool:
        if position >= len(self.tokens):
            return False
        token = self.tokens[position]
        return token.kind in ("number", "currency") or (token.kind == "operator" and token.text == "(")

    def _power(self) -> Polynomial:
        negative = False
        while (sign := self._take("+", "-")) is not None:
            negative ^= sign == "-"
        value = self._value()
        if self._take("^") is not None:
            self._num_operators += 1
            value = _power(value, self._exponent())
        return _scaled(value, Fraction(-1)) if negative else value

    def _exponent(self) -> Polynomial:
        negative = self._take("-") is not None
        value = self._value()
        return _scaled(value, Fraction(-1)) if negative else value

    def _value(self) -> Polynomial:
        token = self._peek()
        if token is None:
            raise NotArithmetic("an expression that does not end")
        self.position += 1
        if token.kind == "currency":
            return self._value()
        if token.kind == "number":
            return self._after(_constant(_number(token.text)))
        if _is_letter(token):
            return Polynomial(terms={((token.text, 1),): Fraction(1)})
        if token.kind == "operator" and token.text == "(":
            return self._after(self._inner())
        raise NotArithmetic(f"unexpected {token.text!r}")

    def _inner(self) -> Polynomial:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotArithmetic(f"more than {MAX_DEPTH} brackets within each other")
        value = self._sum()
        self._depth -= 1
        if self._take(")") is None:
            raise NotArithmetic("a bracket that is not closed")
        return value

    def _after(self, value: Polynomial) -> Polynomial:
        """A percent sign, and units, which say nothing about the number."""
        if self._take("%") is not None:
            value = _scaled(value, Fraction(1, 100))
        num_words = 0
        while (token := self._peek()) is not None and token.kind == "word" and not _is_letter(token):
            word = token.text.lower()
            if word in _NO_UNITS or num_words == MAX_UNIT_WORDS:
                raise NotArithmetic(f"unexpected {token.text!r}")
            if word in _SCALES:
                value = _scaled(value, Fraction(_SCALES[word]))
            num_words += 1
            self.position += 1
        return value


def _is_letter(token: Token) -> bool:
    return token.kind == "word" and len(token.text) == 1 and token.text.isascii() and token.text.isalpha()


def _number(text: str) -> Fraction:
    digits = text.replace(",", "")
    if len(digits) > MAX_DIGITS:
        raise NotArithmetic(f"a number of more than {MAX_DIGITS} digits")
    whole, _, part = digits.rpartition(" ")
    if "/" in part and int(part.partition("/")[2]) == 0:
        raise NotArithmetic("division by zero")
    return Fraction(part) + (int(whole) if whole.strip() else 0)


# Polynomials.


def _constant(value: Fraction) -> Polynomial:
    return Polynomial(terms={(): value} if value else {})


def _made(terms: Mapping[Monomial, Fraction]) -> Polynomial:
    kept = {monomial: value for monomial, value in terms.items() if value}
    if len(kept) > MAX_TERMS:
        raise NotArithmetic(f"more than {MAX_TERMS} terms")
    for value in kept.values():
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise NotArithmetic(f"a value of more than {MAX_BITS} bits")
    return Polynomial(terms=kept)


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    terms = dict(left.terms)
    for monomial, value in right.terms.items():
        terms[monomial] = terms.get(monomial, Fraction(0)) + value
    return _made(terms)


def _scaled(value: Polynomial, by: Fraction) -> Polynomial:
    return _made({monomial: inner * by for monomial, inner in value.terms.items()})


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    terms: dict[Monomial, Fraction] = {}
    for first, value in left.terms.items():
        for second, other in right.terms.items():
            exponents = dict(first)
            for letter, exponent in second:
                exponents[letter] = exponents.get(letter, 0) + exponent
            monomial = tuple(sorted(exponents.items()))
            terms[monomial] = terms.get(monomial, Fraction(0)) + value * other
    return _made(terms)


def _power(base: Polynomial, exponent: Polynomial) -> Polynomial:
    power = exponent.constant
    if power is None or power.denominator != 1 or abs(power) > MAX_EXPONENT:
        raise NotArithmetic(f"an exponent that is no whole number up to {MAX_EXPONENT}")
    value = base.constant
    if power < 0 and not value:
        raise NotArithmetic("a negative power of zero or of an unknown")
    if value is not None:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) * abs(power) > MAX_BITS:
            raise NotArithmetic(f"a value of more than {MAX_BITS} bits")
        return _constant(value ** int(power))
    result = _constant(Fraction(1))
    for _ in range(int(power)):
        result = _product(result, base)
    return result


def _term(monomial: Monomial, value: Fraction) -> str:
    letters = "".join(letter if exponent == 1 else f"{letter}^{exponent}" for letter, exponent in monomial)
    if not letters:
        return shown(value)
    return letters if value == 1 else f"-{letters}" if value == -1 else f"{shown(value)}{letters}"


# Truth.


def _truth(left: Side, relation: str, right: Side) -> Truth:
    difference = _sum(left.value, _scaled(right.value, Fraction(-1))).constant
    if difference is None:
        return Truth.OPEN
    if relation in ("=", "≈") and left.is_percent is not right.is_percent:
        # (8 / 10) * 100 = 80% is what people write, and so is 8 / 10 = 80%.
        percentage, other = (left, right) if left.is_percent else (right, left)
        in_hundredths = replace(percentage, value=_scaled(percentage.value, Fraction(100)), is_percent=False)
        truth = _truth(other, relation, replace(in_hundredths, decimals=max(0, (percentage.decimals or 0) - 2)))
        if truth is not Truth.FALSE:
            return truth
    holds = {
        "=": difference == 0,
        "≈": difference == 0,
        "!=": difference != 0,
        "<": difference < 0,
        ">": difference > 0,
        "<=": difference <= 0,
        ">=": difference >= 0,
    }[relation]
    if holds:
        return Truth.EXACT
    rounds = relation in ("=", "≈") and any(
        _rounds(difference, side.decimals) for side in _written(left, right, relation)
    )
    return Truth.ROUNDED if rounds else Truth.FALSE


def _written(left: Side, right: Side, relation: str) -> Sequence[Side]:
    """Numbers that stand for what rounds to them: not for another number that is written, unless by ≈ (3.142 ≈ 3.1)."""
    written = [side for side in (left, right) if side.decimals is not None]
    if len(written) < 2:
        return written
    coarse, fine = sorted(written, key=lambda side: side.decimals or 0)
    return [coarse] if relation == "≈" and coarse.decimals != fine.decimals else ()


def _rounds(difference: Fraction, decimals: int | None) -> bool:
    """Whether a number with so many decimals, off by `difference`, is the nearest one (either one at the middle)."""
    return decimals is not None and abs(difference) * 2 <= Fraction(1, 10 ** min(decimals, MAX_DECIMALS))
