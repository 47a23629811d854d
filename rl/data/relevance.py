"""What a language model says of tools that are taken for irrelevant to a request; for code that is not async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from envs.types import ToolSpec
from rewards.judge import AnswerCache, Budget, Judge
from rl.errors import RunFailed

MAX_TOKENS = 10**9
"""The number of requests is what limits the cost."""


class JudgedIrrelevance:
    """Relign's question of a tool's relevance, asked of a model behind an endpoint."""

    def __init__(self, judge: Judge, runner: asyncio.Runner) -> None:
        self._judge = judge
        self._runner = runner

    def __call__(self, request: str, tools: Sequence[ToolSpec]) -> list[bool]:
        """Whether each tool surely has nothing to do with the request; "Unsure" is not sure.

        Raises:
            RunFailed: the judge gave a question up.
        """
        answers = self._runner.run(self._ask(request, tools))
        if None in answers:
            reason = ", ".join(self._judge.failures)
            raise RunFailed(f"{self._judge.url}: the judge gave up: {reason}; the same command goes on from here")
        return [answer == "Irrelevant" for answer in answers]

    async def _ask(self, request: str, tools: Sequence[ToolSpec]) -> list[str | None]:
        return await asyncio.gather(*(self._judge.tool_relevance(request, tool) for tool in tools))


@contextmanager
def judged_irrelevance(url: str, model: str, *, max_requests: int) -> Iterator[JudgedIrrelevance]:
    """Open a judge.

    Args:
        url: base of the API; the key is taken from OPENAI_API_KEY.
        model: its name at the endpoint.
        max_requests: what it may cost, every try counted.
    """
    with asyncio.Runner() as runner:
        # Made in the loop: its locks belong to one.
        judge = runner.run(_made(url, model, max_requests))
        try:
            yield JudgedIrrelevance(judge, runner)
        finally:
            runner.run(judge.__aexit__())


async def _made(url: str, model: str, max_requests: int) -> Judge:
    budget = Budget(max_requests=max_requests, max_tokens=MAX_TOKENS)
    return Judge(url, model, budget=budget, cache=AnswerCache(None))
