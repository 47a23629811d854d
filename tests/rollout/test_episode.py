import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from envs.actions import ACTIONS
from envs.benchmarks.episode import SingleTurnEnv
from envs.types import MalformedCall, Message, Outcome, Step, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.engine import Sampling
from rollout.episode import run_episode, turn_seed
from rollout.scripted_engine import ScriptedEngine
from rollout.trajectory import Ending, Finish

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
SAMPLING = Sampling(max_tokens=200, seed=3)


class WeatherEnv:
    """Answers every call; finish ends the episode; change_tools brings nothing but the actions."""

    def __init__(self, task, *, fail=None):
        self.task, self.fail, self.closed, self.outcome = task, fail, 0, Outcome()
        self.seen = []

    async def open(self):
        self._maybe_fail("open")
        return self.task.prompt

    async def step(self, message):
        self._maybe_fail("step")
        self.seen.append(message)
        if self.fail == "hang":
            await asyncio.sleep(3600)
        if self.fail == "broken promise":
            return Step(messages=())
        results = tuple(
            ToolResult(call_id=call.call_id, status=ToolStatus.MALFORMED, content=call.reason)
            if isinstance(call, MalformedCall)
            else ToolResult(call_id=call.call_id, status=ToolStatus.OK, content=json.dumps(dict(call.arguments)))
            for call in message.calls
        )
        names = [call.name for call in message.calls if isinstance(call, ToolCall)]
        if "finish" in names:
            self.outcome = Outcome(finished=True, answer="done")
            return Step(messages=(), results=results, done=True)
        answers = tuple(Message(role="tool", content=result.content, call_id=result.call_id) for result in results)
        return Step(
            messages=answers or (Message(role="user", content="Go on."),),
            results=results,
            tools=ACTIONS if "change_tools" in names else None,
        )

    async def close(self):
        self.closed += 1
        self._maybe_fail("close")
        return self.outcome

    def _maybe_fail(self, where):
        if self.fail == where:
            raise KeyError(f"bug in {where}")


