"""An LLM as judge, behind any OpenAI-compatible endpoint: forced choices at temperature 0, cached, within a budget.

A judge that gives up (no connection, no budget, no readable answer) says None, which is unscored and never zero. It
never raises over a question; what is wrong with its own settings it says when it is made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Container, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from envs.actions import ACTION_NAMES
from envs.types import Json, TaskKind, ToolCall, ToolSpec
from rewards.grounding import texts_before
from rewards.judge_questions import (
    ANSWER_RELEVANCE,
    CALLING_TRUTHFULNESS,
    TOOL_RELEVANCE,
    Question,
    about_answer,
    about_call,
    about_tool,
)
from rewards.types import CallError, ErrorKind, Score
from rollout.endpoint import client_of
from rollout.trajectory import Trajectory

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 3
"""For endpoints that do not say how many tokens a request took."""

_log = logging.getLogger(__name__)
_REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
"""Also what was cut off before it came to an answer."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """What a judge may spend, and has spent."""

    max_requests: int
    """Every try counts."""
    max_tokens: int
    """Of questions and answers together. Requests under way when it is reached are still paid."""
    num_requests: int = 0
    num_tokens: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether no further request may be made."""
        return self.num_requests >= self.max_requests or self.num_tokens >= self.max_tokens


