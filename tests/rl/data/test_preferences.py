"""`tether data preferences` on episodes of the tool world whose errors are known, for every rule."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from envs.toolworld import ToolWorldEnv, ToolWorldTasks
from envs.toolworld.demonstrator import Demonstrator
from envs.types import TaskKind
from rl import config as configs
from rl.__main__ import main
from rl.data.job import Done
from rl.data.pairs import Settings, why_not_exact
from rl.data.preferences import RULES, Groups, PairWork
from rollout.demonstrations import demonstrate
from rollout.renderer import load_renderer
from rollout.store import read_trajectories, write_scores, write_trajectories

NUM_TASKS, NUM_EPISODES = 24, 5

RATES = {TaskKind.MISSING_ARGUMENT: 0.5, TaskKind.UNMATCHED_TOOLS: 0.5, "other": 0.5}


@pytest.fixture(scope="session")
def tiny_renderer():
    return load_renderer(configs.model_path("package:tiny"))


@pytest.fixture(scope="session")
def episodes(tmp_path_factory, tiny_renderer) -> Path:
    """A run directory: groups of episodes of a demonstrator that errs in every way it knows."""
    run = tmp_path_factory.mktemp("run")

    async def group(task, number):
        return [
            await demonstrate(
                task,
                ToolWorldEnv,
                Demonstrator(task, seed=seed, error_rates=RATES),
                tiny_renderer,
                trajectory_id=f"group-{number}-{seed}",
                group_id=f"group-{number}",
                max_turns=6,
            )
            for seed in range(NUM_EPISODES)
        ]

    tasks = list(ToolWorldTasks(num=NUM_TASKS, seed=3))
    groups = [asyncio.run(group(task, number)) for number, task in enumerate(tasks)]
    for step, part in ((1, groups[:16]), (2, groups[16:])):
        write_trajectories(run, step, [one for members in part for one in members])
    return run


def made(episodes, out, *options):
    assert main(["data", "preferences", str(episodes), "--out", str(out), *options]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_prefers_what_scores_higher_and_shows_no_more_than_the_context(episodes, tmp_path, rule):
    rows = made(episodes, tmp_path / "pairs.jsonl", "--rule", rule)
    trajectories = {one.trajectory_id: one for one in read_trajectories(episodes)}
    assert len(rows) > 10
    assert len({row["pair_id"] for row in rows}) == len(rows)
    for row in rows:
        source = row["source"]
        assert source["chosen_score"] > source["rejected_score"]
        assert row["chosen"] != row["rejected"]
        rejected = trajectories[source["rejected_trajectory"]]
        before = [(message.role, message.content) for message in rejected.messages_before(source["turn"])]
        assert [message["role"] for message in row["prompt"]] == [role for role, _ in before]
        for message, (role, content) in zip(row["prompt"], before, strict=True):
            assert role == "assistant" or message["content"] == content
        assert [tool["function"]["name"] for tool in row["tools"]] == [tool.name for tool in rejected.tools]
        assert source["group"] == rejected.group_id and source["task"] == rejected.task.task_id
        assert source["step"] == (1 if int(rejected.group_id.split("-")[1]) < 16 else 2)


def test_minimal_pairs_differ_in_one_call_alone(episodes, tmp_path):
    rows = made(episodes, tmp_path / "pairs.jsonl", "--rule", "minimal")
    kinds = Counter(row["kind"] for row in rows)
    assert {"missed_deferral", "wrong_value", "unknown_tool", "missing_argument", "needless_deferral"} <= set(kinds)
    for row in rows:
        (chosen,), (rejected,) = row["chosen"], row["rejected"]
        if row["kind"] == "malformed":
            continue
        assert chosen["content"] == rejected["content"]
        pairs = list(zip(chosen["tool_calls"], rejected["tool_calls"], strict=True))
        assert [n for n, (one, other) in enumerate(pairs) if one != other] == [row["source"]["call"]]


def test_the_same_seed_gives_the_same_pairs_and_another_one_others(episodes):
    groups = list(Groups(episodes))
    for rule in (RULES["relign-step"], RULES["relign-trace"]):
        runs = [
            [pair.row()["pair_id"] for group in groups for pair in rule(group.trajectories, Settings(seed=seed)).pairs]
            for seed in (0, 0, 1)
        ]
        assert runs[0] == runs[1] != runs[2]


def test_no_kind_of_error_has_more_pairs_than_asked_for(episodes, tmp_path):
    all_rows = made(episodes, tmp_path / "all.jsonl", "--rule", "minimal")
    rows = made(episodes, tmp_path / "few.jsonl", "--rule", "minimal", "--per-kind", "2")
    kinds = Counter(row["kind"] for row in rows)
    assert kinds == {kind: min(num, 2) for kind, num in Counter(row["kind"] for row in all_rows).items()}
    other = made(episodes, tmp_path / "other.jsonl", "--rule", "minimal", "--per-kind", "2", "--seed", "1")
    assert {row["pair_id"] for row in other} != {row["pair_id"] for row in rows}
    summary = json.loads((tmp_path / "few.jsonl.summary.json").read_text())
    assert summary["counts"]["dropped"]["enough of its kind"] == len(all_rows) - len(rows)


def test_what_was_looked_at_and_why_there_is_no_pair_is_counted(episodes, tmp_path):
    rows = made(episodes, tmp_path / "pairs.jsonl", "--rule", "esm")
    counts = json.loads((tmp_path / "pairs.jsonl.summary.json").read_text())["counts"]
    assert counts["contexts"] == counts["with a pair"] + sum(counts["no pair"].values())
    assert sum(counts["pairs"].values()) == len(rows)


def test_a_call_that_was_stopped_goes_on_and_gives_the_same_file(episodes, tmp_path):
    whole = made(episodes, tmp_path / "whole.jsonl", "--rule", "esm")
    # What a stopped call leaves: the identity and the first items.
    work = PairWork(Groups(episodes), rule=RULES["esm"], settings=Settings(min_gap=0.05))
    partial = tmp_path / "resumed.jsonl.partial"
    partial.write_text("{}\n")
    items = list(work(Done(partial)))
    done = Done(partial)
    done.num_items = 7
    partial.write_text(
        "{}\n" + "".join(json.dumps({"records": item.records, "counts": item.counts}) + "\n" for item in items[:7])
    )
    assert list(work(done)) == items[7:]
    assert len(items) == NUM_TASKS
    assert [row["pair_id"] for row in whole] == [row["pair_id"] for item in items for row in item.records]


def test_rows_render_to_the_tokens_of_their_trajectories(episodes, tmp_path):
    made(episodes, tmp_path / "pairs.jsonl", "--rule", "esm")
    checked = made(episodes, tmp_path / "checked.jsonl", "--rule", "esm", "--model", "package:tiny")
    counts = json.loads((tmp_path / "checked.jsonl.summary.json").read_text())["counts"]
    assert len(checked) > 10 and "dropped" not in counts


def test_a_side_that_was_spelt_in_another_way_is_dropped_and_counted(build, tiny_renderer):
    task = build.task(build.call("get_weather", city="Oslo"))
    right, wrong = build.call("get_weather", city="Oslo"), build.call("fly")
    (pair,) = RULES["esm"]([build.play(task, right), build.play(task, wrong)], Settings()).pairs

    def with_text(side, text):
        tokens = [
            *tiny_renderer.prompt(task.prompt, pair.tools),
            *tiny_renderer.encode(text),
            tiny_renderer.stop_token_ids[0],
        ]
        return replace(side, token_ids=np.asarray(tokens, dtype=np.int32))

    written = '<tool_call>\n{"name": "fly", "arguments": {}}\n</tool_call>'
    chosen = with_text(pair.chosen, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>')
    exact = replace(pair, chosen=chosen, rejected=with_text(pair.rejected, written))
    assert why_not_exact(exact, exact.row(), tiny_renderer) == ""
    other = replace(exact, rejected=with_text(pair.rejected, written.replace('": {', '":  {')))
    assert why_not_exact(other, other.row(), tiny_renderer).startswith("the rejected side renders to other tokens")


def test_parquet_holds_the_same_pairs(episodes, tmp_path):
    rows = made(episodes, tmp_path / "pairs.jsonl", "--rule", "relign-step")
    assert (
        main(["data", "preferences", str(episodes), "--rule", "relign-step", "--out", str(tmp_path / "p.parquet")]) == 0
    )
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["pair_id"] for row in table] == [row["pair_id"] for row in rows]
    assert json.loads(table[0]["chosen"]) == rows[0]["chosen"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "minimal", "--preset", "released"], "--preset released: of relign-step and esm alone"),
        (["--rule", "esm", "--min-gap", "-1"], "--min-gap -1: expected a number from 0"),
        (["--rule", "esm", "--per-kind", "0"], "--per-kind 0: expected at least 1"),
        (["--rule", "esm", "--model", "nowhere"], "nowhere"),
    ],
)
def test_options_that_cannot_be_are_one_clear_line(episodes, tmp_path, capsys, options, message):
    assert main(["data", "preferences", str(episodes), "--out", str(tmp_path / "p.jsonl"), *options]) == 2
    assert message in capsys.readouterr().err


def test_files_without_trajectories_are_refused(tmp_path, capsys):
    write_scores(tmp_path, 0, [])
    scores = tmp_path / "scores"
    for path, message in ((scores, "expected trajectories as Parquet"), (tmp_path / "no", "found none")):
        assert main(["data", "preferences", str(path), "--rule", "esm", "--out", str(tmp_path / "p.jsonl")]) == 2
        assert message in capsys.readouterr().err
