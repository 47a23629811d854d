from __future__ import annotations

import pytest

pytest.importorskip("ray")

from rl.config import Ray
from rl.detect_actors import CHUNK, DetectorActor, DetectorPool, Throughput, measure_throughput, responses
from rl.detecting import Settings


def test_responses_follow_from_the_seed_and_hold_no_program():
    assert responses(5, 1) == responses(5, 1) != responses(5, 2)
    assert not any("def " in record.response for record in responses(60, 3))


def test_an_actor_gives_the_lines_in_order():
    records = responses(6, 0)
    assert [line["id"] for line in DetectorActor(Settings()).detect(records)] == [one.record_id for one in records]


def test_rates_are_over_all_rounds_and_compared_between_most_and_fewest_actors():
    found = Throughput(num_responses=4, num_sentences=10, seconds={1: (2.0, 3.0), 2: (1.0, 1.5)})
    assert found.per_second(1) == 4 and found.per_second(2) == 8
    assert found.to_json()["ratio"] == 2 and found.to_json()["sentences_per_second"] == {"1": 4, "2": 8}


@pytest.mark.slow
def test_actors_give_all_lines_in_order_however_many_there_are(tmp_path):
    from rl.cluster import connected

    records = responses(3 * CHUNK + 5, 0)
    with connected(Ray(num_cpus=2), {"CPU": 2}, tmp_path):
        pool = DetectorPool(2, Settings())
        try:
            assert [line["id"] for line in pool.detect(records)] == [one.record_id for one in records]
        finally:
            pool.close()
        turns: list[int] = []
        found = measure_throughput(records[:40], (1, 2), lambda: turns.append(1), num_rounds=1)
    assert len(turns) == 2 and found.num_sentences >= 40 and set(found.seconds) == {1, 2}
