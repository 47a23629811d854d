import pytest

from envs.benchmarks.labels import open_to_labels
from envs.schema import check, check_schema

LABEL = r"\$var\d+\$"
PARAMETERS = open_to_labels(
    {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "free"},
            "count": {"type": "integer", "description": "how many", "default": 1},
            "size": {"type": "string", "enum": ["s", "l"]},
            "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}},
            "anything": {"description": "no type"},
        },
        "required": ["text"],
    },
    LABEL,
)


def kinds(**arguments) -> list[str]:
    return [str(problem.kind) for problem in check({"text": "t", **arguments}, PARAMETERS)]


def test_the_opened_schema_is_a_schema_and_keeps_what_is_said_of_a_parameter():
    check_schema(PARAMETERS)
    assert PARAMETERS["properties"]["count"]["description"] == "how many"
    assert PARAMETERS["properties"]["count"]["default"] == 1
    assert PARAMETERS["properties"]["text"] == {"type": "string", "description": "free"}
    assert PARAMETERS["required"] == ["text"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"count": 3}, []),
        ({"count": "$var1$"}, []),
        ({"count": "2 * $var1$"}, []),
        ({"count": "three"}, ["bad_type"]),
        ({"count": 1.5}, ["bad_type"]),
        ({"size": "s"}, []),
        ({"size": "$var2$"}, []),
        ({"size": "m"}, ["bad_enum"]),
        ({"items": [{"price": 1}, {"price": "$var1$"}]}, []),
        ({"items": "$var1$"}, []),
        ({"items": [{"price": "cheap"}]}, ["bad_type"]),
        ({"anything": [1]}, []),
        ({"other": "$var1$"}, ["unknown_argument"]),
    ],
)
def test_a_label_fits_everywhere_and_other_errors_keep_their_kind(arguments, expected):
    assert kinds(**arguments) == expected
