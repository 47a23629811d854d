"""Public data sets, read from their own files: FacTool, HumanEval, GSM8K's model solutions, HalluQA, HaluEval.

The label 1 is a hallucination everywhere. FacTool's `label: true` and GSM8K's `is_correct: true` mean none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from envs.benchmarks.records import field, find_file, read_records
from envs.detection.sets.mutations import mutants
from envs.detection.sets.types import Labelled, of_claims
from envs.types import Json

NUM_MUTANTS = 5
"""Of one HumanEval solution, unless told otherwise."""
Judge = Callable[[str], bool]
"""Whether a program that tests itself ends without an error."""


def humaneval(data: Path) -> Iterator[Labelled]:
    """The canonical solutions with their tests: all right."""
    for record in _humaneval(data):
        yield Labelled(
            item_id=record["task_id"],
            question=record["prompt"],
            response=_with_tests(record["prompt"] + record["canonical_solution"], record),
            hallucinated=False,
        )


def humaneval_mutants(data: Path, judge: Judge, *, seed: int = 0, num: int = NUM_MUTANTS) -> Iterator[Labelled]:
    """Mutations of the canonical solutions with their tests, labelled by their tests.

    Args:
        data: the folder of the data sets.
        judge: runs solution and tests as one program, by another way than the detector does.
        seed: of the mutations.
        num: of each solution, at most.
    """
    for record in _humaneval(data):
        solution = record["prompt"] + record["canonical_solution"]
        for number, (what, mutant) in enumerate(mutants(solution, record["entry_point"], seed=seed, num=num)):
            response = _with_tests(mutant, record)
            yield Labelled(
                item_id=f"{record['task_id']}/mutant-{seed}-{number}-{what}",
                question=record["prompt"],
                response=response,
                hallucinated=not judge(response),
            )


def factool_code(data: Path) -> Iterator[Labelled]:
    """ChatGPT's solutions of HumanEval, with the tests of HumanEval; truth: FacTool's label.

    Entry points are not unique: the k-th record with one is the k-th HumanEval task with it.

    Raises:
        ValueError: a record has no task.
    """
    tasks: dict[tuple[str, int], Mapping[str, Json]] = {}
    seen: Counter[str] = Counter()
    for task in _humaneval(data):
        tasks[task["entry_point"], seen[task["entry_point"]]] = task
        seen[task["entry_point"]] += 1
    seen.clear()
    for where, record in _records(data, "factool", "code"):
        name = field(where, record, "entry_point", str)
        task = tasks.get((name, seen[name]))
        seen[name] += 1
        if task is None:
            raise ValueError(f"{where}: no HumanEval task number {seen[name]} with the entry point {name}")
        yield Labelled(
            item_id=f"factool/code/{task['task_id']}",
            question=task["prompt"],
            response=_with_tests(field(where, record, "response", str), task),
            hallucinated=not field(where, record, "label", bool),
        )


def factool_math(data: Path) -> Iterator[Labelled]:
    """Calculations, each claim a sentence `calculation = result`; claims labelled "null" have no label."""
    for where, record in _records(data, "factool", "math"):
        claims = [
            (f"{claim['claim']['math_calculation']} = {claim['claim']['calculated_answer']}", _is_false(claim["label"]))
            for claim in field(where, record, "claims", list)
        ]
        yield of_claims(_place(where), claims)


def factool_knowledge_qa(data: Path) -> Iterator[Labelled]:
    """Claims about the world, in English."""
    for where, record in _records(data, "factool", "knowledge_qa"):
        claims = [(claim["claim"], _is_false(claim["label"])) for claim in field(where, record, "claims", list)]
        yield of_claims(_place(where), claims, question=record["prompt"])


def factool_scientific(data: Path) -> Iterator[Labelled]:
    """References to papers: title, authors and year."""
    for where, record in _records(data, "factool", "scientific"):
        claims = [
            (
                ", ".join(str(claim.get(key, "")) for key in ("paper_title", "paper_author(s)", "paper_pub_year")),
                _is_false(claim["label"]),
            )
            for claim in field(where, record, "claims", list)
        ]
        yield of_claims(_place(where), claims, question=record["prompt"])


def factool_chinese(data: Path) -> Iterator[Labelled]:
    """Claims about the world, in Chinese; labels by FacTool with GPT-4, not by people."""
    for where, record in _records(data, "factool", "chinese_factool_output"):
        texts = [next(iter(claim.values())) for claim in field(where, record, "claims", list)]
        labels = [_is_false((found or {}).get("factuality")) for found in record["claim_level_factuality"]]
        yield of_claims(_place(where), list(zip(texts, labels, strict=True)), question=record["prompt"])


def gsm8k(data: Path) -> Iterator[Labelled]:
    """Four models' solutions of GSM8K test problems: a hallucination if the final answer is wrong."""
    for where, record in _records(data, "gsm8k_solutions", "example_model_solutions"):
        for name, solution in record.items():
            if isinstance(solution, Mapping) and "is_correct" in solution:
                yield Labelled(
                    item_id=f"{_place(where)}/{name}",
                    question=record["question"],
                    response=field(where, solution, "solution", str),
                    hallucinated=not field(where, solution, "is_correct", bool),
                )


