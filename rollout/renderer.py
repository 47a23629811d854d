"""Messages <-> token ids, append-only: what was sampled is never tokenised again.

    prompt(messages, tools) + sampled tokens + observation(messages) + sampled tokens + ...

is, token by token, the chat template's own rendering of the whole conversation. That is a property of the template,
not of this file, so `prove_prefix_property` tries it before a run starts.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from envs.types import Json, MalformedCall, Message, Role, ToolCall, ToolSpec
from rollout.parsers import CallPlace, HermesParser, Parser
from rollout.token_places import TokenPlaces

MARKER = "zqmarkerqz"
"""Stands in the throw-away conversations that the deltas are cut from."""

PROBES = ("", ' \n"\\ {{ x }} <b>\u00fc</b>\t\n ', '{"a": [1]}')
"""Contents that a template which trims, escapes or reads its messages would change."""

CACHED_PROMPTS = 256


class Renderer(Protocol):
    """Messages <-> token ids of one model family."""

    @property
    def max_context(self) -> int:
        """Tokens of prompt and answers together that the model can take."""
        ...

    @property
    def parser(self) -> Parser:
        """The grammar in which calls are written."""
        ...

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The token that ends a turn comes first."""
        ...

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of the conversation before the policy's turn, generation prompt included."""
        ...

    def observation(self, messages: Sequence[Message]) -> list[int]:
        """Tokens to append after a turn that ended with the stop token, generation prompt included."""
        ...

    def assistant(self, message: Message) -> list[int]:
        """Tokens of a turn that nobody sampled, stop token included."""
        ...

    def parse(self, token_ids: Sequence[int], start: int = 0) -> Message:
        """The assistant message that sampled tokens stand for, its calls named call_<start>, ...; never raises."""
        ...

    def places(self, token_ids: Sequence[int], at: int = 0) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(token_ids)` stand, in tokens, the first one being number `at`.

        Never raises.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special tokens included."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of text, without any that the tokenizer likes to add."""
        ...


class ChatTemplateRenderer:
    """Renders through the chat template of a Hugging Face tokenizer.

    Args:
        tokenizer: anything with `apply_chat_template`, `encode`, `decode` and a chat template.
        parser: reads the calls that the template writes.
        max_context: tokens of prompt and answers together that the model can take.
        template_options: further variables of the template, such as `enable_thinking`.
    """

    def __init__(
        self,
        tokenizer: Any,
        parser: Parser | None = None,
        max_context: int = 4096,
        template_options: dict[str, Json] | None = None,
    ) -> None:
        if not tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template; set tokenizer.chat_template")
        self.tokenizer = tokenizer
        self.parser = parser or HermesParser()
        self.max_context = max_context
        self._options = template_options or {}
        self._token_places = TokenPlaces(self.decode)
        self._prompts: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._writes_as_parser = False
        self._frames: dict[tuple[Role, ...], list[str] | None] = {}
        self._special = special_pattern(tokenizer)
        user = Message(role="user", content=MARKER)
        self._question = self.render([user], generation_prompt=True)
        asked = self.render([user])
        self._follow_up = self.render([user, Message(role="assistant", content=MARKER), user])[
            len(self.render([user, Message(role="assistant", content=MARKER)])) :
        ]
        if not self._question.startswith(asked) or not self._follow_up:
            raise ValueError("the chat template is not append-only: a message changes what stands before it")
        self.stop = self._stop()
        self.stop_token_ids = (self._stop_id(),)
        self._writes_as_parser = self._parser_writes_as_template()

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of the conversation before the policy's turn, generation prompt included."""
        key = repr((messages, tools))
        token_ids = self._prompts.get(key)
        if token_ids is None:  # The episodes of a group ask for the same prompt.
            token_ids = self._prompts[key] = tuple(self.encode(self.render(messages, tools, generation_prompt=True)))
            if len(self._prompts) > CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return list(token_ids)

    def observation(self, messages: Sequence[Message]) -> list[int]:
        """Tokens to append after a turn that ended with the stop token, generation prompt included."""
        return self.encode(self.observation_text(messages))

    def assistant(self, message: Message) -> list[int]:
        """Tokens of a turn that nobody sampled, stop token included."""
        return self.encode(self.assistant_text(message))

    def parse(self, token_ids: Sequence[int], start: int = 0) -> Message:
        """The assistant message that sampled tokens stand for.

        Args:
            token_ids: one completion, with or without the stop token.
            start: number of the first call; calls are named call_<number>.
        """
        turn = self.parser.parse(self._without_stop(token_ids))
        return numbered(Message(role="assistant", content=turn.content, calls=turn.calls), start)

    def places(self, token_ids: Sequence[int], at: int = 0) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(token_ids)` stand, in tokens, the first one being number `at`."""
        text = self._without_stop(token_ids)
        return self._token_places.in_tokens(self.parser.locate(text), text, token_ids, at)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special tokens included."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def encode(self, text: str) -> list[int]:
        """The tokens of text, without any that the tokenizer likes to add."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        generation_prompt: bool = False,
    ) -> str:
        """The template's own text of a whole conversation.

        Raises:
            ValueError: the template refuses it.
        """
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(
                [openai_message(message, self.parser, self._special) for message in messages],
                tools=openai_tools(tools),
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **self._options,
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses a conversation: {error}") from error

    def observation_text(self, messages: Sequence[Message]) -> str:
        """Text to append after the stop token; cut from a short conversation, so that history costs nothing."""
        roles: tuple[Role, ...] = tuple(message.role for message in messages)
        if roles not in self._frames:
            self._frames[roles] = self._frame(roles)
        frame = self._frames[roles]
        if frame is None:
            return self._cut_observation(messages)
        contents = [defuse(message.content, self._special) for message in messages] + [""]
        return "".join(piece for pair in zip(frame, contents, strict=True) for piece in pair)

    def _cut_observation(self, messages: Sequence[Message]) -> str:
        answered = [message for message in messages if message.role == "tool"]
        markers = [f"{MARKER}{index}" for index in range(len(answered))]
        calls = tuple(
            ToolCall(name=marker, arguments={}, call_id=message.call_id or marker)
            for marker, message in zip(markers, answered, strict=True)
        )
        turn = Message(role="assistant", content="" if calls else MARKER, calls=calls)
        text = self.render([Message(role="user", content="x"), turn, *messages], generation_prompt=True)
        return text[self._end_of_turn(text, markers[-1] if markers else MARKER) :]

    def _frame(self, roles: tuple[Role, ...]) -> list[str] | None:
        """What stands around the contents of messages with these roles; None if the template changes contents."""
        if "assistant" in roles:
            return None
        contents = [f"zqcontent{index}zq" for index in range(len(roles))]
        text = self._cut_observation(_filled(roles, contents))
        frame = re.split("zqcontent[0-9]+zq", text)
        if re.findall("zqcontent[0-9]+zq", text) != contents:
            return None
        for probe in PROBES:
            if probe.join(frame) != self._cut_observation(_filled(roles, [probe] * len(roles))):
                return None
        return frame

    def assistant_text(self, message: Message) -> str:
        """Text of a turn after the generation prompt, stop token included."""
        return self._written_turn(message) if self._writes_as_parser else self._rendered_turn(message)

    def _parser_writes_as_template(self) -> bool:
        """Whether a turn need not go through the template, which is slow."""
        try:
            return all(self._rendered_turn(turn) == self._written_turn(turn) for turn in _trial_turns())
        except ValueError:
            return False

    def _written_turn(self, message: Message) -> str:
        return self.parser.format(message.content, message.calls) + self.stop

    def _rendered_turn(self, message: Message) -> str:
        user = Message(role="user", content=MARKER)
        text = self.render([user, message, user])
        if not text.startswith(self._question) or not text.endswith(self._follow_up):
            raise ValueError("the chat template does not render an assistant turn after its own generation prompt")
        text = text[len(self._question) : len(text) - len(self._follow_up)]
        return text[: text.rindex(self.stop) + len(self.stop)]

    def _end_of_turn(self, text: str, marker: str) -> int:
        return text.index(self.stop, text.index(marker)) + len(self.stop)

    def _without_stop(self, token_ids: Sequence[int]) -> str:
        return self.decode(token_ids).removesuffix(self.stop)

    def _stop(self) -> str:
        """The text that ends an assistant turn: the first special token after it."""
        text = self.render([Message(role="user", content="x"), Message(role="assistant", content=MARKER)])
        tail = text[text.index(MARKER) + len(MARKER) :]
        match = self._special.search(tail)
        if match is None:
            raise ValueError(f"the chat template ends an assistant turn by no special token, but by {tail!r}")
        return match[0]

    def _stop_id(self) -> int:
        token_ids = self.encode(self.stop)
        if len(token_ids) != 1:
            raise ValueError(f"the end of turn {self.stop!r} is not one token, but {token_ids}")
        return token_ids[0]


def _filled(roles: Sequence[Role], contents: Sequence[str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in zip(roles, contents, strict=True)]


def special_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Finds the special tokens of a tokenizer in text."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    texts = sorted({*added, *tokenizer.all_special_tokens} - {""}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)) or "(?!)")


def defuse(content: str, special: re.Pattern[str]) -> str:
    """A user or a tool must not be able to write the tokens that end its message."""
    return special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", content)


def openai_message(message: Message, parser: Parser, special: re.Pattern[str]) -> dict[str, Json]:
    """A message as chat templates take it: malformed calls as text, foreign special tokens defused."""
    if message.role != "assistant":
        value: dict[str, Json] = {"role": message.role, "content": defuse(message.content, special)}
        return value | ({"tool_call_id": message.call_id} if message.call_id else {})
    if any(isinstance(call, MalformedCall) for call in message.calls):
        return {"role": "assistant", "content": parser.format(message.content, message.calls)}
    calls = [
        {"type": "function", "id": call.call_id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
        for call in message.calls
        if isinstance(call, ToolCall)
    ]
    return {"role": "assistant", "content": message.content} | ({"tool_calls": calls} if calls else {})


def openai_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Json]] | None:
    """Tools as chat templates take them."""
    return [{"type": "function", "function": tool.to_json()} for tool in tools] or None


def numbered(message: Message, start: int) -> Message:
    """The message with its calls named call_<start>, call_<start + 1>, ..."""
    calls = tuple(_named(call, f"call_{start + index}") for index, call in enumerate(message.calls))
    return Message(role=message.role, content=message.content, calls=calls)


def load_renderer(
    model_path: str | Path,
    *,
    parser: Parser | None = None,
    max_context: int | None = None,
    template_options: dict[str, Json] | None = None,
) -> ChatTemplateRenderer:
    """The renderer of a model folder.

    Args:
        model_path: the folder.
        parser: reads the calls that the template writes; None: Hermes.
        max_context: at most so many tokens of prompt and answers; a model that takes fewer keeps its own limit.
        template_options: further variables of the template, such as `enable_thinking`.

    Raises:
        ValueError: the folder has no usable tokenizer, chat template or context length.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{model_path}: cannot load a tokenizer: {error}") from error
    limits = [limit for limit in (context_length(model_path), max_context) if limit]
    if not limits:
        # Transformers writes a huge number where the length is not known.
        if tokenizer.model_max_length is None or tokenizer.model_max_length > 10**9:
            raise ValueError(f"{model_path}: neither config.json nor the tokenizer says the context length")
        limits = [tokenizer.model_max_length]
    return ChatTemplateRenderer(tokenizer, parser, min(limits), template_options)


def context_length(model_path: str | Path) -> int | None:
    """Tokens the model takes, if its config.json says so."""
    path = Path(model_path) / "config.json"
    return json.loads(path.read_text()).get("max_position_embeddings") if path.is_file() else None


def prove_prefix_property(renderer: Renderer) -> None:
    """Try on conversations with tool turns that appending gives the whole rendering, and that turns read back.

    Raises:
        ValueError: they differ; the message shows where.
    """
    for messages, tools in _trial_conversations():
        _prove_appending(renderer, messages, tools)
    for message in _trial_turns():
        read = renderer.parse(renderer.assistant(message))
        if _unnamed(read) != _unnamed(message):
            raise ValueError(
                f"a turn does not read back as it was written:\n  wrote {message.to_json()}\n  read  {read.to_json()}"
            )


def _prove_appending(renderer: Renderer, messages: list[Message], tools: list[ToolSpec]) -> None:
    first = next(index for index, message in enumerate(messages) if message.role == "assistant")
    appended = renderer.prompt(messages[:first], tools)
    position = first
    while position < len(messages):
        appended += renderer.assistant(messages[position])
        after = position + 1
        while after < len(messages) and messages[after].role != "assistant":
            after += 1
        appended += renderer.observation(messages[position + 1 : after])
        _expect_equal(renderer.prompt(messages[:after], tools), appended, renderer)
        position = after


def _expect_equal(whole: list[int], appended: list[int], renderer: Renderer) -> None:
    if whole == appended:
        return
    pairs = enumerate(zip(whole, appended, strict=False))
    at = next((index for index, (one, other) in pairs if one != other), min(len(whole), len(appended)))
    start, end = max(0, at - 20), at + 20
    what = "tokens (their text is the same)" if renderer.decode(whole) == renderer.decode(appended) else "text"
    raise ValueError(
        f"the rendering is not append-only: {what} differ from token {at} on\n"
        f"  whole:    {renderer.decode(whole[start:end])!r} {whole[at:end]}\n"
        f"  appended: {renderer.decode(appended[start:end])!r} {appended[at:end]}"
    )


def _named(call: ToolCall | MalformedCall, call_id: str) -> ToolCall | MalformedCall:
    if isinstance(call, ToolCall):
        return ToolCall(call_id=call_id, name=call.name, arguments=call.arguments)
    return MalformedCall(call_id=call_id, text=call.text, reason=call.reason)


def _unnamed(message: Message) -> Message:
    calls = tuple(_named(call, "") for call in message.calls)
    return Message(role=message.role, content=message.content, calls=calls)


def _trial_turns() -> list[Message]:
    one = ToolCall(name="get_weather", arguments={"city": "Z\u00fcrich", "days": 2})
    other = ToolCall(
        name="get_weather", arguments={"city": "\u6771\u4eac", "units": {"deep": [1, 2.5, None, True, ""]}}
    )
    return [
        Message(role="assistant", content="It will rain."),
        Message(role="assistant", calls=(one,)),
        Message(role="assistant", calls=(one, other)),
        Message(role="assistant", content="Let me look \u2026 \U0001f327", calls=(other,)),
        Message(role="assistant", calls=(ToolCall(name="now", arguments={}),)),
        Message(role="assistant", content='Two\n\nlines: <b>"x"</b> {{ x }}'),
    ]


def _trial_conversations() -> list[tuple[list[Message], list[ToolSpec]]]:
    tool = ToolSpec(
        name="get_weather",
        description="The weather in a city.",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    )
    said, single, parallel, spoken, bare, lines = (numbered(turn, 0) for turn in _trial_turns())
    system = Message(role="system", content="Be brief.")
    user = Message(role="user", content="Weather in Z\u00fcrich and \u6771\u4eac?\n\nThanks!")
    results = [
        Message(role="tool", content='{"rain": true, "mm": 3.5}', call_id="call_0"),
        Message(role="tool", content="\u6771\u4eac: \u2600\n", call_id="call_1"),
    ]
    empty = Message(role="tool", content="", call_id="call_0")
    more = Message(role="user", content="And tomorrow?")
    return [
        ([user, single, results[0], parallel, *results, spoken, empty], [tool]),
        ([system, user, parallel, *results, bare, empty], [tool]),
        ([system, user, said, more, single, results[0]], []),
        ([user, lines, more], [tool]),
    ]
