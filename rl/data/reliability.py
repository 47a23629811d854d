"""Reliability variants of tasks: unchanged, with a missing argument, with unmatched tools (Relign's synthesis).

What makes a variant right is proven or the variant is not made: that nothing gives the missing value, and that no tool
of the unmatched ones serves. Source: Relign (arXiv 2412.04141), construction of its training data and benchmark; what
its published sets have wrong (tools that serve, values that can be told, examples to copy) is ruled out here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, DEFERRALS, TALK_TO_USER
from envs.schema import check
from envs.toolworld.catalogue import spoken
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec
from rewards.gold import gold_calls
from rewards.grounding import UNSPACED, Context, is_paging, schema_grounds
from rewards.matching import alternatives, normalise
from rewards.task_class import words
from rl.data.conversations import conversation_of, right_episode
from rl.data.job import Done, Item
from rl.data.requests import without_value

UNCHANGED, MISSING, UNMATCHED = "unchanged", "missing_argument", "unmatched_tools"
VARIANTS: tuple[str, ...] = (UNCHANGED, MISSING, UNMATCHED)

RELIGN_SHARES: Mapping[str, float] = {UNCHANGED: 0.4, MISSING: 0.3, UNMATCHED: 0.3}
"""4,000, 3,000 and 3,000 of Relign's 10,000 samples."""

RECOVERY_SHARE = 2 / 3
"""Of the unmatched tasks, those in which change_tools brings the tools that serve; as the tool world has it."""

MAX_SHARED_WORDS = 1
"""A tool that shares more words than this with the request and with the tools that serve it may serve as well."""

_NUM_TRIES = 50
"""Tasks whose tools are tried in the place of another's."""

_SERVES_ANYTHING = frozenset(
    """
    anything api ask assistant browse browser chat code command completion execute function generic google http internet
    interpreter llm python query question run script search shell sql terminal tool web webpage wikipedia
    """.split()  # noqa: SIM905
)
"""A word of a name by which a tool may serve any request."""

_SAYS_DEFAULT = re.compile(
    r"\bdefaults?\b|\boptional\b|\b(?:if|when) (?:not|omitted|absent|unset|empty)\b", re.IGNORECASE
)
_TELLS = frozenset({"get", "find", "fetch", "lookup", "look", "list", "search", "retrieve", "query", "show", "check"})
"""Verbs of tools that tell a value."""
_NAMES_OF_TIME = frozenset(
    {"date", "dates", "day", "time", "when", "month", "year", "week", "start", "end", "birthday"}
)
_TIMES = re.compile(r"\b(?:today|tonight|tomorrow|yesterday|now|next|last|this|ago|\w+day)\b", re.IGNORECASE)


class Dropped(ValueError):
    """No variant can be made of a task of which it could be proven that it is right."""


Irrelevance = Callable[[str, Sequence[ToolSpec]], Sequence[bool]]
"""Whether each of some tools surely has nothing to do with a request."""


