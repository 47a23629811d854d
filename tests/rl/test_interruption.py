import asyncio
import os
import signal

import pytest

from rl.interruption import Interruption


async def test_the_first_signal_lets_the_step_finish():
    interruption = Interruption()
    with interruption.watched(), interruption.at_leisure():
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.01)
    assert interruption.requested


async def test_the_second_signal_cancels():
    interruption = Interruption()

    async def work() -> None:
        with interruption.watched(), interruption.at_leisure():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(10)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(work())


async def test_outside_a_step_the_first_signal_cancels():
    interruption = Interruption()

    async def work() -> None:
        with interruption.watched():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(10)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(work())
