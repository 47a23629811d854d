import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from envs.detection import http
from envs.detection.http import post
from envs.detection.matching import EndpointMatcher, Match, OverlapMatcher, Support
from envs.detection.search import CorpusSearch, EndpointSearch, Passage, read_corpus
from envs.types import ToolError

EIFFEL = "The Eiffel Tower is a tower in Paris. It was completed in 1889. It is 330 metres tall."


@pytest.mark.parametrize(
    ("sentence", "context", "support"),
    [
        ("The Eiffel Tower is a tower in Paris.", EIFFEL, Support.SUPPORTED),
        ("The tower is not in Paris.", EIFFEL, Support.CONTRADICTED),
        ("It was completed in 1887.", EIFFEL, Support.CONTRADICTED),
        ("It is 330.0 metres tall.", EIFFEL, Support.SUPPORTED),
        ("Bananas are yellow.", EIFFEL, Support.UNRELATED),
        ("The Eiffel Tower in Paris was built by a company of engineers.", EIFFEL, Support.UNRELATED),
        ("长城位于中国北方。", "长城位于中国北方。全长21196公里。", Support.SUPPORTED),
        ("长城全长12000公里。", "长城位于中国北方。长城全长21196公里。", Support.CONTRADICTED),
        ("长城不位于中国北方。", "长城位于中国北方。", Support.CONTRADICTED),
        ("Napoleon died on 5 May 1821.", "Napoleon died on May 5, 1821.", Support.SUPPORTED),
        ("Napoleon died on 6 May 1821.", "Napoleon died on May 5, 1821.", Support.CONTRADICTED),
        ("长城位于中国北方。", "长城位于中国北方，并不位于南方。", Support.SUPPORTED),
        ("长城不在南方。", "长城在南方吗？", Support.UNRELATED),
        ("anything", "", Support.UNRELATED),
        ("", EIFFEL, Support.UNRELATED),
    ],
)
def test_context_supports_contradicts_or_says_nothing(sentence, context, support):
    found = OverlapMatcher().match(sentence, context)
    assert found.support is support and found.evidence


def test_thresholds_must_be_in_order():
    with pytest.raises(ValueError, match="expected 0 < threshold"):
        OverlapMatcher(threshold=0.9, support=0.5)


PASSAGES = [
    Passage(title="Eiffel Tower", text=EIFFEL),
    Passage(title="长城", text="长城是中国古代的军事防御工事。"),
    Passage(title="Banana", text="A banana is a fruit."),
]


def test_corpus_is_searched_in_english_and_chinese():
    search = CorpusSearch(PASSAGES)
    assert search.search("How tall is the Eiffel Tower?", 5)[0].title == "Eiffel Tower"
    assert search.search("长城的用途", 5)[0].title == "长城"
    assert search.search("quantum", 5) == search.search("", 5) == []
    assert len(search.search("tower banana", 1)) == 1


def test_corpus_is_read_with_the_place_of_what_is_wrong(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "a", "title": "t"}\n\n{"text": "b"}\n')
    assert read_corpus(path) == [Passage(title="t", text="a"), Passage(title="", text="b")]
    path.write_text('{"text": "a"}\n{"title": "t"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:2: expected"):
        read_corpus(path)
    path.write_text('{"text": "a"}\nno\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:2: not JSON"):
        read_corpus(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_corpus(tmp_path / "none.jsonl")


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[tuple[str, list]]:
    """An endpoint that answers with the next of its answers: a status and a body."""
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.0)
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_endpoint_gives_passages(endpoint):
    url, answers = endpoint
    answers.append((200, json.dumps({"passages": [{"title": "t", "text": "a" * 5000}, {"text": "b"}]}).encode()))
    found = EndpointSearch(url).search("x", 1)
    assert found == [Passage(title="t", text="a" * 1000)]


def test_errors_of_a_server_are_tried_again_and_others_are_not(endpoint):
    url, answers = endpoint
    answers += [(500, b""), (503, b""), (200, b'{"a": 1}')]
    assert post(url, {}, timeout=10) == {"a": 1}
    answers += [(500, b"")] * 3
    with pytest.raises(ToolError, match="gave no answer: status 500"):
        post(url, {}, timeout=10)
    answers += [(404, b"")]
    with pytest.raises(ToolError, match="refused: status 404"):
        post(url, {}, timeout=10)
    assert answers == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [(b"no", "not JSON"), (b"[]", "no JSON object"), (b'"' + b"a" * (1 << 20) + b'"', "longer than")],
)
def test_answers_that_are_none_are_told(endpoint, body, fault):
    url, answers = endpoint
    answers.append((200, body))
    with pytest.raises(ToolError, match=fault):
        post(url, {}, timeout=10)


def test_only_http_is_asked():
    with pytest.raises(ToolError, match="expected a URL"):
        post("file:///etc/passwd", {}, timeout=1)


def test_endpoint_matches_and_what_it_must_not_say_is_told(endpoint):
    url, answers = endpoint
    answers += [(200, b'{"support": "contradicted", "evidence": "e"}'), (200, b'{"support": "maybe"}')]
    assert EndpointMatcher(url).match("a", "b") == Match(support=Support.CONTRADICTED, evidence="e")
    with pytest.raises(ToolError, match="gave support 'maybe', expected one of supported, contradicted, unrelated"):
        EndpointMatcher(url).match("a", "b")
