"""Detection by a model on a pool; the pool here lets the rules do what a model would."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from envs.detection.rules import RulePolicy
from rl.__main__ import main
from rl.detecting import Record, Settings, append, append_lines, toolbox_options
from rl.detecting_model import episode_settings, pool_lines
from rl.errors import RunFailed
from rollout.episode import converse
from rollout.trajectory import Ending

RECORDS = [
    Record(record_id=1, response="First, 3 + 4 = 8. It is warm."),
    Record(record_id="two", question="Write exactly 5 words.", response="one two three four five"),
    Record(record_id=3, response="2024年3月1日是星期五。"),
    Record(record_id=4, response="x" * 200_001),
    Record(record_id=5, response="It is warm."),
]


class Pool:
    """Later responses are done first; the engine is broken for those that are named."""

    def __init__(self, broken=()):
        self.broken = broken
        self.under_way = self.most = 0
        self.prompts = []

    async def run(self, task, *, group_id, settings):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.prompts.append(task.prompt[0].content)
        await asyncio.sleep(0.02 / len(self.prompts))
        found = await converse(
            task, settings.env.build, RulePolicy(), trajectory_id=group_id, max_turns=settings.max_turns
        )
        self.under_way -= 1
        if group_id in self.broken:
            found = replace(found, ending=Ending.ENGINE_FAILED, error="out of memory")
        return (found,)


async def found_by(pool, records=RECORDS, at_once=3, **options):
    return [line async for line in lines_of(pool, records, at_once, **options)]


def lines_of(pool, records, at_once, **options):
    return pool_lines(records, Settings(model="m", **options), pool, at_once=at_once)


async def test_lines_are_those_of_the_rules_in_their_order_with_several_under_way(tmp_path):
    pool = Pool()
    lines = await found_by(pool)
    await append_lines(tmp_path / "rules.jsonl", RECORDS, Settings(), lambda line: None)
    assert lines == [json.loads(line) for line in (tmp_path / "rules.jsonl").read_text().splitlines()]
    assert [line["hallucinated"] for line in lines] == [True, False, False, None, None]
    assert lines[3]["failed"].startswith("a response of 200001 characters")
    assert pool.most == 3


async def test_short_instructions_are_given_where_they_are_asked_for():
    long, short = Pool(), Pool()
    assert await found_by(long, RECORDS[:3]) == await found_by(short, RECORDS[:3], short=True)
    assert sum(map(len, short.prompts)) < sum(map(len, long.prompts)) / 5


async def test_a_failure_of_the_engine_is_told_and_the_others_are_checked(tmp_path):
    noted = []
    await append(tmp_path / "out.jsonl", lines_of(Pool(["two"]), RECORDS, 2), noted.append)
    assert [line["id"] for line in noted] == [1, "two", 3, 4, 5]
    assert noted[1]["failed"] == "the engine failed: out of memory" and noted[1]["hallucinated"] is None


async def test_five_failures_in_a_row_end_the_run_and_are_left_to_be_done_again(tmp_path):
    records = [Record(record_id=number, response="3 + 4 = 7.") for number in range(9)]
    pool = Pool([str(number) for number in range(2, 9)])
    with pytest.raises(RunFailed, match="5 responses one after the other: the engine failed"):
        await append(tmp_path / "out.jsonl", lines_of(pool, records, 2), lambda line: None)
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [0, 1]


def test_episodes_are_greedy_and_have_the_tools_that_were_asked_for():
    settings = Settings(model="m", corpus="facts.jsonl", match="http://localhost:1")
    found = episode_settings(settings)
    assert found.sampling.temperature == 0 and found.sampling.seed is None
    assert found.env.options == toolbox_options(settings)
    assert found.env.options["matcher"]["options"] == {"url": "http://localhost:1"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--model", "no/such/folder"], "no such folder"),
        (["--model", "package:tiny", "--protocol", "react"], "--protocol react: belongs to an endpoint"),
        (["--model", "package:tiny", "--endpoint-model", "x"], "belongs to --model URL"),
        (["--max-tokens", "0"], "expected at least 1"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path, capsys, options, fault):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "response": "3 + 4 = 7."}\n')
    assert main(["detect", str(path), "--out", str(tmp_path / "out.jsonl"), *options]) == 2
    assert fault in capsys.readouterr().err


def test_a_cluster_belongs_to_a_model_that_is_run_here(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "response": "3 + 4 = 7."}\n')
    assert main(["detect", str(path), "laptop", "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "laptop: belongs to a model that is run here" in capsys.readouterr().err
