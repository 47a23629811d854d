"""The shipped detector on a real engine."""

import json

import pytest

from envs.detection.env import YES
from envs.detection.tasks import DetectionTasks


@pytest.mark.slow
def test_the_shipped_detector_is_right_about_most_responses_that_it_has_not_seen(tmp_path, run_ok):
    tasks = list(DetectionTasks("heldout", "both", seed=7, num=60))
    rows = [
        {"id": number, "response": task.facts["response"], "question": task.facts["question"]}
        for number, task in enumerate(tasks)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_ok("detect", "in.jsonl", "one_core", "--model", "package:detector", "--short", "--out", "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = sum(line["hallucinated"] is (task.answer == YES) for line, task in zip(found, tasks, strict=True))
    assert right >= 0.85 * len(tasks)
