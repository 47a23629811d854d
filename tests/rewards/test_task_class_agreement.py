"""The classes of RelyToolBench against what words alone say; the figures of docs/benchmarks.md are these."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from envs.benchmarks import relytoolbench
from envs.benchmarks.toolbench import FINISH
from rewards.agreement import agreement
from rewards.task_class import class_of

CLASSES = {"solvable": "solvable", "missing": "missing_argument", "unmatched": "unmatched_tools"}
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text()


def test_rules_agree_with_the_class_labels_as_the_page_says(benchmark_data):
    sets: dict[str, list[tuple[str, str]]] = {"all": [], "labels without a known fault": []}
    for subset in relytoolbench.SUBSETS:
        for task in relytoolbench.read(benchmark_data / "relytoolbench", subset):
            pair = (CLASSES[task.facts["benchmark"]["condition"]], str(class_of(task, ignored={FINISH})))
            sets["all"].append(pair)
            sets.setdefault(subset[:2], []).append(pair)
            if "gold_fault" not in task.facts:
                sets["labels without a known fault"].append(pair)
    for name, pairs in sets.items():
        found = agreement(pairs)
        assert found.share is not None
        assert f"| {name} | {len(pairs)} | {100 * found.share:.1f} | {found.kappa:.2f} |" in PAGE
    counts = Counter(sets["all"])
    for label in CLASSES.values():
        row = " | ".join(str(counts[label, found]) for found in CLASSES.values())
        assert re.search(rf"^\| `{label}` \| {re.escape(row)} \|$", PAGE, re.MULTILINE), row


def test_the_agreement_is_beyond_chance_and_beyond_the_largest_class(benchmark_data):
    pairs = []
    for subset in relytoolbench.SUBSETS:
        for task in relytoolbench.read(benchmark_data / "relytoolbench", subset):
            pairs.append((CLASSES[task.facts["benchmark"]["condition"]], str(class_of(task, ignored={FINISH}))))
    found = agreement(pairs)
    assert found.share is not None and found.kappa is not None and found.kappa > 0.4
    assert found.share > max(Counter(label for label, _ in pairs).values()) / len(pairs)
