"""NESTFUL's partial and full sequence match, and F1 of functions and of parameters, as its evaluator counts them.

Source: arXiv 2409.03797, section 4, and the scoring program of the later release (the first has none). A call is
compared as text: its name and its sorted `argument = value` pairs. A made value that begins with `$` and does not end
with it is given one, as a label that was not closed; so a gold value like `$100-$500` is never met.
Partial match is the share of equal places of the two plans, full match the share of plans whose partial match is 1.
Plans of one length are compared place by place; otherwise each gold call in turn is paired with the next made call if
that has its name, and every call without a pair is a place of its own. A made call that cannot be read has no name.
F1 is the mean over the names (or `argument = value` texts) that occur in gold, each counted over the plans (or over the
tools of each plan); what never occurs in gold is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from envs.types import Task, ToolCall
from rewards.published.figures import made_calls, mean
from rewards.published.types import Record
from rollout.trajectory import Trajectory

_CALLED = "called "
_FILLED = "filled "
_SEPARATOR = "\x1f"


class Nestful:
    """One plan, and the figures of a set."""

    missing: Mapping[str, str] = {
        "win_rate": "the share of plans whose execution gives the gold answer needs the tools carried out: the first "
        "release has neither their responses nor the answers"
    }

    def record(self, trajectory: Trajectory) -> Record:
        """partial_match and full_match, and what F1 over a set needs: a 1 for each name called and argument filled."""
        plan = [_closed(call) if isinstance(call, ToolCall) else None for call, _ in made_calls(trajectory)]
        made = [call for call in plan if call is not None]
        partial = _partial(_gold(trajectory.task), plan)
        return {
            "partial_match": partial,
            "full_match": float(partial == 1.0),
            **{_CALLED + call.name: 1.0 for call in made},
            **{
                _FILLED + name + _SEPARATOR + pair: 1.0 for name, pairs in _last_of_each(made).items() for pair in pairs
            },
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """partial_match, full_match, function_f1 and parameter_f1."""
        functions, parameters = _Counts(), _Counts()
        for task, record in records:
            gold = _gold(task)
            functions.add({call.name for call in gold}, _keys(record, _CALLED))
            made: dict[str, set[str]] = {}
            for key in _keys(record, _FILLED):
                name, _, pair = key.partition(_SEPARATOR)
                made.setdefault(name, set()).add(pair)
            wanted = _last_of_each(gold)
            for name in wanted.keys() | made.keys():
                parameters.add(wanted.get(name, set()), made.get(name, set()))
        return {
            "partial_match": mean([record["partial_match"] for _, record in records]),
            "full_match": mean([record["full_match"] for _, record in records]),
            "function_f1": functions.f1(),
            "parameter_f1": parameters.f1(),
        }


class _Counts:
    """Labels of gold and of answers, over the places where they may stand."""

    def __init__(self) -> None:
        self.gold: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.both: Counter[str] = Counter()

    def add(self, gold: Iterable[str], made: Iterable[str]) -> None:
        gold, made = set(gold), set(made)
        self.gold.update(gold)
        self.made.update(made)
        self.both.update(gold & made)

    def f1(self) -> float | None:
        return mean([2 * self.both[label] / (self.gold[label] + self.made[label]) for label in self.gold])


def _gold(task: Task) -> list[ToolCall]:
    return [ToolCall(name=call["name"], arguments=call["arguments"]) for call in task.facts["benchmark"]["gold"]]


def _keys(record: Record, prefix: str) -> Iterator[str]:
    return (key.removeprefix(prefix) for key in record if key.startswith(prefix))


def _closed(call: ToolCall) -> ToolCall:
    """The made call with every label closed."""
    return ToolCall(
        name=call.name,
        arguments={
            name: f"{value}$" if isinstance(value, str) and value.startswith("$") and not value.endswith("$") else value
            for name, value in call.arguments.items()
        },
    )


def _pairs(call: ToolCall) -> list[str]:
    return [f"{name} = {value}" for name, value in call.arguments.items()]


def _last_of_each(calls: Sequence[ToolCall]) -> dict[str, set[str]]:
    """The filled arguments of each tool; of several calls of one tool the last counts."""
    return {call.name: set(_pairs(call)) for call in calls}


def _same(gold: ToolCall, made: ToolCall | None) -> bool:
    return made is not None and gold.name == made.name and sorted(_pairs(gold)) == sorted(_pairs(made))


def _partial(gold: Sequence[ToolCall], made: Sequence[ToolCall | None]) -> float:
    """Share of equal places; a made call that cannot be read is None."""
    if len(gold) == len(made):
        pairs = list(zip(gold, made, strict=True))
    else:
        pairs = []
        for call in gold:
            following = made[len(pairs)] if len(pairs) < len(made) else None
            if following is not None and call.name == following.name:
                pairs.append((call, following))
    places = len(gold) + len(made) - len(pairs)
    return sum(_same(*pair) for pair in pairs) / places if places else 0.0


METRIC = Nestful()
