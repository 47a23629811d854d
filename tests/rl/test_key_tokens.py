"""TL-Training's key tokens: the paper's worked values, and which tokens are key, for any tokenizer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.actions import ACTIONS
from envs.types import Message, Task, ToolCall, ToolSpec
from rl.algorithms.sft import SFT
from rl.key_tokens import KeyTokens, KeyWeights, key_weight
from rl.sample import ScoredGroup
from rollout.demonstrations import from_messages
from rollout.trajectory import Trajectory


@pytest.mark.parametrize(
    ("num_keys", "num_others", "expected"),
    [
        # The paper's figure.
        (2, 22, 9.0),
        (2, 18, 9.0),
        (1, 49, 9.0),
        # Between the bounds, and at the lower one.
        (2, 9, 4.5),
        (4, 4, 1.0),
        (4, 3, 1.0),
    ],
)
def test_weights_are_those_of_the_paper(num_keys: int, num_others: int, expected: float) -> None:
    assert key_weight(num_keys, num_others) == expected


def tool(name: str, *arguments: str) -> ToolSpec:
    properties = {argument: {"type": "string"} for argument in arguments}
    return ToolSpec(name=name, parameters={"type": "object", "properties": properties})


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def demonstration(renderer: Any, tools: Sequence[ToolSpec], *turns: Sequence[ToolCall] | str) -> Trajectory:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for turn in turns:
        if isinstance(turn, str):
            messages.append({"role": "assistant", "content": turn})
        else:
            calls = [{"function": {"name": one.name, "arguments": dict(one.arguments)}} for one in turn]
            messages.append({"role": "assistant", "tool_calls": calls})
            messages += [{"role": "tool", "content": "fine"} for _ in turn]
    task = Task(task_id="t", prompt=(Message(role="user", content="go"),), tools=tuple(tools))
    return from_messages(task, messages, (*tools, *ACTIONS), renderer, trajectory_id="t", group_id="g")


def weights_of(renderer: Any, trajectory: Trajectory, **options: Any) -> np.ndarray:
    return KeyWeights(KeyTokens(**options), renderer)(trajectory)


def key_texts(renderer: Any, trajectory: Trajectory, **options: Any) -> list[str]:
    weights = weights_of(renderer, trajectory, **options)
    return [renderer.decode([token]) for token in trajectory.token_ids[weights > 1].tolist()]


def test_the_first_token_of_the_name_is_key_and_every_token_where_another_name_departs(renderer: Any) -> None:
    tools = [tool("get_weather", "city"), tool("get_wind"), tool("get_weather_map"), tool("book_flight")]
    trajectory = demonstration(renderer, tools, [call("get_weather", city="Oslo")])
    turn = trajectory.turns[0]
    start = turn.places[0].name[0]  # type: ignore[index]
    name = [renderer.decode([token]) for token in trajectory.token_ids[start : turn.end].tolist()]
    keys = np.flatnonzero(weights_of(renderer, trajectory) > 1) - start
    assert keys[0] == 0
    # Cut before any key token, the text is where a name forks: at its begin, before "eather", and after the name.
    cuts = {"".join(name[:key]) for key in keys}
    assert len(cuts) == 3 and "" in cuts and "get_weather" in cuts
    (fork,) = cuts - {"", "get_weather"}
    assert "get_w".startswith(fork) and len(fork) >= len("get_")


def test_names_that_share_no_token_leave_one_key(renderer: Any) -> None:
    trajectory = demonstration(renderer, [tool("get_weather"), tool("book_flight")], [call("get_weather")])
    assert (weights_of(renderer, trajectory) > 1).sum() == 1


def test_the_weight_is_that_of_the_target_from_the_name_to_the_end_of_the_turn(renderer: Any) -> None:
    trajectory = demonstration(renderer, [tool("get_weather"), tool("get_wind")], "Hello. " * 30, [call("get_weather")])
    turn = trajectory.turns[1]
    weights = weights_of(renderer, trajectory, max_weight=1000.0)
    num = turn.end - turn.places[0].name[0]  # type: ignore[index]
    keys = weights > 1
    assert np.unique(weights[keys]).tolist() == pytest.approx([(num - keys.sum()) / keys.sum()])
    assert not keys[: turn.start].any()


def test_each_of_several_calls_has_its_own_target(renderer: Any) -> None:
    tools = [tool("get_weather", "city"), tool("book_flight", "city")]
    calls = [call("get_weather", city="Oslo and many other places in the north"), call("book_flight", city="Oslo")]
    trajectory = demonstration(renderer, tools, calls)
    first, second = trajectory.turns[0].places
    weights = weights_of(renderer, trajectory, max_weight=1000.0)
    assert np.flatnonzero(weights > 1).tolist() == [first.name[0], second.name[0]]  # type: ignore[index]
    assert weights[first.name[0]] == second.span[0] - first.name[0] - 1  # type: ignore[index]
    assert weights[second.name[0]] == trajectory.turns[0].end - second.name[0] - 1  # type: ignore[index]


def test_the_released_formula_does_not_count_what_closes_arguments(renderer: Any) -> None:
    tools = [tool("get_weather", "city", "days", "unit")]
    trajectory = demonstration(renderer, tools, [call("get_weather", city="Oslo", days=3, unit="C")])
    stated, released = (
        weights_of(renderer, trajectory, max_weight=1000.0, preset=preset).max() for preset in ("stated", "released")
    )
    assert stated - released == 3


def test_erroneous_turns_text_and_actions_weigh_one(renderer: Any) -> None:
    trajectory = demonstration(renderer, [tool("get_weather")], "Let me see.", [call("finish", answer="x")])
    assert (weights_of(renderer, trajectory) == 1).all()
    assert (weights_of(renderer, trajectory, deferrals=True) == 1).all()


def test_actions_are_tools_like_any_other_in_the_released_program(renderer: Any) -> None:
    for name, arguments in (("finish", {"answer": "x"}), ("talk_to_user", {"question": "which?", "missing": ["city"]})):
        trajectory = demonstration(renderer, [tool("get_weather")], [call(name, **arguments)])
        assert (weights_of(renderer, trajectory) == 1).all()
        assert (weights_of(renderer, trajectory, preset="released") > 1).any()


def test_deferrals_are_decisions_where_they_are_asked_for(renderer: Any) -> None:
    calls = [call("talk_to_user", question="which?", missing=["city"])]
    trajectory = demonstration(renderer, [tool("talk_show")], calls)
    assert (weights_of(renderer, trajectory) == 1).all()
    assert len(key_texts(renderer, trajectory, deferrals=True)) == 2


def test_names_of_arguments_are_key_where_they_are_asked_for(renderer: Any) -> None:
    tools = [tool("get_weather", "city", "city_code", "days")]
    trajectory = demonstration(renderer, tools, [call("get_weather", days="3", city="Oslo")])
    keys = np.flatnonzero(weights_of(renderer, trajectory, argument_names=True) > 1).tolist()
    before = [renderer.decode(trajectory.token_ids[:key].tolist()) for key in keys]
    ends = ('"name": "', '"arguments": {"', '"days": "3", "', '"days": "3", "city')
    assert len(before) == len(ends)
    assert all(text.endswith(end) for text, end in zip(before, ends, strict=True))


def words() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(["get", "set", "weather", "we", "a", "wind", "x"]), min_size=1, max_size=4).map(
        "_".join
    )


@given(st.lists(words(), min_size=1, max_size=5, unique=True))
def test_key_tokens_are_where_the_tokens_of_two_calls_first_differ(renderer: Any, names: list[str]) -> None:
    trajectory = demonstration(renderer, [tool(name) for name in names], [call(names[0])])
    turn = trajectory.turns[0]
    own = trajectory.token_ids[turn.start : turn.end].tolist()
    start = turn.places[0].name[0] - turn.start  # type: ignore[index]
    expected = {start}
    for other in names[1:]:
        theirs = renderer.assistant(Message(role="assistant", calls=(call(other),)))
        expected.add(next(n for n, (one, two) in enumerate(zip(own, theirs, strict=False)) if one != two))
    keys = np.flatnonzero(weights_of(renderer, trajectory)[turn.start : turn.end] > 1)
    assert set(keys.tolist()) == expected


def test_sft_learns_a_weighted_mean(renderer: Any) -> None:
    trajectory = demonstration(renderer, [tool("get_weather"), tool("get_wind")], [call("get_weather")])
    algorithm = SFT(key_tokens={"max_weight": 5.0}).with_renderer(renderer)
    (sample,) = algorithm.samples([ScoredGroup(trajectories=(trajectory,))])
    expected = np.where(sample.loss_mask, weights_of(renderer, trajectory, max_weight=5.0), 0.0)
    assert sample.streams["weights"].tolist() == expected.tolist()
    assert algorithm.denominator([sample]) == expected.sum() > sample.num_trained


def test_without_the_models_tokens_there_are_no_key_tokens(renderer: Any) -> None:
    trajectory = demonstration(renderer, [tool("get_weather")], [call("get_weather")])
    with pytest.raises(ValueError, match="key_tokens: the model's tokens are not known"):
        SFT(key_tokens={}).samples([ScoredGroup(trajectories=(trajectory,))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 3}, r"key_tokens \['weight'\]: expected max_weight, preset, argument_names, deferrals"),
        ({"max_weight": 0.5}, "max_weight 0.5: expected 1 or more"),
        ({"preset": "paper"}, "preset 'paper': expected 'stated' or 'released'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SFT(key_tokens=options)
