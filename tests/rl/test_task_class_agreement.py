"""The classes of RelyToolBench against what words alone say. The figures stand in docs/benchmarks.md."""

from collections import Counter

from envs.benchmarks import relytoolbench
from envs.benchmarks.toolbench import FINISH
from rewards.task_class import class_of
from rl.statistics import cohen_kappa

CLASSES = {"solvable": "solvable", "missing": "missing_argument", "unmatched": "unmatched_tools"}


def test_rules_agree_with_the_class_labels_beyond_chance(benchmark_data):
    pairs = []
    for subset in relytoolbench.SUBSETS:
        for task in relytoolbench.read(benchmark_data / "relytoolbench", subset):
            label = CLASSES[task.facts["benchmark"]["condition"]]
            pairs.append((label, str(class_of(task, ignored={FINISH})), subset[:2], "gold_fault" in task.facts))
    assert len(pairs) == 570
    for family in ("G1", "G2", "G3"):
        part = [(label, found) for label, found, name, _ in pairs if name == family]
        print(family, len(part), accuracy(part), cohen_kappa(part))
    sound = [(label, found) for label, found, _, fault in pairs if not fault]
    print("labels without a known fault", len(sound), accuracy(sound), cohen_kappa(sound))
    every = [(label, found) for label, found, *_ in pairs]
    print("all", accuracy(every), cohen_kappa(every), sorted(Counter(every).items()))
    kappa = cohen_kappa(every)
    assert kappa is not None and kappa > 0.4
    largest = max(Counter(label for label, _ in every).values()) / len(every)
    assert accuracy(every) > largest


def accuracy(pairs):
    return sum(label == found for label, found in pairs) / len(pairs)
