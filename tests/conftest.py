from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A loaded machine makes no test fail: neither a slow example nor a slow way to one says anything about the code.
settings.register_profile("tether", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tether")

TEMPLATE = Path(__file__).resolve().parent.parent / "rollout" / "tiny_template.jinja"

LINES = [
    "book_flight(city: string, days: integer, class?: economy|business, date: date)",
    "get_weather(city: string, days?: integer)",
    "Please book a flight to Oslo on 2026-03-01 for 3 days.",
    '{"name": "book_flight", "arguments": {"city": "Oslo", "days": 3}}',
    '{"name": "finish", "arguments": {"answer": "done"}}',
    "system user assistant tool",
]


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer of a few lines, with the tiny model's special tokens and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            "</tool_response>",
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(LINES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=1024
    )
    tokenizer.chat_template = TEMPLATE.read_text()
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Shared: do not change it; `make_tokenizer` of the folder's conftest gives one of your own."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def renderer(tokenizer: Any) -> Any:
    from rollout.renderer import ChatTemplateRenderer

    return ChatTemplateRenderer(tokenizer, max_context=1024)


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder of public benchmark data: TETHER_DATA, or ../shared/data beside the repository."""
    repository = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("TETHER_DATA", repository / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark data: {folder} is no folder")
    return folder


class JsonServer:
    """A server in this process: answers each POST of JSON by a function, and keeps what it was asked."""

    def __init__(self, reply: Callable[[Any], tuple[int, Any]]) -> None:
        self.reply = reply
        """Request -> status and body: JSON, or a text or bytes as they are."""
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(request)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, body = server.reply(request)
                is_json = not isinstance(body, str | bytes)
                text = json.dumps(body) if is_json else body
                data = text.encode() if isinstance(text, str) else text
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if is_json else "text/html")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Nobody answers there any more. May be called again."""
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def completion(message: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The body with which an OpenAI-compatible endpoint gives one message."""
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], **more}


@pytest.fixture
def json_server() -> Iterator[Callable[..., JsonServer]]:
    """Starts servers that are closed with the test."""
    started: list[JsonServer] = []

    def start(reply: Callable[[Any], tuple[int, Any]]) -> JsonServer:
        started.append(JsonServer(reply))
        return started[-1]

    yield start
    for server in started:
        server.close()
