import pytest

from envs.types import Message, Task, ToolSpec
from rewards.task_class import class_of, words

TRACK = ToolSpec(
    name="track_parcel",
    description="Status of a parcel.",
    parameters={
        "type": "object",
        "properties": {"carrier": {"type": "string", "examples": ["posten"]}},
        "required": ["carrier"],
    },
)
LIST = ToolSpec(name="list_parcels", description="Every parcel on the way and its status.")
FINISH = ToolSpec(name="Finish", description="End the task of parcels and their status.")


def task(request, *tools):
    return Task(task_id="t", prompt=(Message(role="user", content=request),), tools=tools)


@pytest.mark.parametrize(
    ("request_", "tools", "expected"),
    [
        ("Will it rain in Oslo?", (TRACK, LIST), "unmatched_tools"),
        ("What is the status of my parcel?", (TRACK,), "missing_argument"),
        ("What is the status of my parcel 4711?", (TRACK,), "solvable"),
        ("What is the status of my parcel 'Dune'?", (TRACK,), "solvable"),
        ("What is the status of the Posten parcel?", (TRACK,), "solvable"),
        ("What is the status of my friend's parcel?", (TRACK,), "missing_argument"),
        ("What is the status of every parcel on the way?", (TRACK, LIST), "solvable"),
        ("What is the status of my parcel?", (), "unmatched_tools"),
        ("What is the status of my parcel?", (FINISH,), "unmatched_tools"),
    ],
)
def test_words_decide_the_class(request_, tools, expected):
    assert class_of(task(request_, *tools), ignored={"Finish"}) == expected


def test_endings_and_common_words_do_not_count():
    assert words("Please give me the parcels and parcel_tracking") == words("a tracks parcel")
