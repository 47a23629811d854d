"""Responses -> what is wrong with them, by a policy that uses the toolbox of `envs.detection`. Neither torch nor Ray.

records --> a bounded number under way --> in their order --> lines
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import IO

from envs.detection.env import DetectionEnv, make_task, make_toolbox, offered
from envs.detection.http import NO_ANSWER
from envs.detection.prompts import Language, language_of
from envs.detection.rules import RulePolicy
from envs.types import Json, Task, ToolStatus
from rl.endpoints import is_endpoint
from rl.errors import BadInput, RunFailed
from rl.score_files import Chunk, RecordReader, Unreadable, chunks
from rl.scoring import BadRecord
from rollout.endpoint import EndpointPolicy
from rollout.engine import Policy
from rollout.episode import converse
from rollout.recorded import shown
from rollout.thought_action import ThoughtActionPolicy
from rollout.trajectory import Ending, Trajectory

RULES = "rules"
MAX_TURNS = 200
"""Of one episode. The rules make at most 40 checks, as many links, and a few turns around them."""
ENDPOINT_FAILED = "the endpoint failed: "
ENGINE_FAILED = "the engine failed: "
MAX_FAILURES = 5
"""Of endpoint or engine, one after the other, before a run stops."""
MAX_RESPONSE = 200_000
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One response to be checked."""

    record_id: str | int
    response: str
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Who checks, and with which tools. Plain data: it goes to other processes."""

    model: str = RULES
    """`rules`, the URL of an OpenAI-compatible endpoint, or a model of our own (`rl.detecting_model`)."""
    endpoint_model: str = ""
    language: Language | None = None
    """Of the instructions; None: that of each response."""
    short: bool = False
    """Short instructions and tools (`envs.detection.env.make_task`), as the tiny detector has them."""
    rounding: bool = True
    """Of the rules: whether a result may be rounded to the digits that it is written with."""
    links: bool = True
    """Of the rules: whether a sentence that uses a wrong result is wrong too."""
    corpus: str | None = None
    search_url: str | None = None
    translate_url: str | None = None
    match: str | None = None
    """URL of an endpoint, or folder of a model of inference or of embeddings, that compares; None: rules."""
    protocol: str = "tools"
    """How a model behind an endpoint calls: `tools` of its own, or `react`: THOUGHT and ACTION in its text."""
    tools: tuple[str, ...] = ()
    allow_unprotected: bool = False
    max_tokens: int = 1024
    timeout: float = 120.0
    max_retries: int = 3


class Detector:
    """Checks one response at a time, or several at once."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the tools.

        Raises:
            ValueError: a setting cannot be used.
        """
        self._settings = settings
        self._toolbox = make_toolbox(**toolbox_options(settings))
        self._tools = offered(self._toolbox)
        self._endpoint = _endpoint(settings)

    async def close(self) -> None:
        """Close the connections."""
        if self._endpoint is not None:
            await self._endpoint.close()

    async def trajectory(self, record: Record) -> Trajectory:
        """The episode of checking one response, without tokens."""
        task = self.task(record)
        policy = self._policy(task.facts["language"])
        return await converse(
            task, self._env, policy, trajectory_id=task.task_id, max_turns=MAX_TURNS, offer_actions=True
        )

    def task(self, record: Record) -> Task:
        """The task of checking one response."""
        return make_task(
            str(record.record_id),
            record.question,
            record.response,
            tools=self._tools,
            language=self._settings.language or language_of(record.response),
            short=self._settings.short,
        )

    async def detect(self, record: Record) -> dict[str, Json]:
        """The line of one response, as CONTRACTS has it: {"id", "hallucinated", "sentences", "failed"?}."""
        return refused(record) or line_of(record.record_id, await self.trajectory(record))

    def _policy(self, language: Language) -> Policy:
        settings = self._settings
        if self._endpoint is None:
            return RulePolicy(rounding=settings.rounding, links=settings.links)
        return self._endpoint if settings.protocol == "tools" else ThoughtActionPolicy(self._endpoint, language)

    def _env(self, task: Task) -> DetectionEnv:
        return DetectionEnv(task, self._toolbox)


def toolbox_options(settings: Settings) -> dict[str, Json]:
    """The toolbox of `settings`, as options of `make_toolbox` and of DetectionEnv."""
    return {
        "corpus": settings.corpus,
        "search_url": settings.search_url,
        "translate_url": settings.translate_url,
        "matcher": _matcher(settings.match),
        "tools": list(settings.tools),
        "allow_unprotected": settings.allow_unprotected,
    }


def _matcher(name: str | None) -> dict[str, Json] | None:
    if name is None:
        return None
    if is_endpoint(name):
        return {"factory": "envs.detection.matching:EndpointMatcher", "options": {"url": name}}
    factory = "rl.nli:NliMatcher" if _is_classifier(Path(name)) else "rl.embedding:EmbeddingMatcher"
    return {"factory": factory, "options": {"path": name}}


def _is_classifier(folder: Path) -> bool:
    """Whether a model folder says that it holds a sequence classifier, as models of inference are.

    Raises:
        ValueError: it is no model folder.
    """
    try:
        names = json.loads((folder / "config.json").read_text()).get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"match {folder}: expected the URL of an endpoint, or a model folder with config.json"
        ) from error
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def _endpoint(settings: Settings) -> EndpointPolicy | None:
    if not is_endpoint(settings.model):
        return None
    return EndpointPolicy(
        settings.model,
        settings.endpoint_model,
        max_tokens=settings.max_tokens,
        timeout=settings.timeout,
        max_retries=settings.max_retries,
    )


def refused(record: Record) -> dict[str, Json] | None:
    """The line of a response that is too long to be checked; None of any other."""
    if len(record.response) <= MAX_RESPONSE:
        return None
    reason = f"a response of {len(record.response)} characters: at most {MAX_RESPONSE} are checked"
    return {"id": record.record_id, "hallucinated": None, "sentences": [], "failed": reason}


def line_of(record_id: str | int, trajectory: Trajectory, engine: str = ENDPOINT_FAILED) -> dict[str, Json]:
    """What an episode found. A verdict of None without `failed`: the policy found nothing that it could check.

    Args:
        record_id: of the response.
        trajectory: the episode.
        engine: how a failure of what the policy runs on is told.
    """
    facts = trajectory.outcome.facts
    line: dict[str, Json] = {
        "id": record_id,
        "hallucinated": facts.get("hallucinated"),
        "sentences": list(facts.get("sentences", ())),
    }
    reason = _failure(trajectory, engine)
    if reason:
        line |= {"hallucinated": None, "failed": reason}
    return line


def _failure(trajectory: Trajectory, engine: str) -> str:
    """Why there is no verdict; empty if there is one, or none because nothing could be checked."""
    if trajectory.ending is Ending.ENGINE_FAILED:
        return f"{engine}{trajectory.error}"
    if trajectory.ending.is_failure:
        return trajectory.error.strip().splitlines()[-1] if trajectory.error.strip() else str(trajectory.ending)
    if trajectory.ending is not Ending.COMPLETED:
        return f"no verdict after {len(trajectory.turns)} turns"
    if not trajectory.outcome.finished:
        return "the policy ended without a verdict"
    if trajectory.outcome.facts.get("hallucinated") is True:
        return ""
    bad = (ToolStatus.FAILED, ToolStatus.TIMED_OUT)
    failed = [result.content for turn in trajectory.turns for result in turn.results if result.status in bad]
    # What an endpoint should have been asked is not known to be right.
    unanswered = next((content for content in failed if any(sign in content for sign in NO_ANSWER)), "")
    if unanswered:
        return f"{ENDPOINT_FAILED}{unanswered}"[:500]
    is_open = trajectory.outcome.facts.get("hallucinated") is None
    return f"a tool failed: {failed[0]}"[:500] if is_open and failed else ""


# Many records.


async def lines(
    records: Iterable[Record], settings: Settings, *, num_jobs: int = 1, at_once: int = 8
) -> AsyncGenerator[dict[str, Json], None]:
    """Check records and give their lines in order.

    Args:
        records: read only as far as they are needed.
        settings: who checks.
        num_jobs: processes, for the rules.
        at_once: requests to an endpoint at a time.
    """
    if settings.model != RULES:
        detector = Detector(settings)
        try:
            async for line in in_order(records, detector.detect, at_once):
                yield line
        finally:
            await detector.close()
        return
    async with _workers(settings, num_jobs) as work:
        async for line in in_order(records, work, 4 * num_jobs if num_jobs > 1 else 1):
            yield line


async def append_lines(
    out: Path,
    records: Iterable[Record],
    settings: Settings,
    note: Callable[[dict[str, Json]], None],
    *,
    num_jobs: int = 1,
    at_once: int = 8,
) -> None:
    """Check records and append each line to a file as soon as it is known (`append`).

    Args:
        out: the file.
        records: as in `lines`.
        settings: as in `lines`.
        note: told of each line.
        num_jobs: as in `lines`.
        at_once: as in `lines`.

    Raises:
        RunFailed: as `append`; or a process was killed.
    """
    try:
        await append(out, lines(records, settings, num_jobs=num_jobs, at_once=at_once), note)
    except BrokenProcessPool as error:
        raise RunFailed("a process was killed") from error


async def append(
    out: Path, found: AsyncGenerator[dict[str, Json], None], note: Callable[[dict[str, Json]], None]
) -> None:
    """Append lines to a file as they are found.

    Failures of endpoint or engine are written once something else came after them, so that a run that stops for them
    can go on with the responses that failed.

    Args:
        out: the file.
        found: the lines, in order; closed at the end.
        note: told of each line that was written.

    Raises:
        RunFailed: endpoint or engine failed MAX_FAILURES times one after the other.
    """
    failed: list[dict[str, Json]] = []
    try:
        with out.open("a", encoding="utf-8") as file:
            async for line in found:
                if str(line.get("failed", "")).startswith((ENDPOINT_FAILED, ENGINE_FAILED)):
                    failed.append(line)
                    if len(failed) == MAX_FAILURES:
                        raise RunFailed(f"{MAX_FAILURES} responses one after the other: {line['failed']}")
                    continue
                _write(file, [*failed, line], note)
                failed.clear()
            _write(file, failed, note)
    finally:
        await found.aclose()


def _write(file: IO[str], found: Iterable[dict[str, Json]], note: Callable[[dict[str, Json]], None]) -> None:
    for line in found:
        file.write(json.dumps(line) + "\n")
        file.flush()
        note(line)


async def in_order(
    records: Iterable[Record], work: Callable[[Record], Awaitable[dict[str, Json]]], at_once: int
) -> AsyncGenerator[dict[str, Json], None]:
    """The lines of records in their order, `at_once` of them under way.

    Raises:
        BadInput: as reading the records, once the lines of those before are out.
    """
    under_way: deque[asyncio.Future[dict[str, Json]]] = deque()
    fault: BadInput | None = None
    try:
        try:
            for record in records:
                under_way.append(asyncio.ensure_future(work(record)))
                if len(under_way) >= at_once:
                    yield await under_way.popleft()
        except BadInput as error:
            # What stands before it in the file is found all the same.
            fault = error
        while under_way:
            yield await under_way.popleft()
        if fault is not None:
            raise fault
    finally:
        for task in under_way:
            task.cancel()


@asynccontextmanager
async def _workers(settings: Settings, num_jobs: int) -> AsyncIterator[Callable[[Record], Awaitable[dict[str, Json]]]]:
    """Something that checks records: in this process, or in several others."""
    if num_jobs == 1:
        yield Detector(settings).detect
        return
    pool = ProcessPoolExecutor(
        num_jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(settings,)
    )
    loop = asyncio.get_running_loop()

    def work(record: Record) -> Awaitable[dict[str, Json]]:
        return loop.run_in_executor(pool, _work, record)

    try:
        yield work
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_detector: Detector | None = None


def _start_worker(settings: Settings) -> None:
    global _detector
    _detector = Detector(settings)


def _work(record: Record) -> dict[str, Json]:
    assert _detector is not None, "the worker was started"
    return asyncio.run(_detector.detect(record))


# Files.

EXPECTED = '{"id": string or integer, "response": string, "question"?: string}'


def read_records(path: Path) -> Iterator[Record]:
    """The responses of a file: JSONL, .jsonl.gz or Parquet, or a .txt file that is one response.

    Raises:
        BadInput: the file cannot be read, or a line is no such record; said when it is reached.
    """
    if path.suffix == ".txt":
        try:
            yield Record(record_id=path.stem, response=path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read ({error}); expected UTF-8 text") from error
        return
    reader = RecordReader()
    try:
        for chunk in chunks(path):
            yield from _of_chunk(path, chunk, reader)
    except Unreadable as error:
        raise BadInput(str(error)) from error


def _of_chunk(path: Path, chunk: Chunk, reader: RecordReader) -> Iterator[Record]:
    for number, item in enumerate(chunk.items, start=chunk.start):
        if isinstance(item, bytes) and item.isspace():
            continue
        try:
            yield _record(reader.read(item, first=number == 1))
        except BadRecord as error:
            raise BadInput(f"{path}:{number}: {' '.join(str(error).split())}") from error


def _record(value: Json) -> Record:
    if not isinstance(value, dict):
        raise BadRecord(f"got {shown(value)}, expected {EXPECTED}")
    record_id, response, question = value.get("id"), value.get("response"), value.get("question")
    if not isinstance(record_id, str | int) or isinstance(record_id, bool):
        raise BadRecord(f"id: got {shown(record_id)}, expected {EXPECTED}")
    if not isinstance(response, str):
        raise BadRecord(f"response: got {shown(response)}, expected {EXPECTED}")
    if not isinstance(question, str | None):
        raise BadRecord(f"question: got {shown(question)}, expected {EXPECTED}")
    return Record(record_id=record_id, response=response, question=question or "")


def finished(out: Path) -> list[str | int]:
    """The ids of the lines that an earlier run has written; what it left of a line is cut off.

    Raises:
        BadInput: the file holds something else.
    """
    if not out.exists():
        return []
    try:
        data = out.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            with out.open("r+b") as file:
                file.truncate(len(complete))
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be read: {error.strerror or error}") from error
    found: list[str | int] = []
    for number, text in enumerate(complete.splitlines(), start=1):
        try:
            line = json.loads(text)
            found.append(line["id"])
            line["sentences"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"--out {out}:{number}: no result of tether detect; name another file") from error
    return found


def skip(records: Iterator[Record], done: Sequence[str | int], path: Path, out: Path) -> None:
    """Pass by the records that have a line already.

    Raises:
        BadInput: the lines are of other records.
    """
    for number, record_id in enumerate(done, start=1):
        record = next(records, None)
        if record is None or record.record_id != record_id:
            raise BadInput(
                f"--out {out}:{number}: holds the result of {record_id!r}, which is not response number {number} of "
                f"{path}; name another place, or begin anew (--restart)"
            )