def call(name, **arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


TEXTS = ["I look.\n" + call("get_weather", city="Oslo"), call("finish", answer="sun")]


def play(renderer, texts, *, fail=None, fail_at=(), max_turns=8, sampling=SAMPLING, task=TASK, timeout=30.0):
    envs = []

    def make_env(task):
        if fail == "make":
            raise KeyError("bug in make")
        envs.append(WeatherEnv(task, fail=fail))
        return envs[-1]

    engine = ScriptedEngine(texts, renderer, version=5, fail_at=fail_at)
    trajectory = asyncio.run(
        run_episode(
            task,
            make_env,
            engine,
            renderer,
            sampling,
            trajectory_id="t",
            group_id="g",
            max_turns=max_turns,
            env_timeout=timeout,
        )
    )
    assert all(env.closed == 1 for env in envs)
    return trajectory, engine, envs


def test_an_episode_is_the_templates_own_rendering_with_a_mask_on_what_was_sampled(renderer):
    trajectory, _, _ = play(renderer, TEXTS)
    assert trajectory.ending is Ending.COMPLETED
    assert trajectory.outcome == Outcome(finished=True, answer="done")
    messages = [*TASK.prompt, trajectory.turns[0].message]
    messages += [Message(role="tool", content='{"city": "Oslo"}', call_id="call_0"), trajectory.turns[1].message]
    whole = renderer.render(messages, (WEATHER, *ACTIONS)).removesuffix("\n")
    assert renderer.decode(trajectory.token_ids) == whole
    sampled = renderer.decode(trajectory.token_ids[trajectory.action_mask])
    assert sampled == "".join(text + "<|im_end|>" for text in TEXTS)
    assert (np.isnan(trajectory.logprobs) == ~trajectory.action_mask).all()
    assert trajectory.oldest_version == trajectory.newest_version == 5
    assert trajectory.tools == (WEATHER, *ACTIONS)


def test_turns_say_where_the_parts_of_their_calls_stand_among_the_tokens(renderer):
    trajectory, _, _ = play(renderer, ["Hm.", "<tool_call>{oops", *TEXTS])
    assert [len(turn.places) for turn in trajectory.turns] == [0, 1, 1, 1]
    assert all(turn.end > place.span[0] >= turn.start for turn in trajectory.turns for place in turn.places)
    (place,) = trajectory.turns[2].places
    assert place.name is not None

    def said(span):
        return renderer.decode(trajectory.token_ids[slice(*span)])

    assert said(place.span).startswith("<tool_call>") and said(place.span).endswith("</tool_call>")
    assert "get_weather" in said(place.name)
    assert "city" in said(place.keys["/city"])
    assert "Oslo" in said(place.values["/city"])
    assert said(place.values["/city"]).strip('": }') == "Oslo"


def test_every_prompt_extends_the_last_prompt_and_its_completion(renderer):
    trajectory, engine, _ = play(renderer, TEXTS)
    first, second = (request[0] for request in engine.requests)
    turn = trajectory.turns[0]
    assert first == trajectory.token_ids[: turn.start].tolist()
    assert second[: turn.end] == trajectory.token_ids[: turn.end].tolist()
    assert [request[2] for request in engine.requests] == ["t/0", "t/1"]


def test_the_last_token_of_a_trajectory_was_sampled_however_it_ends(renderer):
    played = [
        play(renderer, TEXTS),
        play(renderer, TEXTS, max_turns=1),
        play(renderer, TEXTS, fail_at=(1,)),
        play(renderer, TEXTS, fail="step"),
        play(renderer, TEXTS, sampling=replace(SAMPLING, max_tokens=9)),
    ]
    assert len({trajectory.ending for trajectory, _, _ in played}) == len(played)
    for trajectory, _, _ in played:
        assert trajectory.turns
        assert trajectory.turns[-1].end == len(trajectory.token_ids)


def test_calls_are_numbered_through_the_episode_and_results_answer_them(renderer):
    twice = call("get_weather", city="A") + "\n" + call("get_weather", city="B")
    trajectory, _, _ = play(renderer, [twice, "Hm.", call("get_weather", city="C"), TEXTS[1]])
    ids = [call.call_id for turn in trajectory.turns for call in turn.message.calls]
    assert ids == ["call_0", "call_1", "call_2", "call_3"]
    assert [result.call_id for turn in trajectory.turns for result in turn.results] == ids


def test_new_tools_stand_on_the_turn_after_which_they_are_offered(renderer):
    trajectory, _, _ = play(renderer, [call("change_tools", reason="none"), TEXTS[1]])
    assert trajectory.turns[0].new_tools == ACTIONS
    assert trajectory.offered_tools(0) == (WEATHER, *ACTIONS)
    assert trajectory.offered_tools(1) == ACTIONS


def test_the_turn_limit_ends_an_episode(renderer):
    trajectory, engine, _ = play(renderer, TEXTS[:1] * 5, max_turns=3)
    assert trajectory.ending is Ending.MAX_TURNS
    assert len(trajectory.turns) == len(engine.requests) == 3
    assert not trajectory.outcome.finished


def test_a_cut_completion_is_kept_as_a_malformed_turn_and_ends_the_episode(renderer):
    trajectory, _, envs = play(renderer, TEXTS[1:], sampling=replace(SAMPLING, max_tokens=9))
    assert trajectory.ending is Ending.MAX_TOKENS
    assert isinstance(trajectory.turns[0].message.calls[0], MalformedCall)
    assert trajectory.turns[0].end - trajectory.turns[0].start == 9
    assert envs[0].seen == []


def test_a_completion_may_use_only_what_is_left_of_the_context(renderer):
    trajectory, engine, _ = play(renderer, TEXTS[:1] * 60, max_turns=100)
    assert trajectory.ending is Ending.MAX_TOKENS
    assert len(trajectory.token_ids) <= renderer.max_context
    for prompt_ids, sampling, _ in engine.requests:
        assert len(prompt_ids) + sampling.max_tokens <= renderer.max_context


def test_a_prompt_that_fills_the_context_gives_an_empty_trajectory(renderer):
    task = replace(TASK, prompt=(Message(role="user", content="Oslo " * 2000),))
    trajectory, engine, _ = play(renderer, TEXTS, task=task)
    assert trajectory.ending is Ending.MAX_TOKENS
    assert len(trajectory.token_ids) == len(trajectory.turns) == len(engine.requests) == 0


def test_a_failing_engine_ends_the_episode_as_data(renderer):
    trajectory, _, _ = play(renderer, TEXTS, fail_at=(1,))
    assert trajectory.ending is Ending.ENGINE_FAILED
    assert "t/1" in trajectory.error
    assert len(trajectory.turns) == 1


@pytest.mark.parametrize("where", ["make", "open", "step", "close"])
def test_a_bug_of_the_environment_ends_the_episode_with_its_traceback(renderer, where):
    trajectory, _, _ = play(renderer, TEXTS, fail=where)
    assert trajectory.ending is Ending.ENV_FAILED
    assert f"bug in {where}" in trajectory.error
    assert "Traceback" in trajectory.error


def test_an_environment_that_breaks_the_promises_of_step_has_failed(renderer):
    trajectory, _, _ = play(renderer, TEXTS, fail="broken promise")
    assert trajectory.ending is Ending.ENV_FAILED
    assert "0 results to 1 calls" in trajectory.error


def test_an_environment_that_hangs_has_failed(renderer):
    trajectory, _, _ = play(renderer, TEXTS, fail="hang", timeout=0.05)
    assert trajectory.ending is Ending.ENV_FAILED
    assert "0.05 s" in trajectory.error


def test_a_cancelled_episode_closes_its_environment(renderer):
    env = WeatherEnv(TASK, fail="hang")

    async def cancel():
        options = {"trajectory_id": "t", "group_id": "g", "max_turns": 3}
        episode = asyncio.ensure_future(
            run_episode(TASK, lambda task: env, ScriptedEngine(TEXTS, renderer), renderer, SAMPLING, **options)
        )
        while not env.seen:
            await asyncio.sleep(0)
        episode.cancel()
        with pytest.raises(asyncio.CancelledError):
            await episode

    asyncio.run(cancel())
    assert env.closed == 1


def test_seeds_differ_by_turn_and_trajectory_and_repeat(renderer):
    _, engine, _ = play(renderer, TEXTS)
    seeds = [sampling.seed for _, sampling, _ in engine.requests]
    assert seeds == [turn_seed(3, "t", 0), turn_seed(3, "t", 1)]
    assert len({*seeds, turn_seed(3, "u", 0), turn_seed(4, "t", 0)}) == 4
    assert turn_seed(None, "t", 0) is None
    assert engine.requests[0][1].stop_token_ids == renderer.stop_token_ids


def test_the_scripted_engine_makes_up_the_same_logprobs_for_the_same_version(renderer):
    engine = ScriptedEngine(TEXTS, renderer)
    one, same = (asyncio.run(engine.generate([1, 2], SAMPLING, "x/0")) for _ in range(2))
    asyncio.run(engine.load(1, "weights"))
    other = asyncio.run(engine.generate([1, 2], SAMPLING, "x/0"))
    assert one.finish is Finish.STOP
    assert (one.logprobs == same.logprobs).all() and (one.logprobs <= 0).all()
    assert (one.logprobs != other.logprobs).any()
    assert (one.policy_version, other.policy_version, engine.loaded) == (0, 1, [(1, "weights")])


@pytest.mark.parametrize("offer_actions", [True, False])
async def test_the_actions_are_offered_unless_told_otherwise(renderer, offer_actions):
    trajectory = await run_episode(
        TASK,
        SingleTurnEnv,
        ScriptedEngine(["Sun."], renderer),
        renderer,
        SAMPLING,
        trajectory_id="t",
        group_id="g",
        max_turns=1,
        offer_actions=offer_actions,
    )
    assert trajectory.tools == ((WEATHER, *ACTIONS) if offer_actions else (WEATHER,))
    assert trajectory.ending is Ending.COMPLETED