def halluqa(data: Path, *, seed: int = 0) -> Iterator[Labelled]:
    """Chinese questions, each with one answer drawn at random among its right and wrong ones, as HaluAgent does."""
    choose = random.Random(seed)
    for where, record in _records(data, "halluqa", "HalluQA"):
        answers = [
            (text, key.startswith("Wrong_Answer"))
            for key, text in record.items()
            if key.startswith(("Best Answer", "Wrong_Answer")) and text
        ]
        text, is_wrong = choose.choice(answers)
        yield Labelled(
            item_id=f"halluqa/{record['question_id']}/{seed}",
            question=field(where, record, "Question", str),
            response=text,
            hallucinated=is_wrong,
        )


def factool_chinese_evidence(data: Path) -> Iterator[str]:
    """The search results that come with the Chinese claims."""
    for _, record in _records(data, "factool", "chinese_factool_output"):
        # Where FacTool's own pipeline failed there is an error in the place of the list.
        found = record.get("evidences")
        for claim in found if isinstance(found, list) else ():
            for evidence in (claim or {}).get("evidence", ()):
                if isinstance(evidence, str) and evidence.strip():
                    yield evidence


def halluqa_evidence(data: Path) -> Iterator[str]:
    """The sources that HalluQA names: texts, and addresses, which hold nothing to compare."""
    for where, record in _records(data, "halluqa", "HalluQA"):
        source = field(where, record, "Source", str)
        if source.strip() and not source.startswith("http"):
            yield source


def halueval(data: Path) -> Iterator[Labelled]:
    """ChatGPT's answers to users' queries, labelled by people."""
    for where, record in _records(data, "halueval", "general_data"):
        yield Labelled(
            item_id=f"halueval/{record['ID']}",
            question=field(where, record, "user_query", str),
            response=field(where, record, "chatgpt_response", str),
            hallucinated=field(where, record, "hallucination", str) == "yes",
        )


def _records(data: Path, folder: str, stem: str) -> Iterator[tuple[str, dict[str, Json]]]:
    return read_records(find_file(data / folder, stem))


def _humaneval(data: Path) -> Iterator[dict[str, Json]]:
    for where, record in _records(data, "humaneval", "HumanEval"):
        for name in ("task_id", "prompt", "entry_point", "canonical_solution", "test"):
            field(where, record, name, str)
        yield record


def _with_tests(solution: str, record: Mapping[str, Json]) -> str:
    return f"{solution}\n\n{record['test'].strip()}\n\ncheck({record['entry_point']})\n"


def _is_false(label: Json) -> bool | None:
    return not label if isinstance(label, bool) else None


def _place(where: str) -> str:
    """A name from the place of a record: folder, file and line."""
    path, _, number = where.rpartition(":")
    return f"{Path(path).parent.name}/{Path(path).name.split('.')[0]}/{number}"
