from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass, replace

import pytest

from envs.record import record


@record
class Point:
    """A place."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x: expected at least 0")

    @property
    def sum(self) -> int:
        return self.x + self.y


def test_fields_are_given_by_name_and_have_defaults_of_their_own():
    first, second = Point(x=1), Point(x=1)
    assert (first.x, first.y, first.notes, first.sum) == (1, 0, {}, 1)
    assert first.notes is not second.notes
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        Point(y=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(x=1, z=1)  # type: ignore[call-arg]


def test_a_record_cannot_be_changed_and_has_no_other_attributes():
    point = Point(x=1)
    for name in ("x", "z"):
        with pytest.raises(AttributeError):
            setattr(point, name, 2)
    assert not hasattr(point, "__dict__")


def test_a_record_checks_itself_whenever_it_is_made():
    with pytest.raises(ValueError, match="at least 0"):
        Point(x=-1)
    with pytest.raises(ValueError, match="at least 0"):
        replace(Point(x=1), x=-1)


def test_a_record_is_a_dataclass_to_the_functions_of_the_standard_library():
    point = Point(x=1, notes={"a": "b"})
    assert is_dataclass(point) and [one.name for one in fields(point)] == ["x", "y", "notes"]
    assert replace(point, y=2) == Point(x=1, y=2, notes={"a": "b"})
    assert asdict(point) == {"x": 1, "y": 0, "notes": {"a": "b"}}


def test_records_are_equal_by_their_fields_and_survive_copies_and_processes():
    point = Point(x=1, y=2)
    assert point == Point(x=1, y=2) != Point(x=2, y=2)
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    assert repr(point) == "Point(x=1, y=2, notes={})" and Point.__doc__ == "A place."
