"""A policy behind any OpenAI-compatible endpoint; openai is imported only when it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envs.benchmarks.dialogues import to_openai
from envs.types import Call, Json, MalformedCall, Message, ToolSpec
from rollout.engine import EngineFailed
from rollout.parsers import PARSERS

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"
"""Sent where OPENAI_API_KEY is not set: servers of one's own ask for none, but the client wants one."""


class EndpointPolicy:
    """Replies by chat completions with tools.

    What the endpoint does wrong (no connection, an error, no message) is a failure of the infrastructure; what the
    model writes wrong (arguments that are no JSON object) is a malformed call.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        seed: int | None = None,
        timeout: float = 60.0,
        max_retries: int = 3,
        options: Mapping[str, Json] | None = None,
    ) -> None:
        """Connect to `url`; the key is taken from OPENAI_API_KEY.

        Args:
            url: base of the API, such as http://localhost:8000/v1.
            model: its name at the endpoint.
            temperature: 0 is greedy.
            max_tokens: of one reply.
            seed: of sampling, where the endpoint heeds it.
            timeout: seconds that one try may take.
            max_retries: further tries after a refused connection, a timeout, a rate limit or an error of the server.
            options: further fields of the request.
        """
        self.model = model
        self._url = url
        self._timeout = timeout
        self._max_retries = max_retries
        self._request = {"temperature": temperature, "max_tokens": max_tokens, **(options or {})}
        if seed is not None:
            self._request["seed"] = seed
        self._opened: AsyncOpenAI | None = None

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Message:
        """The next assistant message.

        Raises:
            EngineFailed: the endpoint gave no message, all tries included.
        """
        from openai import OpenAIError

        request: dict[str, Any] = {"model": self.model, "messages": openai_messages(messages), **self._request}
        if tools:
            request["tools"] = [{"type": "function", "function": tool.to_json()} for tool in tools]
        try:
            completion = await self._client().chat.completions.create(**request)
        except (OpenAIError, ValueError) as error:
            raise EngineFailed(f"{self._url}: {type(error).__name__}: {error}") from error
        message = _message_of(completion)
        if message is None:
            raise EngineFailed(f"{self._url}: the completion holds no message")
        taken = sum(len(earlier.calls) for earlier in messages)
        return message_of_endpoint(message, start=taken)

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.close()

    def _client(self) -> AsyncOpenAI:
        if self._opened is None:
            self._opened = client_of(self._url, timeout=self._timeout, max_retries=self._max_retries)
        return self._opened


def client_of(url: str, *, timeout: float, max_retries: int) -> AsyncOpenAI:
    """A client of an endpoint, with the key in OPENAI_API_KEY if there is one."""
    from openai import AsyncOpenAI

    api_key = os.environ.get("OPENAI_API_KEY") or NO_KEY
    return AsyncOpenAI(base_url=url, api_key=api_key, timeout=timeout, max_retries=max_retries)


def _message_of(completion: Any) -> Mapping[str, Json] | None:
    """The first choice's message; None if the answer was something else than a completion."""
    dump = getattr(completion, "model_dump", None)
    choices = dump(warnings=False).get("choices") if dump is not None else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    return message if isinstance(message, Mapping) else None


def message_of_endpoint(message: Mapping[str, Json], start: int = 0) -> Message:
    """An assistant message in OpenAI form; calls that cannot be read become malformed calls.

    Args:
        message: `content` and `tool_calls`.
        start: number of the first call, for those without an id.
    """
    return Message(
        role="assistant",
        content=_text(message.get("content")),
        calls=tuple(_calls(message.get("tool_calls"), start)),
    )


def _text(content: Json) -> str:
    """The words of a message: a text, or parts of which some are text."""
    if isinstance(content, (list, tuple)):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _calls(entries: Json, start: int) -> Iterator[Call]:
    if not isinstance(entries, (list, tuple)):
        # Something that should have been a list of calls is one call that cannot be read.
        entries = [entries] if entries else []
    for number, entry in enumerate(entries, start=start):
        entry = entry if isinstance(entry, Mapping) else {}
        call_id = str(entry.get("id") or f"call_{number}")
        function = entry.get("function")
        yield _call(call_id, function if isinstance(function, Mapping) else {})


def _call(call_id: str, function: Mapping[str, Json]) -> Call:
    """The strict JSON of our own grammar decides what can be read, so that endpoint and engine are judged alike."""
    name, arguments = function.get("name"), function.get("arguments")
    if isinstance(arguments, Mapping):
        arguments = json.dumps(arguments)
    text = f'{{"name": {json.dumps(name)}, "arguments": {arguments or "{}"}}}'
    parsed = PARSERS["hermes"].parse(f"<tool_call>\n{text}\n</tool_call>")
    reasons = [call.reason for call in parsed.calls if isinstance(call, MalformedCall)]
    if len(parsed.calls) == 1 and not reasons and not parsed.content:
        return replace(parsed.calls[0], call_id=call_id)
    return MalformedCall(call_id=call_id, text=text, reason=reasons[0] if reasons else "not one call")


def openai_messages(messages: Sequence[Message]) -> list[dict[str, Json]]:
    """A conversation as the endpoint wants it. A malformed call, which has no form there, is shown as text."""
    return [_openai_message(message) for message in _answerable(messages)]


def _openai_message(message: Message) -> dict[str, Json]:
    value = to_openai(message)
    broken = [call.text for call in message.calls if isinstance(call, MalformedCall)]
    if broken:
        value["content"] = "\n".join([message.content] * bool(message.content) + broken)
    return value


def _answerable(messages: Sequence[Message]) -> Iterator[Message]:
    """Results of malformed calls come from the user, after those of the calls that the endpoint knows."""
    malformed = {call.call_id for message in messages for call in message.calls if isinstance(call, MalformedCall)}
    waiting: list[Message] = []
    for message in messages:
        if message.role == "tool" and message.call_id in malformed:
            waiting.append(Message(role="user", content=message.content))
            continue
        if message.role != "tool":
            yield from waiting
            waiting.clear()
        yield message
    yield from waiting
