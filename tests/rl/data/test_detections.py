"""Episodes of detection that pass HaluAgent's filters, and those that do not against them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from envs.detection.env import DetectionEnv, make_task, make_toolbox, offered
from envs.detection.toolbox import Toolbox
from envs.types import MalformedCall, Message, ToolCall
from rl import config as configs
from rl.__main__ import main
from rl.data.detections import read_labelled, why_dropped
from rollout.demonstrations import read_demonstrations
from rollout.engine import EngineFailed
from rollout.episode import converse
from rollout.preferences import read_pairs
from rollout.renderer import load_renderer
from rollout.trajectory import Ending

TOOLBOX = Toolbox()
RESPONSE = "3 + 4 = 8. It is warm."


def call(name, **arguments):
    return ToolCall(name=name, arguments=arguments, call_id=name)


SPLIT, RIGHT, ANSWER = call("split_text"), call("calculator", sentence=1), call("get_answer")


class Scripted:
    def __init__(self, *calls):
        self.calls = list(calls)

    async def reply(self, messages, tools):
        if not self.calls:
            raise EngineFailed("gone")
        made = self.calls.pop(0)
        return Message(role="assistant", calls=(made,)) if made else Message(role="assistant", content="No.")


async def episode(*calls, hallucinated=True):
    task = make_task("t", "", RESPONSE, tools=offered(TOOLBOX), hallucinated=hallucinated, short=True)
    return await converse(
        task, lambda task: DetectionEnv(task, TOOLBOX), Scripted(*calls), trajectory_id="t", max_turns=8
    )


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ((SPLIT, RIGHT, ANSWER), ""),
        ((SPLIT, MalformedCall(text="{", reason="no JSON"), RIGHT, ANSWER), "format: a call that cannot be read"),
        ((SPLIT, RIGHT, None), "format: text in the place of a call"),
        ((SPLIT, call("weigh"), RIGHT, ANSWER), "wrong tool: it is not offered"),
        ((SPLIT, call("date", place=1), RIGHT, ANSWER), "wrong tool: its arguments do not fit"),
        ((SPLIT, call("date", sentence=2), RIGHT, ANSWER), "wrong tool: there was nothing for it to do"),
        ((SPLIT,) * 8, "verdict: none"),
        ((SPLIT, call("finish", answer="perhaps")), "verdict: undecided"),
        ((call("finish", answer="yes"),), "verdict: guessed, nothing was checked"),
        ((SPLIT, RIGHT, call("finish", answer="no")), "verdict: wrong"),
        ((SPLIT,), "infrastructure"),
    ],
)
async def test_an_episode_is_dropped_for_the_first_filter_that_it_does_not_pass(calls, reason):
    assert why_dropped(await episode(*calls)) == reason


async def test_the_truth_decides_which_verdict_is_wrong():
    assert why_dropped(await episode(SPLIT, RIGHT, ANSWER, hallucinated=False)) == "verdict: wrong"


def run(*arguments: object) -> int:
    return main(["data", "detections", *map(str, arguments)])


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(path: Path) -> dict:
    return json.loads(path.with_name(f"{path.name}.summary.json").read_text())


CHEAP = ("--num", 12, "--seed", 3)


def test_conversations_and_pairs_come_of_the_same_episodes_and_are_read_by_training(tmp_path):
    kept, pairs = tmp_path / "kept.jsonl", tmp_path / "pairs.jsonl"
    english = ("--languages", "en")
    assert run("train", *CHEAP, *english, "--samples", 2, "--slips", 0.6, "--rules", "--out", kept) == 0
    assert run(f"{kept}.episodes", "--pairs", "--out", pairs) == 0
    counts = summary(kept)["counts"]
    assert counts["episodes"] == 36 and counts["kept"] == len(rows(kept)) == 12
    assert sum(counts["dropped"].values()) == 24 and 0 < summary(kept)["figures"]["share that passes the filters"] < 1
    assert sum(summary(pairs)["counts"]["pairs"].values()) == len(rows(pairs)) > 5
    renderer = load_renderer(configs.model_path("package:tiny"))
    whole = [one for one in read_demonstrations(kept, renderer) if one.ending is Ending.COMPLETED]
    assert len(whole) > 6
    for trajectory in whole:
        spans = [(turn.start, turn.end) for turn in trajectory.turns]
        learned = {place for start, end in spans for place in range(start, end)}
        # What tools said is context: only the policy's own turns are learned.
        assert {place for place, action in enumerate(trajectory.action_mask) if action} == learned
        assert trajectory.turns[-1].message.calls[0].name == "get_answer"  # type: ignore[union-attr]
    for pair, row in zip(read_pairs(pairs, renderer), rows(pairs), strict=True):
        assert pair.chosen.task.prompt == pair.rejected.task.prompt
        assert row["kind"].startswith(("format", "wrong tool", "verdict"))
        assert row["source"]["chosen_trajectory"] != row["source"]["rejected_trajectory"]


def test_pairs_at_the_parting_differ_in_one_message_behind_what_both_said(tmp_path):
    kept, pairs = tmp_path / "kept.jsonl", tmp_path / "pairs.jsonl"
    assert run("train", *CHEAP, "--samples", 2, "--slips", 0.6, "--rules", "--out", kept) == 0
    assert run(f"{kept}.episodes", "--pairs", "--at-parting", "--out", pairs) == 0
    assert len(rows(pairs)) > 5
    for row in rows(pairs):
        assert len(row["chosen"]) == len(row["rejected"]) == 1
        assert row["prompt"][-1]["role"] in ("user", "tool")
        said = sum(message["role"] == "assistant" for message in row["prompt"])
        assert row["source"]["turn"] == said
    # Only slips are rejected: a right call that follows one is not.
    assert all(row["chosen"][0]["tool_calls"] for row in rows(pairs))
    assert run(f"{kept}.episodes", "--at-parting", "--out", tmp_path / "other.jsonl") == 2


def test_the_same_seed_gives_the_same_bytes_and_a_stopped_call_goes_on(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for out in (first, second):
        assert run("heldout", *CHEAP, "--slips", 0.5, "--out", out) == 0
    assert [row["messages"] for row in rows(first)] == [row["messages"] for row in rows(second)]
    before = first.read_bytes()
    (part,) = (tmp_path / "a.jsonl.episodes").rglob("*.parquet")
    sampled = part.stat().st_mtime_ns
    first.unlink()
    assert run("heldout", *CHEAP, "--slips", 0.5, "--out", first) == 0
    assert part.stat().st_mtime_ns == sampled
    assert first.read_bytes() == before
    assert run("heldout", *CHEAP, "--slips", 0.4, "--out", first) == 2


LABELLED = [
    {"id": 1, "response": "3 + 4 = 8.", "hallucinated": True},
    {"id": 2, "question": "写一句话。", "response": "2024年3月1日是星期五。", "hallucinated": False},
    {"id": 3, "response": "3 + 4 = 7.", "hallucinated": True},
]


def test_responses_of_a_file_are_checked_against_their_labels(tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in LABELLED))
    assert run(path, "--long", "--out", out) == 0
    assert [(row["task_id"], row["language"], row["hallucinated"]) for row in rows(out)] == [
        ("1", "en", True),
        ("2", "zh", False),
    ]
    assert rows(out)[0]["messages"][0]["content"].startswith("Find out whether")
    assert summary(out)["counts"]["dropped"] == {"verdict: wrong": 1}


@pytest.fixture
def endpoint(json_server):
    """A model that makes the right calls, and is down for responses that hold `server.broken`."""

    def reply(request):
        said = [message for message in request["messages"] if message["role"] == "assistant"]
        text = json.dumps([message for message in request["messages"] if message["role"] == "user"], ensure_ascii=False)
        if server.broken and server.broken in text:
            return 400, {"error": "no"}
        check = "date" if "2024年" in text else "calculator"
        name, arguments = [("split_text", {}), (check, {"sentence": 1}), ("get_answer", {})][len(said)]
        function = {"name": name, "arguments": json.dumps(arguments)}
        calls = [{"id": name, "type": "function", "function": function}]
        return 200, server.completion({"role": "assistant", "content": "", "tool_calls": calls})

    server = json_server(reply)
    server.broken = ""
    return server


def test_what_a_model_behind_an_endpoint_failed_at_is_asked_again_by_the_same_call(tmp_path, endpoint, capsys):
    pytest.importorskip("openai")
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in LABELLED))
    words = (path, "--model", endpoint.url, "--endpoint-model", "m", "--concurrency", "1", "--samples", "2")
    endpoint.broken = "3 + 4 = 8"
    assert run(*words, "--out", out) == 1
    assert "2 episodes failed by the engine or endpoint" in capsys.readouterr().err and not out.exists()
    asked, endpoint.broken = len(endpoint.requests), ""
    assert run(*words, "--out", out) == 0
    assert len(endpoint.requests) - asked == 2 * 3, "what was answered is not asked again"
    assert [row["task_id"] for row in rows(out)] == ["1", "2"]
    counts = summary(out)["counts"]
    assert counts["episodes"] == 6 and counts["dropped"] == {"verdict: wrong": 2, "the same episode again": 2}
    assert {request["model"] for request in endpoint.requests} == {"m"}
    assert {tool["function"]["name"] for tool in endpoint.requests[0]["tools"]} >= {"split_text", "calculator"}


def test_what_an_endpoint_failed_at_can_be_left_out(tmp_path, endpoint):
    pytest.importorskip("openai")
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in LABELLED))
    endpoint.broken = "3 + 4 = 8"
    words = (path, "--model", endpoint.url, "--endpoint-model", "m", "--skip-failed")
    assert run(*words, "--out", out) == 0
    assert summary(out)["counts"]["dropped"] == {"infrastructure": 1, "verdict: wrong": 1}
    assert [row["task_id"] for row in rows(out)] == ["2"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"id": 1, "response": "x"}, "hallucinated: got null"),
        ({"id": True, "response": "x", "hallucinated": True}, "id: got true"),
        ({"id": 1, "response": 2, "hallucinated": True}, "response and question"),
    ],
)
def test_a_row_that_is_no_labelled_response_is_named(tmp_path, row, fault):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(LABELLED[1]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=rf"in\.jsonl, line 2: {fault}"):
        read_labelled(path, make_toolbox())


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("train", "--slips", 2), "--slips 2"),
        (("train", "--samples", 0), "--samples 0"),
        (("train", "laptop"), "belongs to a model that is run here"),
        (("train", "--endpoint-model", "x"), "belongs to --model URL"),
        (("nowhere.jsonl",), "nowhere.jsonl"),
    ],
)
def test_calls_that_cannot_work_are_refused(tmp_path, capsys, arguments, fault):
    assert run(*arguments, "--out", tmp_path / "out.jsonl") == 2
    assert fault in capsys.readouterr().err


def test_rules_need_neither_torch_nor_ray(tmp_path):
    program = (
        "import sys; from rl.__main__ import main; "
        f"assert main(['data', 'detections', 'train', '--num', '3', '--out', {str(tmp_path / 'out.jsonl')!r}]) == 0; "
        "assert not {'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_chance_falls_on_every_kind_of_slip(tmp_path):
    out = tmp_path / "out.jsonl"
    assert run("train", "--num", 60, "--slips", 0.7, "--out", out) == 0
    reasons = Counter(summary(out)["counts"]["dropped"])
    assert len([reason for reason in reasons if reason.startswith("wrong tool")]) >= 2
    assert any(reason.startswith("verdict") for reason in reasons)
    assert reasons["format: a call that cannot be read"] > 0
