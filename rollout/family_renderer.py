"""The second renderer: Prime Intellect's `renderers`, written by hand for one model family at a time.

Its bridges keep sampled tokens as they are and know a family's reasoning blocks, which the chat template forgets.
Here for Qwen3. Reasoning stays in the tokens and out of the message: what a model drafts there is no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.types import Call, MalformedCall, Message, ToolSpec
from rollout.parsers import CallPlace, HermesParser, ParsedTurn
from rollout.renderer import load_renderer, numbered, openai_message, openai_tools, special_pattern
from rollout.token_places import TokenPlaces

_QUESTION = Message(role="user", content="x")


class Qwen3Renderer:
    """Renders for Qwen3.

    Args:
        tokenizer: a tokenizer with Qwen3's special tokens.
        max_context: tokens of prompt and answers together that the model can take.
        enable_thinking: whether the model reasons before it answers.
    """

    def __init__(self, tokenizer: Any, max_context: int = 4096, enable_thinking: bool = False) -> None:
        try:
            from renderers.configs import Qwen3RendererConfig
            from renderers.qwen3 import Qwen3Renderer as Family
        except ImportError as error:
            raise ValueError("this renderer needs the package `renderers`: pip install renderers") from error
        missing = {"<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "</think>"} - set(tokenizer.get_vocab())
        if missing:
            raise ValueError(f"not a tokenizer of Qwen3: it has no {', '.join(sorted(missing))}")
        self.tokenizer = tokenizer
        self.parser = HermesParser()
        self.max_context = max_context
        self._special = special_pattern(tokenizer)
        self._token_places = TokenPlaces(self.decode)
        config = Qwen3RendererConfig(enable_thinking=enable_thinking, thinking_retention="all")
        self._family = Family(tokenizer, config)
        self._stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.stop_token_ids = (self._stop,)
        self._question = self.prompt([_QUESTION], [])

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of the conversation before the policy's turn, generation prompt included."""
        offered: list[Any] | None = openai_tools(tools)
        return self._family.render_ids(self._sent(messages), tools=offered, add_generation_prompt=True)

    def observation(self, messages: Sequence[Message]) -> list[int]:
        """Tokens to append after a turn that ended with the stop token, generation prompt included."""
        sampled = [*self.encode("x"), self._stop]
        bridged = self._family.bridge_to_next_turn(self._question, sampled, self._sent(messages))
        if bridged is None:
            raise ValueError(f"no bridge over {[message.role for message in messages]} messages")
        return list(bridged.token_ids[len(self._question) + len(sampled) :])

    def assistant(self, message: Message) -> list[int]:
        """Tokens of a turn that nobody sampled, stop token included."""
        whole = self._family.render_ids(self._sent([_QUESTION, message, _QUESTION]))
        if whole[: len(self._question)] != self._question:
            raise ValueError("an assistant turn is not rendered after its own generation prompt")
        turn = whole[len(self._question) :]
        return turn[: turn.index(self._stop) + 1]

    def parse(self, token_ids: Sequence[int], start: int = 0) -> Message:
        """The assistant message that sampled tokens stand for, its calls named call_<start>, ...; never raises."""
        turn = self._read(list(token_ids))
        return numbered(Message(role="assistant", content=turn.content, calls=turn.calls), start)

    def places(self, token_ids: Sequence[int], at: int = 0) -> tuple[CallPlace, ...]:
        """Where the parts of each call of `parse(token_ids)` stand, in tokens, the first one being number `at`."""
        ids = list(token_ids)
        try:
            response = self._family.parse_response(ids)
        except (ValueError, RecursionError):
            hidden, text = self._spoken(ids)
            places = [
                place.moved(lambda span: (span[0] + hidden, span[1] + hidden))
                for place in self.parser.locate(text[hidden:])
            ]
            return self._token_places.in_tokens(places, text, ids, at)
        return tuple(self._place(ids, attempt.token_span, at) for attempt in response.tool_calls)

    def _place(self, token_ids: list[int], attempt: tuple[int, int] | None, at: int) -> CallPlace:
        first, last = attempt or (0, len(token_ids))
        block = token_ids[first:last]
        text = self.decode(block)
        places = self.parser.locate(text)
        if len(places) != 1:
            return CallPlace(span=(at + first, at + last))
        return self._token_places.in_tokens(places, text, block, at + first)[0]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special tokens included."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def encode(self, text: str) -> list[int]:
        """The tokens of text, without any that the tokenizer likes to add."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _sent(self, messages: Sequence[Message]) -> list[Any]:
        return [openai_message(message, self.parser, self._special) for message in messages]

    def _read(self, token_ids: list[int]) -> ParsedTurn:
        try:
            response = self._family.parse_response(token_ids)
        except (ValueError, RecursionError):  # It reads JSON without guarding against depth and size.
            hidden, text = self._spoken(token_ids)
            return self.parser.parse(text[hidden:])
        calls = tuple(self._call(attempt.raw, str(attempt.status)) for attempt in response.tool_calls)
        return ParsedTurn(content=response.content.strip(), calls=calls, spans=((0, 0),) * len(calls))

    def _spoken(self, token_ids: list[int]) -> tuple[int, str]:
        """The text of a turn, and how much of it is reasoning."""
        text = self.decode(token_ids).removesuffix("<|im_end|>")
        return len(text) - len(text.rpartition("</think>")[2]), text

    def _call(self, body: str, status: str) -> Call:
        """The family's parser finds the attempts; ours says which are calls, for it is stricter about JSON."""
        text = f"{self.parser.opening}\n{body}\n{self.parser.closing}"
        if status == "unclosed_block":
            return MalformedCall(text=f"{self.parser.opening}\n{body}", reason=f"unclosed {self.parser.opening}")
        turn = self.parser.parse(text)
        return turn.calls[0] if len(turn.calls) == 1 else MalformedCall(text=text, reason=status)


def load_qwen3_renderer(
    model_path: str | Path, *, max_context: int | None = None, enable_thinking: bool = False
) -> Qwen3Renderer:
    """The renderer of a Qwen3 model folder.

    Raises:
        ValueError: the folder has no usable tokenizer or context length, or `renderers` is not installed.
    """
    loaded = load_renderer(model_path, max_context=max_context)
    return Qwen3Renderer(loaded.tokenizer, loaded.max_context, enable_thinking)
