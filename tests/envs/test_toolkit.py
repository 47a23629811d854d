import asyncio
import datetime
import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from envs.checks import check_env
from envs.env import ToolEnv
from envs.schema import signature
from envs.toolkit import Toolkit, tool_spec
from envs.types import Message, Task, ToolCall, ToolError


def book(
    city: str,
    nights: Annotated[int, Field(ge=1)],
    rating: Literal["basic", "luxury"] = "basic",
    arrival: datetime.date | None = None,
    title: str = "",
) -> dict:
    """Book a hotel.

    Long text that is not part of the summary.

    Args:
        city: where the hotel is,
            in words.
        nights (int): how long.
        rating: how good.

    Returns:
        What was booked: always.
    """
    if city == "Atlantis":
        raise ToolError("no such city")
    if city == "Bug":
        raise KeyError("bug")
    return {"city": city, "nights": nights, "arrival": arrival}


async def sleep(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "slept"


async def own_timeout() -> str:
    """Fail in a way that must not look like our limit."""
    raise TimeoutError("the tool's own")


async def run(toolkit, name, **arguments):
    return await toolkit.run(ToolCall(call_id="c", name=name, arguments=arguments))


def test_schema_comes_from_hints_and_docstring():
    spec = tool_spec(book)
    assert spec.name == "book" and spec.description == "Book a hotel."
    assert spec.required == ("city", "nights")
    assert spec.properties["city"] == {"type": "string", "description": "where the hotel is, in words."}
    assert spec.properties["nights"] == {"type": "integer", "minimum": 1, "description": "how long."}
    assert spec.properties["rating"]["enum"] == ["basic", "luxury"]
    assert spec.properties["title"] == {"type": "string", "default": ""}
    assert signature(spec).startswith("book(city: string, nights: integer, rating?: basic|luxury, ")


@pytest.mark.parametrize(
    ("arguments", "status", "content"),
    [
        ({"city": "Rome", "nights": 2}, "ok", {"city": "Rome", "nights": 2, "arrival": None}),
        (
            {"city": "Rome", "nights": 2, "arrival": "2026-01-02"},
            "ok",
            {"city": "Rome", "nights": 2, "arrival": "2026-01-02"},
        ),
        ({"city": "Atlantis", "nights": 2}, "failed", {"error": "no such city"}),
        ({"city": "Rome", "nights": 0}, "invalid_arguments", None),
    ],
)
async def test_a_call_has_a_status_and_json_content(arguments, status, content):
    result = await run(Toolkit(book), "book", **arguments)
    assert (result.call_id, result.status) == ("c", status)
    assert content is None or json.loads(result.content) == content


async def test_a_call_over_the_limit_times_out_and_text_is_passed_as_it_is():
    toolkit = Toolkit(sleep, timeout=0.05)
    assert (await run(toolkit, "sleep", seconds=60)).status == "timed_out"
    assert (await run(toolkit, "sleep", seconds=0)).content == "slept"


async def test_bugs_propagate():
    with pytest.raises(KeyError, match="bug"):
        await run(Toolkit(book), "book", city="Bug", nights=1)
    with pytest.raises(TimeoutError, match="own"):
        await run(Toolkit(own_timeout), "own_timeout")


def no_docstring(city: str) -> str:
    return city


def no_hint(city) -> str:
    """Lacks a hint."""
    return city


def variadic(*cities: str) -> str:
    """Cannot be called by name."""
    return str(cities)


@pytest.mark.parametrize(
    ("functions", "message"),
    [((no_docstring,), "docstring"), ((no_hint,), "type hint"), ((variadic,), "nameable"), ((book, book), "two")],
)
def test_functions_that_cannot_be_tools_are_refused(functions, message):
    with pytest.raises(ValueError, match=message):
        Toolkit(*functions)


class HotelEnv(ToolEnv):
    def __init__(self, task):
        super().__init__(task, Toolkit(book))


def test_an_environment_of_a_toolkit_passes_the_check():
    task = Task(
        task_id="hotel",
        prompt=(Message(role="user", content="Two nights in Rome"),),
        tools=Toolkit(book).specs,
        reference=(ToolCall(name="book", arguments={"city": "Rome", "nights": 2}),),
        answer="booked",
    )
    assert check_env(HotelEnv, [task]) == []


class Counter:
    def __init__(self):
        self.num = 0

    async def add(self, num: int) -> int:
        """Add."""
        self.num += num
        return self.num


async def test_the_same_tools_are_done_by_the_methods_of_another_object():
    first, second = Counter(), Counter()
    toolkit = Toolkit(first.add)
    other = toolkit.of(second.add)
    assert other.specs is toolkit.specs
    assert [(await run(one, "add", num=num)).content for one, num in ((toolkit, 1), (other, 5), (toolkit, 1))] == [
        "1",
        "5",
        "2",
    ]
    with pytest.raises(ValueError, match="expected functions called add, got sleep"):
        toolkit.of(sleep)
