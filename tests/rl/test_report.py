from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from rewards.relign import CLASSES
from rewards.types import ErrorKind
from rl.evaluate import RATES, Evaluation, TaskResult
from rl.report.console import print_report, table
from rl.report.curves import Curve, Run, draw, on_one_grid, run_of, smoothed
from rl.report.markdown import markdown
from rl.report.rows import comparison_cells, error_cells, kind_cells, p_value, rates_cells
from rl.report.summary import comparison, measurement, read_summary, write_summary
from rl.set_metrics import TaskMetrics


def evaluation(success: float, num: int = 100, seed: int = 0) -> Evaluation:
    rng = random.Random(seed)
    results = []
    for index in range(num):
        good = index < success * num
        results.append(
            TaskResult(
                task_id=str(index),
                kind=rng.choice(["single", "chain"]),
                failed=False,
                flags={**dict.fromkeys(RATES), "success": good, "hallucination_rate": not good},
                hallucinated_share=0.0 if good else 0.5,
                errors=frozenset() if good else frozenset({ErrorKind.WRONG_VALUE}),
                metrics=TaskMetrics(
                    passed=float(good),
                    reliable=float(good),
                    utility=20.0 * good,
                    tool_cost=1.0,
                    hallucinated=dict.fromkeys(CLASSES, 0.0),
                    avoided=False,
                    num_extra=0,
                ),
            )
        )
    return Evaluation(results=tuple(results))


BEFORE, AFTER = evaluation(0.5), evaluation(0.8)
COLUMNS = {"before": BEFORE.to_json(), "after": AFTER.to_json()}


def printed(*parts) -> str:
    console = Console(file=io.StringIO(), width=160)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rates_table_shows_columns_with_intervals():
    text = printed(table(rates_cells(COLUMNS)))
    assert "before" in text and "after" in text
    assert "50.0 [40.4, 59.6]" in text and "80.0 [71.1, 86.7]" in text
    assert "infrastructure" not in text


def test_failures_are_shown_where_there_were_some():
    assert "infrastructure" in printed(table(rates_cells({"after": {**COLUMNS["after"], "failed": 3}})))


def test_tables_by_kind_and_of_errors():
    kinds = kind_cells(COLUMNS)
    assert {row[0].split(" ")[0] for row in kinds.rows} == {"single", "chain"}
    assert error_cells(COLUMNS).rows == (("wrong_value", "50.0", "20.0"),)


def test_comparison_table_shows_difference_and_p():
    found = comparison_cells(BEFORE.compare(AFTER), "before", "after")
    success = next(row for row in found.rows if row[0] == "success")
    assert success[1:] == ("50.0", "80.0", "+30.0", "0 / 30", "< 0.0001")


def test_p_values_keep_two_digits_that_matter():
    assert [p_value(p) for p in (1e-9, 0.0123, 0.5)] == ["< 0.0001", "0.0123", "0.50"]


def test_whole_report_is_printed():
    console = Console(file=io.StringIO(), width=160)
    print_report(console, COLUMNS, title="Held-out tools")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Held-out tools" in text and "By kind of task" in text and "wrong_value" in text


def test_markdown_table_has_one_row_for_each_rate():
    lines = markdown(rates_cells(COLUMNS)).splitlines()
    assert lines[2].startswith("| in %") and lines[3] == "| --- | ---: | ---: |"
    assert all(line.count("|") == 4 for line in lines[2:])


def test_summary_holds_the_contract_and_is_read_back(tmp_path):
    path = tmp_path / "summary.json"
    written = write_summary(
        path,
        measurements={
            "before": measurement(BEFORE, greedy=BEFORE),
            "after": measurement(AFTER, greedy=AFTER, real_apis=AFTER, real_apis_greedy=AFTER),
        },
        comparisons={"after_vs_before": comparison(BEFORE.compare(AFTER))},
        seconds=1.5,
        peak_memory_gb=float("nan"),
        seed=7,
        more={"steps": 3},
    )
    assert read_summary(path) == written == json.loads(path.read_text())
    keys = {"n", *RATES, "hallucination_rate_relign", "errors", "intervals", "by_task_kind"}
    for part in (written["after"], written["after"]["greedy"], written["after"]["real_apis"]):
        assert keys <= set(part)
    assert {"seconds", "peak_memory_gb", "seed", "command", "commit", "versions", "steps"} <= set(written)
    assert written["peak_memory_gb"] is None
    assert "control" not in written
    assert list(tmp_path.iterdir()) == [path]


def test_summary_refuses_names_that_the_contract_does_not_know(tmp_path):
    for fields in ({"measurements": {"later": {}}}, {"measurements": {}, "more": {"seed": 1}}):
        with pytest.raises(ValueError):
            write_summary(tmp_path / "summary.json", seconds=1, peak_memory_gb=1, seed=1, **fields)


def run(offset: float, step: int = 1) -> Run:
    x = list(range(0, 10 * step, step))
    success = [min(0.9, offset + 0.05 * index) for index in range(10)]
    return Run(x=x, rates={"success": success, "hallucination_rate": [1 - value for value in success]})


@pytest.mark.parametrize("name", ["curves.png", "curves.svg"])
def test_picture_is_written(tmp_path, name):
    pytest.importorskip("matplotlib")
    curves = [Curve(label="PPO", runs=[run(0.3), run(0.4, step=2)]), Curve(label="control", runs=[run(0.3)])]
    draw(curves, tmp_path / name, title="Held-out tools", x_label="seconds")
    assert (tmp_path / name).stat().st_size > 1000


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run"):
        draw([Curve(label="PPO", runs=[])], tmp_path / "curves.png")


def test_runs_of_different_steps_are_compared_where_all_have_been():
    x, values = on_one_grid([run(0.3), run(0.3, step=2)], "success")
    assert (x[0], x[-1]) == (0, 9)
    assert values[0][-1] == pytest.approx(0.75) and values[1][-1] == pytest.approx(0.525)


def test_points_come_from_recorded_metrics():
    rows = [{"step": 1, "eval/success": 0.5}, {"step": 2}, {"step": 3, "eval/success": 0.7}]
    found = run_of(rows, "step", {"success": "eval/success"})
    assert found == Run(x=[1.0, 3.0], rates={"success": [0.5, 0.7]})
    assert smoothed(found, 2).rates["success"] == pytest.approx([0.5, 0.6])


def test_run_checks_its_points():
    with pytest.raises(ValueError, match="rise"):
        Run(x=[1, 1], rates={})
    with pytest.raises(ValueError, match="expected 2 values"):
        Run(x=[1, 2], rates={"success": [0.1]})


def test_metrics_of_the_set_and_guards_stand_below_the_rates_in_their_own_units():
    labels = {row[0]: row[1] for row in rates_cells(COLUMNS).rows}
    assert labels["passed (Relign, no judge)"].endswith("]")
    utility = labels["benefit-cost utility, -20 to 20"]
    assert utility.startswith(f"{COLUMNS['before']['relign']['utility']:.2f} [")
    assert {"no call where one solves the task", "calls beyond the reference, a task", "no error but malformed"} <= set(
        labels
    )


def test_older_summaries_have_no_rows_of_what_they_do_not_hold():
    old = {key: value for key, value in COLUMNS["before"].items() if key not in ("relign", "guards")}
    assert not any("Relign, no judge" in row[0] for row in rates_cells({"before": old}).rows)
