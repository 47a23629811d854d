"""Pairs that part at one token: explored with a scripted policy, and by the whole command on vLLM."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from envs.component import Component
from envs.env import ToolEnv
from envs.types import Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rl import config as configs
from rl.__main__ import main
from rl.data.explored import Explored
from rl.data.pairs import Settings
from rl.data.preferences import RULES, Groups, PairWork
from rl.data.reference_policy import ReferencePolicy
from rl.errors import BadInput
from rollout.demonstrations import from_messages
from rollout.engine import Sampling
from rollout.exploration import Exploration, explore
from rollout.renderer import load_renderer
from rollout.scripted_engine import ScriptedEngine
from rollout.store import read_trajectories, write_trajectories

WEATHER = ToolSpec(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TASK = Task(
    task_id="oslo",
    prompt=(Message(role="user", content="Weather in Oslo, not in Bergen?"),),
    tools=(WEATHER,),
    reference=(ToolCall(name="get_weather", arguments={"city": "Oslo"}),),
    answer="sun",
)
FOLLOW = Component(factory="rl.data.reference_policy:ReferencePolicy")


@pytest.fixture(scope="session")
def tiny_renderer():
    return load_renderer(configs.model_path("package:tiny"))


class Runner:
    async def run(self, call):
        return ToolResult(call_id=call.call_id, status=ToolStatus.OK, content='{"weather":"sun"}')


def text_of(name, **arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


class Wavering:
    """Its likelier city is the wrong one, and it finishes as it should."""

    def __init__(self, renderer):
        self.renderer = renderer
        self.stop = renderer.stop_token_ids[0]
        self.right = [*renderer.encode(text_of("get_weather", city="Oslo")), self.stop]
        self.wrong = [*renderer.encode(text_of("get_weather", city="Bergen")), self.stop]
        self.done = [*renderer.encode(text_of("finish", answer="sun")), self.stop]
        self.fork = next(n for n, pair in enumerate(zip(self.right, self.wrong, strict=False)) if len(set(pair)) == 2)

    def written(self, tokens):
        """The tokens of the turn so far; None for the second turn, of which the answer is known."""
        answered = "<tool_response>" in self.renderer.decode(tokens)
        start = self.renderer.encode("<|im_start|>assistant\n")
        at = max(n for n in range(len(tokens)) if tokens[n : n + len(start)] == start) + len(start)
        return tokens[at:], answered

    def script(self, tokens):
        written, answered = self.written(tokens)
        if answered:
            return self.done[len(written) :]
        is_right = len(written) > self.fork and written[self.fork] == self.right[self.fork]
        return (self.right if is_right else self.wrong)[len(written) :]

    def rivals(self, tokens):
        written, answered = self.written(tokens)
        if answered or len(written) != self.fork:
            return []
        return [(self.wrong[self.fork], 0.6), (self.right[self.fork], 0.4)]


@pytest.fixture(scope="session")
def folder(tiny_renderer, tmp_path_factory):
    """The candidates of the wavering policy, as the command stores them."""
    policy = Wavering(tiny_renderer)
    _, *candidates = asyncio.run(
        explore(
            TASK,
            lambda task: ToolEnv(task, Runner()),
            ScriptedEngine(policy.script, tiny_renderer, rivals=policy.rivals),
            tiny_renderer,
            Sampling(max_tokens=60, seed=0),
            Exploration(num_samples=4, follow=FOLLOW),
            trajectory_id="task-0-0",
            group_id="task-0",
            max_turns=4,
        )
    )
    run = tmp_path_factory.mktemp("episodes")
    write_trajectories(run, 0, candidates)
    return run


def paired(folder, renderer, settings):
    (group,) = Groups(folder)
    return PairWork([group], rule=RULES["esm"], settings=settings, renderer=renderer).item(group, set())


def test_chosen_and_rejected_share_the_turn_up_to_the_branched_token(folder, tiny_renderer):
    item = paired(folder, tiny_renderer, Settings(min_gap=0.05))
    (row,), (source,) = item.records, item.origins
    assert row["chosen"][0]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert row["rejected"][0]["tool_calls"][0]["function"]["arguments"] == '{"city": "Bergen"}'
    policy = Wavering(tiny_renderer)
    assert (source["parts_at"], source["parts_in"]) == (policy.fork, "value")
    assert source["chosen_probability"] == pytest.approx(0.4) and source["rejected_probability"] == pytest.approx(0.6)
    assert "/branch-" in source["chosen_trajectory"]
    assert row["kind"] == "wrong_value"


def test_the_rows_render_to_exactly_the_sampled_tokens(folder, tiny_renderer):
    item = paired(folder, tiny_renderer, Settings(min_gap=0.05))
    sampled = {one.trajectory_id: one for one in read_trajectories(folder)}
    (row,), (source,) = item.records, item.origins
    for side in ("chosen", "rejected"):
        messages = [*row["prompt"], *row[side]]
        tools = [ToolSpec.from_json(tool) for tool in row["tools"]]
        read = from_messages(TASK, messages, tools, tiny_renderer, trajectory_id=side, group_id=side)
        trajectory = sampled[source[f"{side}_trajectory"]]
        assert np.array_equal(read.token_ids, trajectory.token_ids)
        assert read.turns[-1].start == trajectory.turns[-1].start


def test_the_released_preset_chooses_the_best_candidate_above_its_threshold(folder, tiny_renderer):
    item = paired(folder, tiny_renderer, Settings(preset="released"))
    assert [(origin["chosen_score"], origin["rejected_score"]) for origin in item.origins] == [(1.0, 0.818182)]


def test_the_reference_policy_makes_the_calls_of_the_reference_and_finishes():
    weather = ToolCall(name="get_weather", arguments={"city": "Oslo"})
    other = ToolCall(name="get_weather", arguments={"city": {"any_of": ["Rome", "Roma"]}})
    ask = ToolCall(name="talk_to_user", arguments={"missing": ["start_date"]})

    def said(task, num) -> list[list[tuple[str, Any]]]:
        policy = ReferencePolicy(task)
        tools = (*task.tools, *[ToolSpec(name=name) for name in ("talk_to_user", "finish")])
        turns = [policy.reply((), tools, None)[0].calls for _ in range(num)]
        return [[(call.name, dict(call.arguments)) for call in calls if isinstance(call, ToolCall)] for calls in turns]

    def task_of(*reference, ordered=False):
        return Task(task_id="t", prompt=TASK.prompt, tools=(WEATHER,), reference=reference, ordered=ordered, answer="a")

    finish = [("finish", {"answer": "a"})]
    oslo, rome = ("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})
    question = ("talk_to_user", {"question": "which start date?", "missing": ["start_date"]})
    assert said(task_of(weather, other), 2) == [[oslo, rome], finish]
    assert said(task_of(weather, other, ordered=True), 3) == [[oslo], [rome], finish]
    assert said(task_of(ask, weather, other), 3) == [[question], [oslo, rome], finish]
    unknown = Task(task_id="t", prompt=TASK.prompt, tools=(WEATHER,))
    with pytest.raises(ValueError, match="the reference is unknown"):
        ReferencePolicy(unknown)


def test_a_folder_of_other_episodes_is_not_gone_on_with(tmp_path):
    folder = tmp_path / "episodes"
    Explored(folder, {"seed": 0}, overwrite=False)
    Explored(folder, {"seed": 0}, overwrite=False)
    with pytest.raises(BadInput, match="other settings"):
        Explored(folder, {"seed": 1}, overwrite=False)
    Explored(folder, {"seed": 1}, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(BadInput, match="no folder of sampled episodes"):
        Explored(tmp_path / "mine", {"seed": 1}, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "released", "--branches", "3"], "the released preset has none"),
        (["--samples", "0", "--branches", "0"], "expected one or the other"),
        (["--tasks", "nowhere"], "task set 'nowhere'"),
        (["--num", "0"], "expected at least 1"),
    ],
)
def test_options_that_cannot_be_are_one_clear_line(tmp_path, capsys, options, message):
    assert main(["data", "token-pairs", "package:tiny", "--out", str(tmp_path / "p.jsonl"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_command_on_vllm_pairs_samples_goes_on_and_says_what_it_came_to(tmp_path):
    pytest.importorskip("vllm")
    out = tmp_path / "pairs.jsonl"
    # In a process of its own: Ray starts once in a process, with one token.
    command = [
        sys.executable,
        "-m",
        "rl",
        "data",
        "token-pairs",
        "package:tiny",
        "--num",
        "20",
        "--samples",
        "2",
        "--branches",
        "4",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, timeout=600)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    sampled = {one.trajectory_id: one for one in read_trajectories(tmp_path / "pairs.jsonl.episodes")}
    assert len(rows) > 20
    parted = Counter(row["source"].get("parts_in") for row in rows)
    assert parted["name"] and parted["value"]
    for row in rows:
        source = row["source"]
        if "parts_at" in source:
            chosen, rejected = sampled[source["chosen_trajectory"]], sampled[source["rejected_trajectory"]]
            at = chosen.turns[-1].start + source["parts_at"]
            assert np.array_equal(chosen.token_ids[:at], rejected.token_ids[:at])
            assert chosen.token_ids[at] != rejected.token_ids[at]
    # Of a call that was stopped only what is missing is sampled again.
    parts = sorted((tmp_path / "pairs.jsonl.episodes" / "trajectories" / "step=0").iterdir())
    assert [part.name for part in parts] == ["part-000000.parquet", "part-000016.parquet"]
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    out.unlink()
    subprocess.run(command, check=True, timeout=600)
    assert parts[0].stat().st_mtime_ns == kept and parts[1].is_file()
    again = [json.loads(line)["pair_id"] for line in out.read_text().splitlines()]
    assert again == [row["pair_id"] for row in rows]
