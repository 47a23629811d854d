from collections import Counter

import pytest

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, DEFERRALS, FINISH, TALK_TO_USER
from envs.component import Component
from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from envs.toolworld.demonstrator import ERROR_RATES, NO_ERRORS
from envs.toolworld.tasks import KIND_WEIGHTS
from envs.types import MalformedCall, ToolCall, ToolStatus
from rl.config import load

KINDS = [str(kind) for kind in KIND_WEIGHTS]
ALWAYS = dict.fromkeys(ERROR_RATES, 1.0)
SHIPPED_DEMONSTRATIONS = 98_160
"""How many the shipped start has learned from."""


def calls_of(turns):
    return [call for turn in turns for call in turn.message.calls]


def plain(call):
    ignored = {TALK_TO_USER: ("question",), CHANGE_TOOLS: ("reason",)}.get(call.name, ())
    return call.name, {name: value for name, value in call.arguments.items() if name not in ignored}


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("kind", KINDS)
async def test_without_errors_every_demonstration_succeeds(kind, split, play):
    for task in ToolWorldTasks(kinds={kind: 1.0}, split=split, catalogue="mixed", num=300):
        turns, outcome = await play(ToolWorldEnv(task), Demonstrator(task, 0, NO_ERRORS), task)
        assert outcome.finished and outcome.answer == task.answer
        assert not any(turn.erroneous for turn in turns)
        assert all(result.status == ToolStatus.OK for turn in turns for result in turn.step.results)
        *made, last = calls_of(turns)
        assert [plain(call) for call in made] == [(call.name, dict(call.arguments)) for call in task.reference or ()]
        assert last.name == FINISH


@pytest.mark.parametrize("catalogue", ["procedural", "mixed"])
async def test_the_share_of_erroneous_calls_is_that_of_real_demonstrations(catalogue, play):
    bad, total, _, _ = await shares(
        ((task, Demonstrator(task)) for task in ToolWorldTasks(catalogue=catalogue, num=4000)), play
    )
    assert 0.17 <= bad / total <= 0.25


async def test_over_the_whole_sft_recipe_17_to_25_percent_of_the_calls_but_finish_err(play):
    source = load("sft_tiny").source
    assert isinstance(source.tasks, Component)
    tasks = source.tasks.build()
    indices = range(0, SHIPPED_DEMONSTRATIONS, 25)
    made = ((tasks.task(index), source.demonstrated(index)[0]) for index in indices)
    counts = await shares(((task, demonstrator.build(task, seed=0)) for task, demonstrator in made), play)
    _, _, bad_but_finish, total_but_finish = counts
    assert 0.17 <= bad_but_finish / total_but_finish <= 0.25


async def shares(demonstrations, play):
    """Erroneous and all calls, with `finish` and without."""
    bad = total = bad_but_finish = total_but_finish = 0
    for task, demonstrator in demonstrations:
        turns, _ = await play(ToolWorldEnv(task), demonstrator, task)
        for turn in turns:
            total += len(turn.message.calls)
            bad += turn.erroneous
            first = turn.message.calls[0]
            if isinstance(first, MalformedCall) or first.name != FINISH:
                total_but_finish += len(turn.message.calls)
                bad_but_finish += turn.erroneous
    return bad, total, bad_but_finish, total_but_finish


@pytest.mark.parametrize(("kind", "deferral"), [("missing_argument", TALK_TO_USER), ("unmatched_tools", CHANGE_TOOLS)])
async def test_most_first_calls_are_wrong_where_a_deferral_is_due(kind, deferral, play):
    wrong = 0
    for task in ToolWorldTasks(kinds={kind: 1.0}, num=500):
        turns, _ = await play(ToolWorldEnv(task), Demonstrator(task), task)
        deferred = turns[0].message.calls[0].name == deferral
        assert turns[0].erroneous == (not deferred)
        wrong += turns[0].erroneous
    assert abs(wrong / 500 - ERROR_RATES[kind]) < 0.07


async def test_an_erroneous_call_is_never_a_reference_call_that_is_due(play):
    for task in ToolWorldTasks(num=1000):
        turns, _ = await play(ToolWorldEnv(task), Demonstrator(task, 1, ALWAYS), task)
        first = turns[0]
        assert first.erroneous
        due = [(call.name, dict(call.arguments)) for call in task.reference or ()]
        due = due if not task.ordered else due[:1]
        made = [plain(call) for call in first.message.calls if isinstance(call, ToolCall)]
        assert sorted(map(repr, made)) != sorted(map(repr, due))


