from __future__ import annotations

import json

import pytest

from rl.__main__ import main
from rl.bench_rewards import measure_memory, measure_speed, replies, write_replies
from rl.errors import RunFailed
from rl.score_files import Chunk, score_chunk


def test_the_same_seed_gives_the_same_replies_and_another_gives_others():
    assert list(replies(50)) == list(replies(50)) != list(replies(50, seed=1))


def test_replies_hold_texts_and_calls_with_every_usual_error_and_can_all_be_scored():
    from rewards.schemes import scheme

    lines = [line.encode() for line, _ in replies(400)]
    scored = score_chunk(Chunk(start=1, items=tuple(lines), position=0), scheme("esm"), skip_bad=False)
    assert (scored.num, scored.num_unscored, scored.faults) == (400, 0, ())
    usual = {"malformed", "unknown_tool", "missing_argument", "unknown_argument", "wrong_value", "missed_deferral"}
    assert usual <= set(scored.kinds)
    right = sum(json.loads(line)["score"] == 1.0 for line in scored.lines.splitlines())
    assert 100 < right < 350
    fields = [set(json.loads(line)) for line in lines]
    assert any("text" in names for names in fields) and any("calls" in names for names in fields)


def test_speed_and_memory_are_of_the_whole_file(tmp_path):
    path = tmp_path / "in.jsonl"
    num_calls = write_replies(path, 60)
    speed = measure_speed(path, "relign", 60, num_calls)
    assert speed.num_lines == 60 and speed.calls_per_second == num_calls / speed.seconds
    memory = measure_memory(path, tmp_path / "out.jsonl", 60, "relign")
    assert 10 < memory.peak_mb < 2000 and memory.seconds > 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 60


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(RunFailed, match=r"code 2: .*no such file"):
        measure_memory(tmp_path / "no.jsonl", tmp_path / "out.jsonl", 1, "esm")


def test_the_command_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = ["bench", "rewards", "--lines", "40", "--timed-lines", "20", "--scheme", "esm", "--out", str(out)]
    assert main(words) == 0
    figures = json.loads(out.read_text())
    assert [speed["scheme"] for speed in figures["speed"]] == ["esm"]
    assert figures["memory"]["num_lines"] == 40
    assert "calls/s a core" in capsys.readouterr().out
