"""Candidates of a turn: which tokens are branched at, what a branch shares, and what is sampled."""

from __future__ import annotations

import asyncio
import json
import math
import re

import numpy as np
import pytest

from envs.component import Component
from envs.env import ToolEnv
from envs.types import Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.engine import Sampling
from rollout.exploration import Exploration, branch_positions, decision_positions, explore, part_at
from rollout.scripted_engine import ScriptedEngine
from rollout.trajectory import Alternatives, Completion, Ending, Finish

WEATHER = ToolSpec(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TASK = Task(
    task_id="oslo",
    prompt=(Message(role="user", content="Weather in Oslo?"),),
    tools=(WEATHER,),
    reference=(ToolCall(name="get_weather", arguments={"city": "Oslo"}),),
)


class Runner:
    async def run(self, call):
        return ToolResult(call_id=call.call_id, status=ToolStatus.OK, content='{"weather":"sun"}')


def make_env(task):
    return ToolEnv(task, Runner())


def text_of(name, **arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


RIGHT, WRONG = text_of("get_weather", city="Oslo"), text_of("get_weather", city="Bergen")
DONE = text_of("finish", answer="sun")


class Speaker:
    """A policy that wavers at one token: the one with which the city of the first turn begins."""

    def __init__(self, renderer, share_of_wrong=0.45):
        self.renderer = renderer
        self.stop = renderer.stop_token_ids[0]
        self.right, self.wrong = renderer.encode(RIGHT), renderer.encode(WRONG)
        self.fork = next(i for i, (a, b) in enumerate(zip(self.right, self.wrong, strict=False)) if a != b)
        self.share = share_of_wrong

    def turn(self, tokens):
        """The tokens of the turn that is being written, and whether it is the first."""
        text = self.renderer.decode(tokens)
        answered = "<tool_response>" in text
        generation = self.renderer.encode("<|im_start|>assistant\n")
        at = max(i for i in range(len(tokens)) if tokens[i : i + len(generation)] == generation) + len(generation)
        return tokens[at:], not answered

    def __call__(self, tokens):
        written, first = self.turn(tokens)
        if not first:
            return [*self.renderer.encode(DONE), self.stop][len(written) :]
        is_wrong = len(written) > self.fork and written[self.fork] == self.wrong[self.fork]
        whole = self.wrong if is_wrong else self.right
        return [*whole, self.stop][len(written) :]

    def rivals(self, tokens):
        written, first = self.turn(tokens)
        if first and len(written) == self.fork:
            return [(self.right[self.fork], 1 - self.share), (self.wrong[self.fork], self.share)]
        return []


def run(renderer, exploration, *, speaker=None, max_tokens=100):
    speaker = speaker or Speaker(renderer)
    engine = ScriptedEngine(speaker, renderer, version=4, rivals=speaker.rivals)
    found = asyncio.run(
        explore(
            TASK,
            make_env,
            engine,
            renderer,
            Sampling(max_tokens=max_tokens, seed=1),
            exploration,
            trajectory_id="t",
            group_id="g",
            max_turns=4,
        )
    )
    return found, engine, speaker


def written(trajectory, renderer):
    turn = trajectory.turns[-1]
    return renderer.decode(trajectory.token_ids[turn.start : turn.end]).removesuffix("<|im_end|>")


def test_a_branch_keeps_the_greedy_turn_up_to_its_token_and_goes_on_greedily(renderer):
    found, _, speaker = run(renderer, Exploration(num_samples=0))
    followed, *candidates = found
    assert followed.ending is Ending.COMPLETED and [len(t.message.calls) for t in followed.turns] == [1, 1]
    branch = next(one for one in candidates if f"/0/branch-{speaker.fork}-" in one.trajectory_id)
    assert written(branch, renderer) == WRONG
    start = branch.turns[-1].start
    greedy = next(one for one in candidates if one.trajectory_id == "t/0/greedy")
    assert (branch.token_ids[: start + speaker.fork] == greedy.token_ids[: start + speaker.fork]).all()
    assert branch.token_ids[start + speaker.fork] != greedy.token_ids[start + speaker.fork]
    assert math.exp(branch.logprobs[start + speaker.fork]) == pytest.approx(0.45)
    assert (branch.oldest_version, branch.newest_version, branch.group_id) == (4, 4, "g")


def test_candidates_share_all_before_their_turn_with_the_followed_episode(renderer):
    followed, *candidates = run(renderer, Exploration())[0]
    assert {len(one.turns) for one in candidates} == {1, 2}
    for one in candidates:
        index = len(one.turns) - 1
        start = followed.turns[index].start
        assert one.turns[:-1] == followed.turns[:index]
        assert (one.token_ids[:start] == followed.token_ids[:start]).all()
        assert one.ending is Ending.MAX_TURNS and not one.outcome.finished


def test_only_the_prefix_behind_the_branch_is_asked_for_again(renderer):
    _, engine, speaker = run(renderer, Exploration(num_samples=0))
    first = len(engine.requests[0][0])
    branch = next(request for request in engine.requests if "branch" in request[2])
    assert len(branch[0]) == first + speaker.fork + 1
    assert branch[0][first + speaker.fork] == speaker.wrong[speaker.fork]
    assert branch[1].temperature == 0


def test_without_branches_the_first_sample_is_followed(renderer):
    (followed, *candidates), engine, _ = run(renderer, Exploration(num_samples=8, num_branches=0))
    texts = [written(one, renderer) for one in candidates if len(one.turns) == 1]
    assert len(texts) == 8 and set(texts) == {RIGHT, WRONG}
    assert written(candidates[0], renderer) == texts[0]
    assert followed.turns[0].message == candidates[0].turns[0].message
    assert all(sampling.temperature == 1 and not sampling.num_alternatives for _, sampling, _ in engine.requests)


def test_the_same_seed_gives_the_same_candidates(renderer):
    first, second = (run(renderer, Exploration(num_samples=6))[0] for _ in range(2))
    assert [one.token_ids.tolist() for one in first] == [one.token_ids.tolist() for one in second]


class Teacher:
    """Says the reference."""

    def __init__(self, task):
        self.calls = [*task.reference, ToolCall(name="finish", arguments={"answer": "sun"})]

    def reply(self, messages, tools, last_step):
        turn = sum(message.role == "assistant" for message in messages)
        return Message(role="assistant", calls=(self.calls[turn],)), False


def test_the_environment_sees_the_messages_of_the_policy_that_is_followed(renderer, monkeypatch):
    monkeypatch.setattr(Component, "build", lambda self, task: Teacher(task))
    speaker = Speaker(renderer)
    speaker.right, speaker.wrong = speaker.wrong, speaker.right
    found, _, _ = run(renderer, Exploration(num_samples=0, follow=Component(factory="here:Teacher")), speaker=speaker)
    followed, *candidates = found
    assert followed.turns[0].message.calls == (
        ToolCall(name="get_weather", arguments={"city": "Oslo"}, call_id="call_0"),
    )
    assert written(candidates[0], renderer) == WRONG
    assert np.isnan(followed.logprobs).all() and not np.isnan(candidates[0].logprobs[-5:]).any()
    assert followed.outcome.finished


def test_a_branch_that_the_limit_cuts_ends_as_such(renderer):
    speaker = Speaker(renderer)
    speaker.wrong = renderer.encode(text_of("get_weather", city="Bergen and " + "Oslo " * 9))
    limit = len(speaker.right) + 1
    found, _, _ = run(renderer, Exploration(num_samples=0), speaker=speaker, max_tokens=limit)
    branch = next(one for one in found if f"/0/branch-{speaker.fork}" in one.trajectory_id)
    assert branch.ending is Ending.MAX_TOKENS
    assert len(branch.token_ids) - branch.turns[-1].start == limit


def completion_of(renderer, text, rivals=None):
    """Sure of every token but those in `rivals`: {index: probabilities of the token and its rivals}."""
    token_ids = [*renderer.encode(text), renderer.stop_token_ids[0]]
    shares = np.zeros((len(token_ids), 5))
    shares[:, 0] = 1.0
    ids = np.arange(5) + np.zeros((len(token_ids), 1), dtype=int)
    ids[:, 0] = token_ids
    for index, values in (rivals or {}).items():
        shares[index, : len(values)] = values
    with np.errstate(divide="ignore"):
        logprobs = np.log(shares).astype(np.float32)
    return Completion(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        logprobs=logprobs[:, 0],
        finish=Finish.STOP,
        policy_version=0,
        alternatives=Alternatives(token_ids=ids.astype(np.int32), logprobs=logprobs),
    )


def test_decisions_are_the_tokens_of_names_keys_and_values(renderer):
    completion = completion_of(renderer, "Look: " + text_of("get_weather", city="Oslo", days=[2, 30]))
    spelt = {}
    for index, part in decision_positions(completion.token_ids.tolist(), renderer):
        spelt[part] = spelt.get(part, "") + renderer.decode([completion.token_ids[index]])
    assert {part: re.sub('[" ]', "", text) for part, text in spelt.items()} == {
        "name": "get_weather",
        "key": "citydays",
        "value": "Oslo230",
    }


def test_a_call_that_cannot_be_read_has_no_decisions(renderer):
    assert decision_positions(renderer.encode("<tool_call>\n{oops\n</tool_call>"), renderer) == []
    assert decision_positions(renderer.encode("It will rain."), renderer) == []


def test_uncertain_positions_come_by_falling_entropy_and_no_more_than_asked_for(renderer):
    text = text_of("get_weather", city="Oslo")
    where = [index for index, _ in decision_positions(completion_of(renderer, text).token_ids.tolist(), renderer)]
    rivals = {where[0]: [0.5, 0.5], where[1]: [0.7, 0.1, 0.1, 0.1], where[-1]: [0.3, 0.3, 0.2, 0.2]}
    completion = completion_of(renderer, text, rivals)
    found = branch_positions(completion, renderer, Exploration())
    assert [position.index for position in found] == [where[-1], where[1], where[0]]
    assert [position.part for position in found] == ["value", "name", "name"]
    assert [round(position.margin, 6) for position in found] == [0.0, 0.6, 0.0]
    assert found[2].entropy == pytest.approx(math.log(2) / math.log(5))
    assert len(branch_positions(completion, renderer, Exploration(num_branches=2))) == 2


def test_where_the_policy_is_sure_the_closest_position_of_each_part_is_taken(renderer):
    text = text_of("get_weather", city="Oslo")
    decisions = decision_positions(completion_of(renderer, text).token_ids.tolist(), renderer)
    name = next(index for index, part in decisions if part == "name")
    value = [index for index, part in decisions if part == "value"][-1]
    found = branch_positions(
        completion_of(renderer, text, {name: [0.95, 0.05], value: [0.9, 0.1]}), renderer, Exploration()
    )
    assert [position.part for position in found] == ["name", "key", "value"]
    assert found[0].index == name and found[2].index == value


def test_the_part_of_a_token(renderer):
    token_ids = renderer.encode("Hm. " + RIGHT)
    places = renderer.places(token_ids)
    parts = [part_at(places, index) for index in range(len(token_ids))]
    assert set(parts) == {"text", "call", "name", "key", "value"}
    assert parts[0] == "text" and parts[-1] == "call"


def test_an_exploration_that_asks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="expected one or the other"):
        Exploration(num_samples=0, num_branches=0)
    with pytest.raises(ValueError, match="expected at least 2"):
        Exploration(num_alternatives=1)