async def test_demonstrations_recover_from_refused_errors_and_sometimes_from_accepted_ones(play):
    finished_right = Counter()
    for task in ToolWorldTasks(num=3000):
        turns, outcome = await play(ToolWorldEnv(task), Demonstrator(task, 2), task)
        assert outcome.finished
        errors = [turn for turn in turns if turn.erroneous]
        if errors:
            refused = any(result.status != ToolStatus.OK for result in errors[0].step.results)
            finished_right[refused, turns[-1].erroneous] += 1
            if refused and len(errors) == 1:
                assert outcome.answer == task.answer
    assert finished_right[False, False] > 50 and finished_right[False, True] > 50


@pytest.mark.parametrize(("kind", "deferral"), [("missing_argument", TALK_TO_USER), ("unmatched_tools", CHANGE_TOOLS)])
@pytest.mark.parametrize("insistence", [0.0, 1.0])
async def test_who_insists_does_not_defer_after_an_accepted_guess_and_who_does_not_insist_always_defers(
    kind, deferral, insistence, play
):
    num_guesses = Counter()
    for task in ToolWorldTasks(kinds={kind: 1.0}, num=300):
        demonstrator = Demonstrator(task, 4, ALWAYS | {"other": 0.0}, insistence)
        turns, outcome = await play(ToolWorldEnv(task), demonstrator, task)
        deferred = any(call.name == deferral for call in calls_of(turns))
        assert outcome.finished and turns[-1].erroneous != deferred
        if insistence == 0.0:
            assert [turn.erroneous for turn in turns] == [True] + [False] * (len(turns) - 1)
        elif not deferred:
            *guesses, last = turns
            assert [result.status for result in guesses[-1].step.results] == [ToolStatus.OK]
            assert last.message.calls[0].name == FINISH
        num_guesses[deferred, sum(turn.erroneous for turn in turns[:-1])] += 1
    # A tool that refuses even the made-up values is rare, and ends the guessing.
    deferred = sum(num for (deferred, _), num in num_guesses.items() if deferred)
    assert deferred == 300 if insistence == 0.0 else deferred < 15
    assert insistence == 0.0 or (num_guesses[False, 1] > 150 and num_guesses[False, 2] > 30)


async def test_errors_follow_from_the_seed(play):
    tasks = list(ToolWorldTasks(num=50))

    async def demonstrations(seed):
        return [await play(ToolWorldEnv(task), Demonstrator(task, seed), task) for task in tasks]

    assert await demonstrations(1) == await demonstrations(1)
    assert await demonstrations(1) != await demonstrations(2)


async def test_every_kind_of_slip_occurs(play):
    seen = set()
    for task in ToolWorldTasks(num=400, kinds={"single": 1.0}):
        turns, _ = await play(ToolWorldEnv(task), Demonstrator(task, 3, ALWAYS), task)
        (call,) = turns[0].message.calls
        assert task.reference is not None
        (right,) = task.reference
        if isinstance(call, MalformedCall):
            seen.add("malformed")
        elif call.name in ACTION_NAMES:
            seen.add("needless deferral")
        elif call.name != right.name:
            seen.add("near tool" if call.name in {tool.name for tool in task.tools} else "made-up tool")
        else:
            seen.add(str(turns[0].step.results[0].status))
            seen |= {"unknown"} if set(call.arguments) - set(right.arguments) else set()
    assert seen == {"malformed", "needless deferral", "near tool", "made-up tool", "ok", "invalid_arguments", "unknown"}


def test_unknown_rates_and_tasks_without_reference_are_refused():
    task = ToolWorldTasks().task(0)
    with pytest.raises(ValueError, match="expected"):
        Demonstrator(task, 0, {"nothing": 1.0})
    with pytest.raises(ValueError, match=r"insistence 1\.5: expected"):
        Demonstrator(task, 0, insistence=1.5)
    with pytest.raises(ValueError, match="reference"):
        Demonstrator(type(task)(task_id="x", prompt=task.prompt, tools=()))


async def test_without_the_deferrals_none_is_demonstrated(play):
    for task in ToolWorldTasks(kinds={"single": 1.0, "chain": 1.0}, deferrals=False, num=200):
        turns, _ = await play(ToolWorldEnv(task), Demonstrator(task, 0, ALWAYS), task)
        assert not {call.name for call in calls_of(turns) if isinstance(call, ToolCall)} & DEFERRALS


def test_a_task_whose_deferral_is_not_offered_cannot_be_demonstrated():
    task = ToolWorldTasks(kinds={"missing_argument": 1.0}, deferrals=False).task(0)
    with pytest.raises(ValueError, match="its reference holds talk_to_user, which it does not offer"):
        Demonstrator(task)
