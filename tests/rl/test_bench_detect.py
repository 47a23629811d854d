from __future__ import annotations

import json

import pytest

from envs.detection.sandbox.sandbox import Sandbox, SandboxUnavailable
from envs.detection.sets.types import Labelled, LabelledSentence
from rl.__main__ import main
from rl.detection_rates import Decision, disagreements, of_responses, of_sentences, rates
from rl.report.detection import as_markdown


def test_what_failed_or_was_left_undecided_counts_as_wrong():
    found = rates(
        [
            Decision(truth=True, said=True),
            Decision(truth=True, said=False),
            Decision(truth=False, said=True),
            Decision(truth=False, said=False),
            Decision(truth=False, said=None),
            Decision(truth=True, said=None, failed=True),
        ]
    )
    assert found["n"] == 6 and found["positives"] == 3 and found["failed"] == 1 and found["undecided"] == 1
    assert found["accuracy"] == 2 / 6 and found["decided"] == 4 / 6 and found["accuracy_decided"] == 0.5
    assert found["precision"] == 1 / 2 and found["recall"] == 1 / 3 and found["f1"] == 2 / 5
    low, high = found["intervals"]["accuracy"]
    assert 0 < low < 2 / 6 < high < 1


def test_rates_of_nothing_are_none():
    assert rates([])["accuracy"] is None and rates([])["intervals"]["accuracy"] is None


ITEM = Labelled(
    item_id="a",
    response="3 + 4 = 8\n3 + 4 = 7\nWarm",
    hallucinated=True,
    sentences=(
        LabelledSentence(start=0, end=9, label=1),
        LabelledSentence(start=10, end=19, label=1),
        LabelledSentence(start=20, end=24, label=0),
    ),
)


def row(start, end, label):
    return {"span": [start, end], "text": ITEM.response[start:end], "label": label, "evidence": "e", "tool": "t"}


LINE = {"id": "a", "hallucinated": False, "sentences": [row(0, 9, 1), row(10, 19, 0), row(20, 24, None)]}


def test_labels_of_sentences_are_compared_by_place():
    assert [one.said for one in of_sentences([ITEM], [LINE])] == [True, False, None]
    assert [one.said for one in of_responses([ITEM], [LINE])] == [False]
    assert [(one.get("text"), one["truth"], one["said"]) for one in disagreements([ITEM], [LINE])] == [
        ("3 + 4 = 7", True, False),
        (None, True, False),
    ]
    failed = {"id": "a", "hallucinated": None, "sentences": LINE["sentences"], "failed": "no answer"}
    assert [(one.said, one.failed) for one in of_sentences([ITEM], [failed])] == [(None, True)] * 3
    with pytest.raises(ValueError, match="in the place of 'a'"):
        of_responses([ITEM], [{**LINE, "id": "b"}])


def bench(*options: str) -> int:
    return main(["bench", "detect", *options])


def test_made_sets_are_decided_rightly(tmp_path, capsys):
    assert bench("--out", str(tmp_path), "--num", "60") == 0
    report = json.loads((tmp_path / "rates.json").read_text())
    assert set(report["sets"]) == {"word_count_en", "word_count_zh", "date_en", "date_zh"}
    assert {name: figures["response"]["accuracy"] for name, figures in report["sets"].items()} == dict.fromkeys(
        report["sets"], 1.0
    )
    assert (tmp_path / "report.md").read_text() == as_markdown(report)
    assert not (tmp_path / "disagreements/date_zh.jsonl").read_text()
    assert "date_zh" in capsys.readouterr().out
    # Started again, it counts what was found before.
    assert bench("--out", str(tmp_path), "--num", "60", "--set", "date_en") == 0
    again = json.loads((tmp_path / "rates.json").read_text())["sets"]["date_en"]
    assert again["response"] == report["sets"]["date_en"]["response"] and "seconds" not in again
    # Another seed makes other responses, which are not mixed with those.
    other = ["--out", str(tmp_path), "--num", "60", "--set", "date_en", "--seed", "1"]
    assert bench(*other) == 2
    assert "which is not response number 1 of date_en" in capsys.readouterr().err
    assert bench(*other, "--restart") == 0


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--set", "nothing"], "expected one of word_count_en"),
        (["--set", "gsm8k"], "expected --data DIR"),
        (["--data", "no/such/folder"], "no such folder"),
        (["--num", "0"], "expected at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, capsys, options, fault):
    assert bench("--out", str(tmp_path / "out"), *options) == 2
    assert fault in capsys.readouterr().err


def test_data_of_another_kind_is_told(tmp_path, capsys):
    assert bench("--out", str(tmp_path / "out"), "--data", str(tmp_path), "--set", "gsm8k") == 2
    assert "example_model_solutions: no such file" in capsys.readouterr().err


def test_calculations_and_programs_of_public_sets_reach_what_is_promised(tmp_path, benchmark_data):
    """Two sets whole, as the figures of docs/detection.md say; programs in the slow test."""
    sets = ["--set", "factool_math", "--set", "factool_math_exact"]
    assert bench("--out", str(tmp_path), "--data", str(benchmark_data), *sets) == 0
    found = json.loads((tmp_path / "rates.json").read_text())["sets"]
    assert found["factool_math"]["sentence"]["accuracy_decided"] >= 0.98
    assert found["factool_math_exact"]["sentence"]["accuracy_decided"] >= 0.97
    assert found["factool_math"]["sentence"]["decided"] >= 0.95


@pytest.mark.slow
def test_programs_are_judged_as_their_tests_do(tmp_path, benchmark_data):
    try:
        Sandbox().protection()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    sets = ["--set", "humaneval", "--set", "factool_code", "--set", "humaneval_mutants", "--mutants", "2"]
    assert bench("--out", str(tmp_path), "--data", str(benchmark_data), "--jobs", "2", *sets) == 0
    found = json.loads((tmp_path / "rates.json").read_text())["sets"]
    assert {name: figures["response"]["accuracy"] for name, figures in found.items()} == dict.fromkeys(found, 1.0)
