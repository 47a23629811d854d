from __future__ import annotations

import itertools
import random

import pytest

from envs.types import ToolCall, ToolSpec
from rewards.matching import (
    Difference,
    ExactMatching,
    differences,
    identical,
    may_be_omitted,
    pair,
    same_value,
    similarity,
)

EQUAL = [
    (3, 3.0),
    ("3", 3),
    (" 1e3 ", 1000),
    ("Oslo", " oslo\n"),
    ("\uff21\uff22", "ab"),
    ("stra\u00dfe", "STRASSE"),
    ([1, "A"], [1.0, "a"]),
    ({"a": {"b": " X"}}, {"a": {"b": "x"}}),
    (None, None),
    ("b", {"any_of": ["a", "B"]}),
    ([2], {"any_of": [[1], [2]]}),
    ({"a": 1}, {"a": {"any_of": [1, 2]}}),
    ({}, {"a": {"any_of": ["x", ""]}}),
    (0.1 + 0.2, 0.3),
    (1e23, 10**23),
    ("1e23", 10**23),
    (1234567890.0, "1234567890"),
]
DIFFERENT = [
    (3, 4),
    (True, 1),
    (False, 0),
    ("true", True),
    (None, ""),
    (None, 0),
    ("12", "012"),
    ([1, 2], [2, 1]),
    ([1], [1, 1]),
    ({"a": 1}, {}),
    ({}, {"a": 1}),
    ("c", {"any_of": ["a", "b"]}),
    ("nan", float("nan")),
    (10**400, 1.0),
    (1234567890, "1234567891"),
    (1234567890.0, 1234567891),
    (2**60 + 1, str(2**60)),
    ("9" * 5000, 1),
]


@pytest.mark.parametrize(("made", "reference"), EQUAL)
def test_equal_values(made, reference):
    assert same_value(made, reference)


@pytest.mark.parametrize(("made", "reference"), DIFFERENT)
def test_different_values(made, reference):
    assert not same_value(made, reference)


def test_identical_is_by_type_and_letter():
    assert identical({"a": 1, "b": [1]}, {"b": [1.0], "a": 1})
    assert not identical({"a": True}, {"a": 1})
    assert not identical({"a": "x"}, {"a": "X"})
    assert not identical({"a": "1"}, {"a": 1})


def test_empty_alternative_means_may_be_left_out():
    assert may_be_omitted({"any_of": ["a", ""]})
    assert not may_be_omitted({"any_of": ["a"]})
    assert not may_be_omitted("")


def tool(**properties):
    required = [name for name in properties if not name.startswith("o")]
    return ToolSpec(name="f", parameters={"type": "object", "properties": properties, "required": required})


def call(name="f", /, **arguments):
    return ToolCall(name=name, arguments=arguments)


STOP = {
    "type": "object",
    "properties": {"via": {"type": "string"}, "nights": {"type": "integer", "default": 1}, "note": {"type": "string"}},
    "required": ["via"],
}
TRIP = ToolSpec(
    name="f",
    parameters={
        "type": "object",
        "properties": {
            "stops": {"type": "array", "items": STOP},
            "hotel": {"type": "object", "properties": {"a/b": {"type": "integer"}}},
            "free": {"type": "object"},
        },
        "required": ["stops"],
    },
)


