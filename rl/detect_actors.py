"""Detection by the rules on Ray actors, and how many sentences a second they check.

records -> chunks -> whichever actor is free -> lines, in the order of the records
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from envs.detection.tasks import DetectionTasks
from envs.types import Json
from rl.detecting import Detector, Record, Settings

CHUNK = 32
"""Records that an actor is handed at once."""
KINDS = {"arithmetic": 0.25, "dates": 0.25, "lengths": 0.25, "mixed": 0.25}
"""Of the responses that speed is measured on. Programs run in processes of their own, beside the actors' cores."""


class DetectorActor:
    """Checks responses one after the other."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the tools."""
        self._detector = Detector(settings)

    def detect(self, records: Sequence[Record]) -> list[dict[str, Json]]:
        """The lines of responses, in order."""
        return asyncio.run(_in_turn(self._detector, records))


async def _in_turn(detector: Detector, records: Sequence[Record]) -> list[dict[str, Json]]:
    """No method of the actor: one that is async would make Ray run all of them in an event loop."""
    return [await detector.detect(record) for record in records]


class DetectorPool:
    """Actors that check responses, each on a core of its own."""

    def __init__(self, num_actors: int, settings: Settings) -> None:
        """Start the actors, and wait for them.

        Args:
            num_actors: how many.
            settings: with which tools they check.
        """
        actor = ray.remote(DetectorActor).options(num_cpus=1)
        self._actors: list[Any] = [actor.remote(settings) for _ in range(num_actors)]

    def detect(self, records: Sequence[Record]) -> list[dict[str, Json]]:
        """The lines of responses, in order; a chunk goes to the actor that is free first."""
        chunks = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
        waiting = list(enumerate(chunks))[::-1]
        found: dict[int, list[dict[str, Json]]] = {}
        under_way: dict[Any, tuple[int, Any]] = {}
        free = list(self._actors)
        while waiting or under_way:
            while waiting and free:
                actor = free.pop()
                number, chunk = waiting.pop()
                under_way[actor.detect.remote(chunk)] = number, actor
            (done, *_), _ = ray.wait(list(under_way))
            number, actor = under_way.pop(done)
            found[number] = ray.get(done)
            free.append(actor)
        return [line for number in range(len(chunks)) for line in found[number]]

    def warm_up(self, records: Sequence[Record]) -> None:
        """Let every actor check the same responses once."""
        ray.get([actor.detect.remote(records) for actor in self._actors])

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How many sentences a second were checked."""

    num_responses: int
    num_sentences: int
    seconds: dict[int, tuple[float, ...]]
    """Of each round, by the number of actors."""

    def per_second(self, num_actors: int) -> float:
        """Sentences a second, over all rounds."""
        rounds = self.seconds[num_actors]
        return len(rounds) * self.num_sentences / sum(rounds)

    def to_json(self) -> dict[str, Json]:
        """The fields, the rates, and what the most actors reach over what the fewest do."""
        rates = {num: self.per_second(num) for num in self.seconds}
        return {
            "responses": self.num_responses,
            "sentences": self.num_sentences,
            "seconds": {str(num): list(rounds) for num, rounds in self.seconds.items()},
            "sentences_per_second": {str(num): rate for num, rate in rates.items()},
            "ratio": rates[max(rates)] / rates[min(rates)],
        }


def responses(num: int, seed: int) -> list[Record]:
    """Responses made from a seed, English and Chinese."""
    tasks = DetectionTasks(split="heldout", kinds=KINDS, seed=seed, num=num)
    items = [tasks.item(index) for index in range(num)]
    return [Record(record_id=item.item_id, question=item.question, response=item.response) for item in items]


def measure_throughput(
    records: Sequence[Record],
    num_actors: Sequence[int],
    note: Callable[[], None],
    *,
    num_rounds: int = 3,
) -> Throughput:
    """Check the same responses with different numbers of actors, which take turns in each round.

    So whatever else the machine does falls on all of them. The start of the actors is not counted.

    Args:
        records: what is checked.
        num_actors: how many actors, by turns.
        note: told of each turn.
        num_rounds: how often.
    """
    seconds: dict[int, list[float]] = {num: [] for num in num_actors}
    num_sentences = 0
    for _ in range(num_rounds):
        for num in num_actors:
            pool = DetectorPool(num, Settings())
            try:
                pool.warm_up(records[:CHUNK])
                started = time.perf_counter()
                lines = pool.detect(records)
                seconds[num].append(time.perf_counter() - started)
            finally:
                pool.close()
            num_sentences = sum(len(line["sentences"]) for line in lines)
            note()
    return Throughput(
        num_responses=len(records),
        num_sentences=num_sentences,
        seconds={num: tuple(rounds) for num, rounds in seconds.items()},
    )
