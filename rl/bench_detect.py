"""Detection measured on responses with known labels: which sets there are, and one measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.detection.sandbox.sandbox import Limits, Sandbox, SandboxUnavailable, Verdict
from envs.detection.sets import made, public
from envs.detection.sets.types import Labelled
from envs.types import Json
from rl.detecting import Record, Settings, append_lines, finished, skip
from rl.detection_rates import disagreements, of_responses, of_sentences, rates
from rl.errors import RunFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a set is made from."""

    data: Path | None
    """The folder of the public data sets."""
    seed: int = 0
    num: int = made.NUM
    """Items of each set that is made."""
    num_mutants: int = public.NUM_MUTANTS
    """Of each solution."""


Items = Callable[[Source], Iterator[Labelled]]


def _data(source: Source) -> Path:
    assert source.data is not None, "asked only where there is data"
    return source.data


MADE: dict[str, Items] = {
    "word_count_en": lambda source: made.word_count("en", seed=source.seed, num=source.num),
    "word_count_zh": lambda source: made.word_count("zh", seed=source.seed, num=source.num),
    "date_en": lambda source: made.dates("en", seed=source.seed, num=source.num),
    "date_zh": lambda source: made.dates("zh", seed=source.seed, num=source.num),
}
"""Sets that need no data."""
PUBLIC: dict[str, Items] = {
    "humaneval": lambda source: public.humaneval(_data(source)),
    "humaneval_mutants": lambda source: public.humaneval_mutants(
        _data(source), _judge(), seed=source.seed, num=source.num_mutants
    ),
    "factool_code": lambda source: public.factool_code(_data(source)),
    "factool_math": lambda source: public.factool_math(_data(source)),
    "factool_math_exact": lambda source: public.factool_math(_data(source)),
    "factool_knowledge_qa": lambda source: public.factool_knowledge_qa(_data(source)),
    "factool_scientific": lambda source: public.factool_scientific(_data(source)),
    "factool_chinese": lambda source: public.factool_chinese(_data(source)),
    "gsm8k": lambda source: public.gsm8k(_data(source)),
    "halluqa": lambda source: public.halluqa(_data(source), seed=source.seed),
    "halueval": lambda source: public.halueval(_data(source)),
}
WITH_EVIDENCE: dict[str, tuple[Items, Callable[[Path], Iterator[str]]]] = {
    "factool_chinese_evidence": (PUBLIC["factool_chinese"], public.factool_chinese_evidence),
    "halluqa_evidence": (PUBLIC["halluqa"], public.halluqa_evidence),
}
"""Sets with the texts that come with them to search in: how far facts are checked if what is known can be found."""
SETS = {**MADE, **PUBLIC, **{name: items for name, (items, _) in WITH_EVIDENCE.items()}}
NEED_DATA = frozenset({*PUBLIC, *WITH_EVIDENCE})
EXACT = frozenset({"factool_math_exact"})
"""Sets in which no result may be rounded."""
BY_THEMSELVES = frozenset(name for name in SETS if name.startswith("factool"))
"""Sets whose labels judge each claim by itself, whatever it rests on."""


def _judge() -> public.Judge:
    """A mutation's truth: solution and tests as one program that speaks for itself, which the detector never runs."""
    sandbox = Sandbox(Limits(seconds=30.0))

    def judge(program: str) -> bool:
        execution = sandbox.run(program)
        if execution.verdict is Verdict.REFUSED:
            raise SandboxUnavailable(execution.reason)
        return execution.verdict is Verdict.PASSED

    return judge


def found_file(out: Path, name: str) -> Path:
    """Where the lines of a set go."""
    return out / "found" / f"{name}.jsonl"


def measure(
    name: str, source: Source, settings: Settings, out: Path, note: Callable[[int, int], None], *, num_jobs: int = 1
) -> dict[str, Json]:
    """Check the items of a set, or go on where an earlier measurement stopped, and count.

    Args:
        name: of SETS.
        source: what it is made from.
        settings: who checks.
        out: a folder; lines go to found/NAME.jsonl, disagreements to disagreements/NAME.jsonl.
        note: told of progress: how many of how many.
        num_jobs: processes, for the rules.

    Raises:
        ValueError: the data cannot be read.
        RunFailed: nothing contains code here, and the labels of mutations need it.
    """
    try:
        items = list(SETS[name](source))
    except SandboxUnavailable as error:
        raise RunFailed(f"{name}: code cannot be run here: {error}") from error
    path = found_file(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = (Record(record_id=one.item_id, question=one.question, response=one.response) for one in items)
    done = finished(path)
    skip(records, done, Path(name), path)
    num_done = len(done)

    def count(_: dict[str, Json]) -> None:
        nonlocal num_done
        num_done += 1
        note(num_done, len(items))

    started = time.monotonic()
    settings = replace(settings, rounding=name not in EXACT, links=name not in BY_THEMSELVES)
    if name in WITH_EVIDENCE:
        settings = replace(settings, corpus=str(_write_corpus(name, source, out)))
    asyncio.run(append_lines(path, records, settings, count, num_jobs=num_jobs))
    seconds = time.monotonic() - started
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    wrong = out / "disagreements" / f"{name}.jsonl"
    wrong.parent.mkdir(parents=True, exist_ok=True)
    wrong.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in disagreements(items, lines)))
    return _figures(items, lines, seconds, num_fresh=len(items) - len(done))


def _write_corpus(name: str, source: Source, out: Path) -> Path:
    path = out / "corpus" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = dict.fromkeys(WITH_EVIDENCE[name][1](_data(source)))
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    return path


def _figures(
    items: Sequence[Labelled], lines: Sequence[dict[str, Json]], seconds: float, num_fresh: int
) -> dict[str, Json]:
    num_sentences = sum(len(line["sentences"]) for line in lines)
    figures: dict[str, Json] = {"responses": len(items), "sentences": num_sentences}
    if responses := of_responses(items, lines):
        figures["response"] = rates(responses)
    if sentences := of_sentences(items, lines):
        figures["sentence"] = rates(sentences)
    if num_fresh == len(items) and seconds > 0:
        figures |= {"seconds": seconds, "sentences_per_second": num_sentences / seconds}
    return figures