class Variants:
    """The work of `tether data reliability`: a variant of each task, or each variant of it."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        shares: Mapping[str, float] | None,
        conversations: bool = False,
        irrelevance: Irrelevance | None = None,
    ) -> None:
        """Say what to make.

        Args:
            tasks: the tasks that are varied, and the pool of tools that do not serve them.
            seed: decides which variant a task gets, which value is taken away and which tools come.
            shares: of each variant; every task gets one by chance. None: every task gets each of them.
            conversations: give demonstrations of the tasks and not the tasks.
            irrelevance: as of `make_variant`.
        """
        self._tasks = tasks
        self._irrelevance = irrelevance
        self._seed = seed
        self._shares = shares
        self._record = demonstration if conversations else Task.to_json

    @property
    def num_items(self) -> int:
        """How many variants are tried."""
        return len(self._tasks) * (len(VARIANTS) if self._shares is None else 1)

    def __call__(self, done: Done) -> Iterator[Item]:
        """Make what is not done."""
        for number in range(done.num_items, self.num_items):
            yield self._item(number)

    def _item(self, number: int) -> Item:
        index, place = divmod(number, len(VARIANTS)) if self._shares is None else (number, None)
        task = self._tasks[index]
        rng = random.Random(f"{self._seed} {task.task_id}" if place is None else f"{self._seed} {task.task_id} {place}")
        if place is None:
            assert self._shares is not None
            variant = rng.choices(list(self._shares), list(self._shares.values()))[0]
        else:
            variant = VARIANTS[place]
        try:
            made = make_variant(variant, task, self._tasks, rng, self._irrelevance)
        except Dropped as reason:
            return Item(counts={f"dropped/{variant}, {reason}": 1})
        origin = {"index": index, "task_id": task.task_id, "variant": variant}
        return Item(records=(self._record(made),), origin=origin, counts={f"made/{variant}": 1})


def make_variant(
    variant: str,
    task: Task,
    pool: Sequence[Task],
    rng: random.Random,
    irrelevance: Irrelevance | None = None,
) -> Task:
    """One variant of a task.

    Args:
        variant: one of VARIANTS.
        task: what is varied.
        pool: tasks whose tools may take the place of its own.
        rng: decides what the rules leave open.
        irrelevance: a second opinion on tools of which the rules say that they do not serve; None: none.

    Raises:
        Dropped: it could not be made, or not be proven right; says why.
    """
    match variant:
        case "missing_argument":
            made = _without_argument(task, rng)
        case "unmatched_tools":
            made = _without_serving_tools(task, pool, rng, irrelevance)
        case _:
            made = task
    _expect_gold(made)
    return replace(made, task_id=f"{task.task_id}:{variant}")


def _expect_gold(task: Task) -> None:
    """The right calls are of offered tools and fit their documents, whichever of the accepted values they have.

    Raises:
        Dropped: they are unknown, or do not.
    """
    if task.reference is None:
        raise Dropped("its right calls are unknown")
    if any(tool.name in ACTION_NAMES for tool in task.tools):
        raise Dropped("a tool of it is called like an action")
    offered = {tool.name: tool for tool in task.tools}
    later = {tool.name: tool for tool in map(ToolSpec.from_json, task.facts.get("new_tools") or ())}
    for call, wanted in zip(gold_calls(task), task.reference, strict=True):
        if call.name == CHANGE_TOOLS:
            offered = later or offered
        if call.name in DEFERRALS:
            continue
        if call.name not in offered:
            raise Dropped("its right calls contradict its tools")
        for arguments in (call.arguments, *_each_accepted(call.arguments, wanted.arguments)):
            if check(arguments, offered[call.name].parameters):
                raise Dropped("its right calls contradict its tools")


def _each_accepted(gold: Mapping[str, Json], wanted: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
    for name, value in wanted.items():
        for accepted in alternatives(value) or ():
            if accepted != "":
                yield {**gold, name: accepted}
    yield {name: value for name, value in gold.items() if alternatives(wanted.get(name)) != [""]}


def _plain_calls(task: Task) -> tuple[ToolCall, ...]:
    """The right calls of a task that needs no deferral.

    Raises:
        Dropped: it needs one, or no call, or they are unknown.
    """
    if task.prompt[-1].role != "user":
        raise Dropped("its last words are not the user's")
    if task.reference is None:
        raise Dropped("its right calls are unknown")
    if not task.reference:
        raise Dropped("no call is right")
    if any(call.name in DEFERRALS for call in task.reference):
        raise Dropped("it needs a deferral already")
    return task.reference


# A missing argument.


def _without_argument(task: Task, rng: random.Random) -> Task:
    """The task without one required value of its first call, which the user has to be asked for."""
    first, *later = _plain_calls(task)
    if later and not task.ordered:
        raise Dropped("several calls in any order: what waits for the answer is open")
    _expect_gold(task)
    tool = next(tool for tool in task.tools if tool.name == first.name)
    names = [name for name in tool.required if name in first.arguments]
    if not names:
        raise Dropped("its call requires no argument")
    reasons: list[str] = []
    for name in rng.sample(names, len(names)):
        try:
            return _without(task, tool, name)
        except Dropped as reason:
            reasons.append(str(reason))
    raise Dropped(reasons[0])


def _without(task: Task, tool: ToolSpec, name: str) -> Task:
    assert task.reference is not None
    first = task.reference[0]
    schema = tool.properties.get(name) or {}
    accepted = alternatives(first.arguments[name]) or [first.arguments[name]]
    if any(isinstance(value, bool) or not isinstance(value, (str, int, float)) for value in accepted):
        raise Dropped("its values cannot be looked for in a text")
    _expect_no_default(name, accepted, schema)
    others = {other: value for other, value in gold_calls(task)[0].arguments.items() if other != name}
    request = task.prompt[-1].content
    found = [
        (value, text)
        for value in accepted
        if value != "" and (text := without_value(request, name, value, others)) is not None
    ]
    if not found:
        raise Dropped("the value does not stand in the request once, to the letter")
    value, text = found[0]
    prompt = (*task.prompt[:-1], replace(task.prompt[-1], content=text))
    before, after = _context(task.prompt), _context(prompt)
    _expect_untold(name, accepted, schema, text, after)
    _expect_no_other_source(task, tool, name)
    for call in gold_calls(task):
        for other, kept in call.arguments.items():
            if (call.name, other) != (first.name, name) and before.holds(kept) and not after.holds(kept):
                raise Dropped("another value would be lost with it")
    user = {**(task.facts.get("user") or {}), name: value}
    return replace(
        task,
        prompt=prompt,
        kind=TaskKind.MISSING_ARGUMENT,
        reference=(ToolCall(name=TALK_TO_USER, arguments={"missing": [name]}), *task.reference),
        ordered=True,
        facts={**task.facts, "user": user},
    )


def _context(prompt: Sequence[Message]) -> Context:
    return Context(message.content for message in prompt)


def _expect_no_default(name: str, accepted: Sequence[Json], schema: Json) -> None:
    """Nobody has to say what the document gives, or what is the same for all."""
    own: Mapping[str, Json] = schema if isinstance(schema, Mapping) else {}
    limits_to_one = "const" in own or len(own.get("enum") or (1, 2)) == 1
    if limits_to_one or "default" in own or _SAYS_DEFAULT.search(str(own.get("description") or "")):
        raise Dropped("its document gives the value")
    if any(is_paging(name, value) for value in accepted):
        raise Dropped("nobody has to say the value")
    if any(schema_grounds(value, {**own, "enum": None}, defaults=True) for value in accepted):
        raise Dropped("its document shows the value")


def _expect_untold(name: str, accepted: Sequence[Json], schema: Json, text: str, context: Context) -> None:
    """What is left of the conversation neither holds the value nor speaks of it."""
    enum = schema.get("enum") if isinstance(schema, Mapping) else None
    if any(context.holds(value) for value in accepted):
        raise Dropped("the value can still be told")
    if any(context.holds(value) for value in enum or () if not isinstance(value, bool)):
        raise Dropped("another allowed value stands in the request")
    label = normalise(spoken(name))
    if re.search(rf"\b{re.escape(label)}s?\b", normalise(text)) or re.search(rf"\b{re.escape(name)}\b", text):
        raise Dropped("the request still speaks of it")
    is_time = isinstance(schema, Mapping) and schema.get("format") in ("date", "date-time", "time")
    if (is_time or _NAMES_OF_TIME & set(label.split())) and _TIMES.search(text):
        raise Dropped("the request still speaks of a time")


def _expect_no_other_source(task: Task, tool: ToolSpec, name: str) -> None:
    """No offered tool may tell the value, and none may serve without it."""
    results: Mapping[str, Json] = task.facts.get("results") or {}
    own, sought = words(spoken(tool.name)), words(spoken(name))
    # Of a name such as user_id nothing is left that tells tools apart: then all of its words are looked for.
    literal = set(spoken(name).lower().split())
    for other in task.tools:
        if other.name == tool.name:
            continue
        told = words(spoken(other.name))
        verbs = set(re.findall(r"[a-z]+", spoken(other.name).lower()))
        speaks_of_it = sought <= told if sought else literal <= verbs
        documents_it = (
            re.search(rf"\b{re.escape(name)}\b", other.description) is not None and name not in other.properties
        )
        if name in (results.get(other.name) or {}) or (verbs & _TELLS and (speaks_of_it or documents_it)):
            raise Dropped("another tool may tell the value")
        if own and own <= told and name not in other.required:
            raise Dropped("another tool may serve without the value")


# Unmatched tools.


def _without_serving_tools(
    task: Task, pool: Sequence[Task], rng: random.Random, irrelevance: Irrelevance | None
) -> Task:
    """The task with tools of another one, none of which serves; in most of them change_tools brings its own tools."""
    calls: tuple[ToolCall, ...] = () if task.reference is None else _plain_calls(task)
    if any(message.calls for message in task.prompt):
        raise Dropped("its tools were called before")
    if calls:
        _expect_gold(task)
    names = {call.name for call in calls}
    serving = [tool for tool in task.tools if not names or tool.name in names]
    foreign, results = _foreign_tools(task, serving, pool, rng, irrelevance)
    facts: dict[str, Json] = {**task.facts, "results": {**(task.facts.get("results") or {}), **results}}
    phrase = spoken(calls[0].name) if calls else "serve the request"
    if calls:
        gold = gold_calls(task)[0]
        facts["wanted"] = {"name": gold.name, "phrase": phrase, "arguments": dict(gold.arguments)}
    reference: tuple[ToolCall, ...] = (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    answer: str | None = f"no tool can {phrase}"
    facts["new_tools"] = []
    if calls and (task.ordered or len(calls) == 1) and rng.random() < RECOVERY_SHARE:
        facts["new_tools"] = [tool.to_json() for tool in task.tools]
        reference, answer = (*reference, *calls), task.answer
    return replace(
        task,
        tools=foreign,
        kind=TaskKind.UNMATCHED_TOOLS,
        reference=reference,
        ordered=True,
        answer=answer,
        facts=facts,
    )


def _foreign_tools(
    task: Task,
    serving: Sequence[ToolSpec],
    pool: Sequence[Task],
    rng: random.Random,
    irrelevance: Irrelevance | None,
) -> tuple[tuple[ToolSpec, ...], dict[str, Json]]:
    """Those tools of another task that surely serve nothing of this one, and what they return."""
    if UNSPACED.search(task.prompt[-1].content):
        raise Dropped("its words cannot be told apart in this script")
    wanted = min(2, len(task.tools))
    for _ in range(_NUM_TRIES):
        other = rng.choice(pool)
        if other is task:
            continue
        foreign = tuple(tool for tool in other.tools if not may_serve(tool, task.prompt, serving))
        if irrelevance is not None and len(foreign) >= wanted:
            sure = irrelevance(task.prompt[-1].content, foreign)
            foreign = tuple(tool for tool, is_sure in zip(foreign, sure, strict=True) if is_sure)
        if len(foreign) >= wanted:
            results: Mapping[str, Json] = other.facts.get("results") or {}
            return foreign, {tool.name: results[tool.name] for tool in foreign if tool.name in results}
    raise Dropped("no other task has tools that surely do not serve it")


def may_serve(tool: ToolSpec, prompt: Sequence[Message], serving: Sequence[ToolSpec]) -> bool:
    """Whether a tool may serve a request, so far as words tell; in doubt it may.

    It may if its name says that it serves anything (a search, an interpreter); if it shares more than MAX_SHARED_WORDS
    words with the user's words and the documents of the tools that serve; if it has the name of one of them; or if it
    requires the same two or more parameters as one of them.
    """
    name = spoken(tool.name)
    if set(re.findall(r"[a-z]+", name.lower())) & _SERVES_ANYTHING:
        return True
    asked = set().union(*(words(message.content) for message in prompt if message.role == "user"))
    for other in serving:
        asked |= words(f"{spoken(other.name)} {other.description}")
        same_parameters = len(tool.required) > 1 and set(tool.required) == set(other.required)
        if normalise(spoken(other.name)) == normalise(name) or same_parameters:
            return True
    return len(words(f"{name} {tool.description}") & asked) > MAX_SHARED_WORDS


# Demonstrations.


def demonstration(task: Task) -> dict[str, Json]:
    """A conversation in which the task is done rightly: the whole of it where the results of its tools are known, else
    the first turn alone, which Relign's data consists of.
    """
    trajectory = right_episode(task)
    results: Mapping[str, Json] = task.facts.get("results") or {}
    if any(call.name not in results for call in task.reference or () if call.name not in DEFERRALS):
        trajectory = replace(trajectory, turns=trajectory.turns[:1])
    return conversation_of(trajectory)
