from hypothesis import given
from hypothesis import strategies as st

from rewards.spans import KEYED, NAMED, VALUED, error_span
from rewards.types import ErrorKind
from rollout.parsers import CallPlace, HermesParser

TEXT = '<tool_call>\n{"name": "book", "arguments": {"city": "Oslo", "stops": [{"via": "Rome"}, 3]}}\n</tool_call>'
(PLACE,) = HermesParser().locate(TEXT)


def part(kind: ErrorKind, argument: str | None = None) -> str | None:
    span = error_span(PLACE, kind, argument)
    return None if span is None else TEXT[slice(*span)]


def test_errors_of_a_tool_point_at_its_name():
    for kind in NAMED:
        assert part(kind) == "book"


def test_errors_of_a_key_point_at_the_key_at_every_depth():
    for kind in KEYED:
        assert part(kind, "/city") == '"city"'
        assert part(kind, "/stops/0/via") == '"via"'


def test_errors_of_a_value_point_at_the_value_at_every_depth():
    for kind in VALUED:
        assert part(kind, "/city") == '"Oslo"'
        assert part(kind, "/stops/0/via") == '"Rome"'
        assert part(kind, "/stops/1") == "3"


def test_a_missing_argument_points_at_the_object_that_lacks_it():
    assert part(ErrorKind.MISSING_ARGUMENT, "/date") == TEXT
    assert part(ErrorKind.MISSING_ARGUMENT, "/stops/0/date") == '{"via": "Rome"}'


def test_a_redundant_element_of_an_array_has_no_key_and_points_at_its_value():
    assert part(ErrorKind.UNKNOWN_ARGUMENT, "/stops/1") == "3"


def test_errors_of_a_call_as_a_whole_point_at_the_call():
    for kind in set(ErrorKind) - NAMED - KEYED - VALUED - {ErrorKind.MISSING_CALL}:
        assert part(kind) == TEXT
    assert part(ErrorKind.BAD_FORMAT, "") == TEXT
    assert part(ErrorKind.BAD_TYPE, None) == TEXT


def test_a_call_that_was_never_made_has_no_place():
    assert part(ErrorKind.MISSING_CALL) is None


@given(st.sampled_from(list(ErrorKind)), st.none() | st.text(alphabet="/citysop01~", max_size=12))
def test_every_error_lies_within_its_call(kind, argument):
    span = error_span(PLACE, kind, argument)
    assert span is None or 0 <= span[0] < span[1] <= len(TEXT)
    assert error_span(CallPlace(span=(3, 9)), kind, argument) == (None if kind == ErrorKind.MISSING_CALL else (3, 9))