@pytest.mark.parametrize(
    ("made", "wanted", "expected"),
    [
        ({"stops": [{"via": "Rome"}]}, {"stops": [{"via": "rome", "nights": 1}]}, []),
        ({"stops": [{"via": "Rome", "nights": 1}]}, {"stops": [{"via": "rome"}]}, []),
        ({"stops": [{"via": "Bonn"}]}, {"stops": [{"via": "Rome"}]}, [("value", "/stops/0/via")]),
        (
            {"stops": [{"via": "Rome"}, {"nights": 2, "x": 1, "note": "n"}]},
            {"stops": [{"via": "Rome"}, {"via": "Bonn", "nights": 3}]},
            [
                ("missing", "/stops/1/via"),
                ("value", "/stops/1/nights"),
                ("unknown", "/stops/1/x"),
                ("redundant", "/stops/1/note"),
            ],
        ),
        ({"stops": []}, {"stops": [{"via": "Rome"}]}, [("value", "/stops")]),
        ({"stops": "Rome"}, {"stops": [{"via": "Rome"}]}, [("value", "/stops")]),
        ({"stops": [], "hotel": {"a/b": 1}}, {"stops": [], "hotel": {"a/b": 2}}, [("value", "/hotel/a~1b")]),
        ({"stops": [], "free": {"x": {"y": 1}}}, {"stops": [], "free": {"x": {}}}, [("redundant", "/free/x/y")]),
        (
            {"stops": [{"via": "Bonn", "nights": 2}]},
            {"stops": {"any_of": [[{"via": "Rome", "nights": 3}], [{"via": "Bonn", "nights": 4}], "none"]}},
            [("value", "/stops/0/nights")],
        ),
        ({"stops": [{"via": "Rome"}]}, {"stops": {"any_of": ["a", 1]}}, [("value", "/stops")]),
        ({"stops": [{"via": "x"}]}, {"stops": [{"via": {"any_of": ["y", "z"]}}]}, [("value", "/stops/0/via")]),
    ],
)
def test_differences_point_at_the_innermost_place_that_differs(made, wanted, expected):
    found = differences(call(**made), call(**wanted), TRIP)
    assert [(difference.kind, difference.pointer) for difference in found] == expected


def test_differences_name_every_argument():
    spec = tool(a={}, b={}, o1={}, o2={"default": 5})
    found = differences(call(a=1, o1=2, o2=5, z=0), call(a=2, b=1), spec)
    assert set(found) == {
        Difference(kind="value", argument="a"),
        Difference(kind="missing", argument="b"),
        Difference(kind="redundant", argument="o1"),
        Difference(kind="unknown", argument="z"),
    }


def test_required_argument_that_the_reference_does_not_name_is_not_redundant():
    assert differences(call(a=1), call(), tool(a={})) == []


def test_pairing_has_the_largest_weight():
    rng = random.Random(0)
    for _ in range(200):
        made = [call(rng.choice("fg"), a=rng.randrange(3), b=rng.randrange(3)) for _ in range(rng.randint(1, 4))]
        wanted = [call(rng.choice("fg"), a=rng.randrange(3), b=rng.randrange(3)) for _ in range(rng.randint(1, 4))]
        found = pair(made, wanted)
        used = [column for column in found if column is not None]
        assert len(used) == len(set(used)) == min(len(made), len(wanted))
        weight = sum(similarity(made[row], wanted[column]) for row, column in enumerate(found) if column is not None)
        short, long = sorted((made, wanted), key=len)
        best = max(
            sum(
                similarity(left, right) if short is made else similarity(right, left)
                for left, right in zip(short, chosen, strict=True)
            )
            for chosen in itertools.permutations(long, len(short))
        )
        assert weight == pytest.approx(best)


def test_exact_matching_is_maximum_and_keeps_what_was_matched():
    rng = random.Random(1)
    for _ in range(300):
        size = rng.randint(1, 4)
        choices = [sorted(rng.sample(range(size), rng.randint(0, size))) for _ in range(rng.randint(1, 5))]
        matching = ExactMatching()
        accepted = [number for number, options in enumerate(choices) if matching.add(number, options)]
        assert sorted(matching.call_of.values()) == accepted
        assert all(reference in choices[number] for reference, number in matching.call_of.items())
        best = 0
        for picks in itertools.product(*[[*options, None] for options in choices]):
            used = [pick for pick in picks if pick is not None]
            best = max(best, len(used) if len(used) == len(set(used)) else 0)
        assert len(accepted) == best
