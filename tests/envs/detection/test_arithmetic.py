from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.detection.arithmetic import NotArithmetic, Truth, read, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-2 ^ 2", "-4"),
        ("2 ** -2", "0.25"),
        ("0.1 + 0.2", "0.3"),
        ("1/3 + 1/6", "0.5"),
        ("1/3", "1/3"),
        ("3 x 4", "12"),
        ("3x4", "12"),
        ("2(3)(4)", "24"),
        ("12 ÷ 4 × 5", "15"),
        ("$1,234.50 * 2", "2469"),
        ("20% of 50", "10"),
        ("20% * 50", "10"),
        ("3 hours + 30 minutes", "33"),
        ("- (4 - 6)", "2"),
        ("5 − 7", "-2"),
        ("3 plus 4 times 2", "11"),
        ("3乘以4加5", "17"),
        ("3 元 + 4 元", "7"),
        ("2 million + 3 thousand", "2003000"),
        ("3万 + 2000", "32000"),
        ("150% of 40", "60"),
        ("1/3 of 30", "10"),
        ("8x + 4x", "12x"),
        ("3(5 - x)", "-3x + 15"),
    ],
)
def test_value_of_an_expression_is_exact(text, value):
    assert str(read(text).sides[0].value) == value


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("3 + 0.5 + 1.5 = 5", Truth.EXACT),
        ("3 + 0.5 + 1.5 = 4", Truth.FALSE),
        ("2 * 3 = 6 = 12 / 2", Truth.EXACT),
        ("2 * 3 = 6 = 12 / 3", Truth.FALSE),
        ("10 / 3 = 3.33", Truth.ROUNDED),
        ("10 / 3 = 3.34", Truth.FALSE),
        ("10 / 3 ≈ 3", Truth.ROUNDED),
        ("5 / 2 = 3", Truth.ROUNDED),
        ("5 / 2 = 2", Truth.ROUNDED),
        ("0.1 + 0.2 = 0.3", Truth.EXACT),
        ("3 = 3.0", Truth.EXACT),
        ("3.4 = 3", Truth.FALSE),
        ("2x + 3x = 5x", Truth.EXACT),
        ("2x = 10", Truth.OPEN),
        ("3 < 4 <= 4", Truth.EXACT),
        ("3 + 1 > 4", Truth.FALSE),
        ("2 + 2 != 5", Truth.EXACT),
        ("(8 / 10) * 100 = 80%", Truth.EXACT),
        ("8 / 10 = 80%", Truth.EXACT),
        ("1 / 3 = 33%", Truth.ROUNDED),
        ("1 / 4 = 33%", Truth.FALSE),
        ("580 / 110 = 5.2727272727272725", Truth.ROUNDED),
        ("7 * 6", Truth.NONE),
    ],
)
def test_truth_of_a_chain(text, truth):
    assert read(text).truth is truth


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "1 +",
        "(1",
        "1)",
        "1 2",
        "1 / 0",
        "1 / (2 - 2)",
        "2 ^ 0.5",
        "2 ^ 300",
        "x / y",
        "__import__('os')",
        "1; import os",
        "10 ** 10 ** 10",
        "9" * 61,
        "(" * 41 + "1" + ")" * 41,
        "1+" * 500 + "1",
        "(a+b+c+d+e+f+g+h)^12",
        "1" * 3000,
        "0 ^ -1",
        "2 squared",
        "10 multiples of 7",
        "5 of 10",
        "3 to the power of 2",
    ],
)
def test_what_is_no_arithmetic_or_too_much_of_it_is_refused(text):
    with pytest.raises(NotArithmetic):
        read(text)


def test_linear_equation_is_solved():
    assert read("2x + 1 = 7").solution() == ("x", Fraction(3))
    assert read("x^2 = 4").solution() is None
    assert read("x + y = 4").solution() is None


@given(st.text(alphabet="0123456789.+-*/^()=x $%, ", max_size=40))
def test_reading_never_fails_in_another_way(text):
    with suppress(NotArithmetic):
        str(read(text).truth)


@given(st.integers(-(10**9), 10**9), st.integers(0, 12))
def test_decimals_are_shown_as_they_are_read(numerator, places):
    value = Fraction(numerator, 10**places)
    assert Fraction(shown(value)) == value
    assert read(f"({shown(value)}) * 1").sides[0].value.constant == value