class AnswerCache:
    """Answers on disk, by a hash of the model and the messages. Several processes may share a file."""

    def __init__(self, path: str | Path | None) -> None:
        """Open or begin a cache.

        Args:
            path: its file; None: it lasts as long as this object.

        Raises:
            ValueError: the file cannot be used.
        """
        try:
            if path is not None:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Each episode may be judged in a thread of its own, one after the other.
            self._database = sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False)
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
            self._database.commit()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"{path}: not a cache of answers that can be used: {error}") from error

    def get(self, key: str) -> str | None:
        """The answer; None: not known."""
        try:
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            _log.warning("the cache of answers cannot be read: %s", error)
            return None
        return None if row is None else str(row[0])

    def put(self, key: str, answer: str) -> None:
        """Keep an answer."""
        try:
            with self._database:
                self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))
        except sqlite3.Error as error:
            _log.warning("the cache of answers cannot be written: %s", error)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Judge:
    """Asks one model. Use it as an async context manager, within one event loop."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        budget: Budget,
        cache: AnswerCache,
        max_retries: int = 3,
        timeout: float = 60.0,
        pause: float = 0.5,
        concurrency: int = 8,
        max_answer_tokens: int = 256,
        max_failures: int = 32,
    ) -> None:
        """Say whom to ask; the key is taken from OPENAI_API_KEY.

        Args:
            url: base of the API, such as http://localhost:8000/v1.
            model: its name at the endpoint.
            budget: what may be spent.
            cache: answers already had.
            max_retries: further tries after a refused connection, a timeout, a rate limit, an error of the server or
                an answer that is none of the choices.
            timeout: seconds that one try may take.
            pause: seconds before the second try; doubled before each further one.
            concurrency: requests at one time.
            max_answer_tokens: of one answer, any reasoning before it included.
            max_failures: questions given up one after the other, without an answer between them, after which no more
                is asked: an endpoint that is not there must not be waited for thousands of times.

        Raises:
            ValueError: a negative number of retries, or no room for a request.
        """
        if max_retries < 0 or concurrency < 1:
            raise ValueError(f"max_retries {max_retries}, concurrency {concurrency}: expected at least 0 and 1")
        self.url = url
        self.model = model
        self.budget = budget
        self.failures: Counter[str] = Counter()
        """Why questions were given up, and how often."""
        self._cache = cache
        self._max_retries = max_retries
        self._timeout = timeout
        self._pause = pause
        self._max_answer_tokens = max_answer_tokens
        self._max_failures = max_failures
        self._failures_in_a_row = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._asked: dict[str, asyncio.Lock] = {}
        """One question that is asked twice at a time is paid once."""
        self._client: AsyncOpenAI | None = None

    async def __aenter__(self) -> Judge:
        """Open the connections."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def tool_relevance(self, query: str, tool: ToolSpec) -> str | None:
        """Relevant, Irrelevant or Unsure; None: given up."""
        return await self.ask(TOOL_RELEVANCE, about_tool(query, tool))

    async def calling_truthfulness(
        self, history: Sequence[str], tool: ToolSpec, call: ToolCall, *, missing: bool = False
    ) -> str | None:
        """Truthful, Untruthful or Unsure (which counts as truthful); None: given up."""
        return await self.ask(CALLING_TRUTHFULNESS, about_call(history, tool, call, missing=missing))

    async def answer_relevance(self, responses: Sequence[str], answer: str) -> str | None:
        """Relevant, Irrelevant or Unsure; None: given up."""
        return await self.ask(ANSWER_RELEVANCE, about_answer(responses, answer))

    async def ask(self, question: Question, parts: dict[str, str]) -> str | None:
        """One of the question's choices; None: given up. Never raises.

        Args:
            question: what is asked.
            parts: title and text of what the judge sees.
        """
        messages = question.messages(parts)
        key = _key(self.model, messages)
        async with self._asked.setdefault(key, asyncio.Lock()):
            known = self._cache.get(key)
            if known in question.choices:
                return known
            async with self._slots:
                answer = await self._ask(question, messages)
        if answer is not None:
            self._cache.put(key, answer)
        return answer

    async def _ask(self, question: Question, messages: list[dict[str, str]]) -> str | None:
        reason = ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                await asyncio.sleep(self._pause * 2 ** (attempt - 1))
            if self.budget.is_spent:
                return self._give_up("the budget is spent")
            if self._failures_in_a_row >= self._max_failures:
                return self._give_up("no answer to those before")
            text, reason, may_retry = await self._request(messages)
            if text is not None:
                answer = choice_in(text, question.choices)
                if answer is not None:
                    self._failures_in_a_row = 0
                    return answer
                reason = "the answer is none of the choices"
                messages = [
                    *messages,
                    {"role": "assistant", "content": text},
                    {"role": "user", "content": f"Answer with exactly one word: {', '.join(question.choices)}."},
                ]
            elif not may_retry:
                break
        return self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self.failures[reason] += 1
        self._failures_in_a_row += 1
        if self.failures[reason] == 1:
            _log.warning("%s: a question was given up: %s; more of that kind are counted", self.url, reason)

    async def _request(self, messages: list[dict[str, str]]) -> tuple[str | None, str, bool]:
        """The text of one completion; else why there is none, and whether a further try may help."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        self.budget.num_requests += 1
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self._max_answer_tokens,
        }
        try:
            # Read raw: what an endpoint answers need not be what the client's types promise.
            response = await self._connected().chat.completions.with_raw_response.create(**request)
            body: Json = json.loads(response.text)
        except APIConnectionError as error:
            self._pay(messages, "", {})
            return None, type(error).__name__, True
        except APIStatusError as error:
            self._pay(messages, "", {})
            return None, f"status {error.status_code}", error.status_code in (408, 409, 429) or error.status_code >= 500
        except (OpenAIError, ValueError, RecursionError) as error:
            self._pay(messages, "", {})
            return None, f"{type(error).__name__}: no completion", True
        text = _text_of(body)
        self._pay(messages, text or "", body)
        return text, "the completion holds no text", True

    def _pay(self, messages: list[dict[str, str]], text: str, body: Json) -> None:
        usage = body.get("usage") if isinstance(body, dict) else None
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        if not isinstance(total, int) or total < 0:
            total = (sum(len(message["content"]) for message in messages) + len(text)) // CHARACTERS_PER_TOKEN
        self.budget.num_tokens += total

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            # Each try is counted here, so the client makes one.
            self._client = client_of(self.url, timeout=self._timeout, max_retries=0)
        return self._client


def choice_in(text: str, choices: Sequence[str]) -> str | None:
    """The one choice that an answer names, after any reasoning; None: none, or several."""
    said = _REASONING.sub(" ", text)
    named = {choice for choice in choices if re.search(rf"\b{re.escape(choice)}\b", said, re.IGNORECASE)}
    return named.pop() if len(named) == 1 else None


def _key(model: str, messages: list[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps([model, messages]).encode()).hexdigest()


def _text_of(body: Json) -> str | None:
    try:
        text = body["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallJudgement:
    """What the judge says of one call."""

    turn: int
    call: int
    label: str | None
    """Truthful, Untruthful or Unsure; None: the judge gave up."""


async def judge_calls(
    judge: Judge, trajectory: Trajectory, *, leave_out: Container[tuple[int, int]] = ()
) -> list[CallJudgement]:
    """The truthfulness of every call that could be made: an offered tool, no action, at least one argument.

    Args:
        judge: whom to ask.
        trajectory: the episode.
        leave_out: turn and position of calls not to ask about.
    """
    places: list[tuple[int, int]] = []
    questions: list[Coroutine[Any, Any, str | None]] = []
    for index, turn in enumerate(trajectory.turns):
        offered = {tool.name: tool for tool in trajectory.offered_tools(index)}
        for number, call in enumerate(turn.message.calls):
            if not isinstance(call, ToolCall) or not call.arguments or call.name in ACTION_NAMES:
                continue
            if call.name in offered and (index, number) not in leave_out:
                places.append((index, number))
                missing = trajectory.task.kind == TaskKind.MISSING_ARGUMENT
                history = texts_before(trajectory, index)
                questions.append(judge.calling_truthfulness(history, offered[call.name], call, missing=missing))
    labels = await asyncio.gather(*questions)
    return [
        CallJudgement(turn=turn, call=call, label=label) for (turn, call), label in zip(places, labels, strict=True)
    ]


class JudgeReward:
    """On each turn the share of its calls, among all of the episode, that an LLM does not find untruthful.

    So an episode earns 1 if no value of its calls was made up. Unscored: a question that the judge gave up, failures of
    the infrastructure, and episodes without a call to judge. As pure as the model behind it is deterministic: answers
    are cached.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        cache: str | None = None,
        max_requests: int = 10_000,
        max_tokens: int = 10_000_000,
        max_retries: int = 3,
        timeout: float = 60.0,
        pause: float = 0.5,
    ) -> None:
        """Say whom to ask, as `Judge`; the budget is that of all episodes together.

        Raises:
            ValueError: the cache cannot be used.
        """
        self._url, self._model = url, model
        self._cache = AnswerCache(cache)
        self.budget = Budget(max_requests=max_requests, max_tokens=max_tokens)
        self._max_retries, self._timeout, self._pause = max_retries, timeout, pause

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        per_turn = np.zeros(len(trajectory.turns), dtype=np.float32)
        if trajectory.ending.is_failure:
            return Score(per_turn=per_turn, unscored=f"infrastructure: {trajectory.ending}")
        judged = _run(self._judged(trajectory))
        given_up = sum(judgement.label is None for judgement in judged)
        if given_up or not judged:
            reason = f"the judge gave up {given_up} of {len(judged)} calls" if judged else "no call to judge"
            return Score(per_turn=per_turn, unscored=reason)
        errors: list[CallError] = []
        for judgement in judged:
            if judgement.label == "Untruthful":
                errors.append(
                    CallError(
                        turn=judgement.turn,
                        call=judgement.call,
                        kind=ErrorKind.UNGROUNDED_VALUE,
                        detail="untruthful, says the judge",
                    )
                )
            else:
                per_turn[judgement.turn] += 1 / len(judged)
        return Score(per_turn=per_turn, errors=tuple(errors), parts={"truthful": float(per_turn.sum())})

    async def _judged(self, trajectory: Trajectory) -> list[CallJudgement]:
        judge = Judge(
            self._url,
            self._model,
            budget=self.budget,
            cache=self._cache,
            max_retries=self._max_retries,
            timeout=self._timeout,
            pause=self._pause,
        )
        async with judge:
            return await judge_calls(judge, trajectory)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine, also where the caller itself runs in an event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()
