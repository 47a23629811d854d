import asyncio

import pytest

from rl.buffer import Buffer


class Maker:
    """Makes a group when its gate is opened, and remembers what was started."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}

    async def __call__(self, index: int) -> int:
        self.started.append(index)
        await self.gates.setdefault(index, asyncio.Event()).wait()
        return index

    def open(self, *indices: int) -> None:
        for index in indices:
            self.gates.setdefault(index, asyncio.Event()).set()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_groups_come_in_order_whoever_finishes_first():
    make = Maker()
    buffer = Buffer(make, num_slots=3)
    taking = asyncio.ensure_future(buffer.take(2))
    await settle()
    make.open(2, 1)
    await settle()
    assert not taking.done()
    make.open(0)
    assert await taking == [0, 1]
    await buffer.close()


async def test_without_staleness_nothing_starts_before_the_release():
    make = Maker()
    make.open(*range(10))
    buffer = Buffer(make, num_slots=2)
    assert await buffer.take(2) == [0, 1]
    await settle()
    assert make.started == [0, 1]
    buffer.release(2)
    assert await buffer.take(2) == [2, 3]
    await buffer.close()


async def test_after_the_last_release_nothing_is_made_in_vain():
    make = Maker()
    make.open(*range(10))
    buffer = Buffer(make, num_slots=2)
    await buffer.take(2)
    buffer.release(2)
    await settle()
    assert make.started == [0, 1]
    await buffer.close()


async def test_one_update_of_staleness_lets_one_step_run_ahead():
    make = Maker()
    make.open(*range(10))
    buffer = Buffer(make, num_slots=4)
    await buffer.take(2)
    await settle()
    assert make.started == [0, 1, 2, 3]
    await buffer.close()


async def test_position_counts_what_was_released():
    make = Maker()
    make.open(*range(20))
    buffer = Buffer(make, num_slots=4, start=10)
    assert await buffer.take(2) == [10, 11]
    assert buffer.position == 10
    buffer.release(2)
    assert buffer.position == 12
    await buffer.close()


async def test_an_error_of_the_maker_reaches_the_taker():
    async def fail(index: int) -> int:
        raise RuntimeError(f"group {index}")

    buffer = Buffer(fail, num_slots=1)
    with pytest.raises(RuntimeError, match="group 0"):
        await buffer.take(1)
    await buffer.close()


async def test_close_abandons_what_is_being_made():
    make = Maker()
    buffer = Buffer(make, num_slots=2)
    taking = asyncio.ensure_future(buffer.take(1))
    await settle()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await buffer.close()
    assert len(asyncio.all_tasks()) == 1


async def test_more_groups_than_slots_are_refused():
    buffer = Buffer(Maker(), num_slots=1)
    with pytest.raises(ValueError, match="2 groups asked for"):
        await buffer.take(2)
    await buffer.close()


async def test_only_taken_slots_can_be_released():
    buffer = Buffer(Maker(), num_slots=1)
    with pytest.raises(ValueError, match="1 slots released, 0 taken"):
        buffer.release(1)
