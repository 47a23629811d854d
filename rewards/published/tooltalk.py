"""ToolTalk's precision, recall, action precision, bad action rate and success, by its released definition.

Source: arXiv 2311.10775, section 4, and the program beside the data. In each conversation every made call in turn is
matched with the first gold call left that it equals. A bad action is a call of a tool with side effects that was
carried out and matched nothing. Success: all gold calls matched, no bad action. Rates are over all conversations
together, success over conversations.

What equals is a rule of each tool (`_RULES`). Two things cannot be had here: the similarity of two texts by an
embedding model (equal texts are similar, others undecided) and the answer of a service to a call that is no gold call,
unless the trajectory has it as a result in the benchmark's form, {"response": ..., "exception": ...}. A figure has its
published name only if nothing was left undecided. `..._decided` takes undecided calls for unequal, and a call without a
known answer for carried out if it fits its document.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from envs.schema import check
from envs.types import Json, Task, ToolCall, ToolResult
from rewards.published.figures import made_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory

Equal = bool | None
"""Whether two calls are equal; None: undecided."""

_FIGURES = ("precision", "recall", "action_precision", "bad_action_rate", "success_rate")
_NEEDS = (
    "text arguments that differ need the similarity of an embedding model (sent2vec), and calls that are no gold calls "
    "the simulated services; given only where no call of the set needs either"
)
_TIME = "%Y-%m-%d %H:%M:%S"


class ToolTalk:
    """The calls of one turn, and the figures of the conversations of a set."""

    missing: Mapping[str, str] = dict.fromkeys(_FIGURES, _NEEDS)

    def record(self, trajectory: Trajectory) -> Record:
        """For each made call k whether it is an action, was carried out, and which gold calls j it equals."""
        facts = trajectory.task.facts["benchmark"]
        tools = {tool.name: tool for tool in trajectory.task.tools}
        record: dict[str, float | None] = {}
        for number, (written, result) in enumerate(made_calls(trajectory)):
            call = written if isinstance(written, ToolCall) else None
            made = _Made(call=call, answer=_answer(result))
            tool = None if call is None else tools.get(call.name)
            fits = call is not None and tool is not None and not check(call.arguments, tool.parameters)
            record[f"{number}/action"] = float(call is not None and call.name in facts["actions"])
            record[f"{number}/carried_out"] = (
                float(made.answer["exception"] is None) if made.answer is not None else None if fits else 0.0
            )
            for index, gold in enumerate(facts["gold"]):
                equal = _equal(made, gold)
                if equal is not False:
                    record[f"{number}/equals/{index}"] = None if equal is None else 1.0
        return record

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """The published figures, None where undecided, and `..._decided`."""
        conversations: dict[str, list[tuple[Task, Record]]] = {}
        for task, record in records:
            conversations.setdefault(task.facts["benchmark"]["conversation"], []).append((task, record))
        count: Counter[str] = Counter()
        for turns in conversations.values():
            count.update(_count(turns))
        decided = _figures(count)
        exact: dict[str, float | None] = dict.fromkeys(_FIGURES) if count["undecided"] else dict(decided)
        return (
            exact
            | {f"{name}_decided": value for name, value in decided.items()}
            | {"num_undecided_calls": float(count["undecided"])}
        )


def _count(turns: Sequence[tuple[Task, Record]]) -> Counter[str]:
    """One conversation: its calls matched with its gold calls, as the released program does."""
    gold = turns[0][0].facts["benchmark"]["gold"]
    left = list(range(len(gold)))
    count: Counter[str] = Counter(conversations=1, ground_truths=len(gold))
    for _, record in turns:
        for number in range(sum(key.endswith("/action") for key in record)):
            equals = {
                int(key.rsplit("/", 1)[1]): value
                for key, value in record.items()
                if key.startswith(f"{number}/equals/")
            }
            matched = next((index for index in left if equals.get(index) == 1.0), None)
            is_action = record[f"{number}/action"] == 1.0
            carried_out = record[f"{number}/carried_out"]
            bad = matched is None and is_action and carried_out != 0.0
            # What is undecided matters where it comes before the gold call that was matched.
            before = left if matched is None else left[: left.index(matched)]
            may_match = any(index in equals and equals[index] is None for index in before)
            count["undecided"] += may_match or (bad and carried_out is None)
            if matched is not None:
                left.remove(matched)
            count["predictions"] += 1
            count["matches"] += matched is not None
            count["actions"] += is_action
            count["valid_actions"] += is_action and matched is not None
            count["bad_actions"] += bad
    count["successes"] = int(not left and not count["bad_actions"])
    return count


def _figures(count: Counter[str]) -> dict[str, float | None]:
    def share(part: str, whole: str) -> float | None:
        return count[part] / count[whole] if count[whole] else None

    return {
        "precision": share("matches", "predictions"),
        "recall": share("matches", "ground_truths"),
        "action_precision": share("valid_actions", "actions"),
        "bad_action_rate": share("bad_actions", "actions"),
        "success_rate": share("successes", "conversations"),
    }


def _answer(result: ToolResult | None) -> Mapping[str, Json] | None:
    """The answer of the service; None if the trajectory does not have it."""
    try:
        value = json.loads(result.content) if result is not None else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.keys() == {"response", "exception"} else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    call: ToolCall | None
    answer: Mapping[str, Json] | None


def _equal(made: _Made, gold: Mapping[str, Json]) -> Equal:
    call = made.call
    if call is None or call.name != gold["name"]:
        return False
    arguments, wanted = dict(call.arguments), gold["arguments"]
    answer = made.answer
    if answer is None and arguments == wanted:
        # The services are deterministic and stand where gold left them, so the answer is that of the gold call.
        return True
    if answer is not None and answer["exception"] != gold["exception"]:
        return False
    same = _RULES.get(call.name, _same_request_and_response)(arguments, wanted, answer, gold)
    # The rules below speak of the request; whether it was carried out without another exception is known from an
    # answer alone.
    return None if same and answer is None else same


Rule = Callable[[Mapping[str, Json], Mapping[str, Json], Mapping[str, Json] | None, Mapping[str, Json]], Equal]


def _same_request(made: Mapping[str, Json], gold: Mapping[str, Json], answer: object, call: object) -> Equal:
    """Every argument of the gold call is there with its value; others may be there too."""
    return all(name in made and made[name] == value for name, value in gold.items())


def _same_request_and_response(
    made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
) -> Equal:
    if not _same_request(made, gold, answer, call):
        return False
    return None if answer is None else answer["response"] == call["response"]


def _finds_the_same(things: str, key: str) -> Rule:
    """Whatever was asked for, the answer has all that the gold answer has."""

    def rule(
        made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
    ) -> Equal:
        if answer is None:
            return None
        if answer["response"] is None or call["response"] is None:
            return False
        found = _keys_in(answer["response"], things, key)
        return all(thing[key] in found for thing in call["response"][things])

    return rule


def _keys_in(response: Json, things: str, key: str) -> list[Json]:
    """The keys of what a service found; of an answer in another form than the service's, none."""
    found = response.get(things) if isinstance(response, dict) else None
    return [thing.get(key) for thing in found if isinstance(thing, dict)] if isinstance(found, list) else []


def _same_reminders(
    made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
) -> Equal:
    return made == gold and _finds_the_same("reminders", "reminder_id")(made, gold, answer, call)


def _with_texts(*texts: str, rule: Rule = _same_request) -> Rule:
    """As `rule`, but these arguments only have to be similar: equal ones are, of others nothing is known here."""

    def judge(
        made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
    ) -> Equal:
        if any(name in gold and made.get(name) is None for name in texts):
            return False
        plain = {name: value for name, value in gold.items() if name not in texts}
        same = rule(made, plain, answer, call)
        if same and any(made[name] != gold[name] for name in texts if name in gold):
            return None
        return same

    return judge


def _same_day(
    made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
) -> Equal:
    """As `_same_request`, but of `due_date` only the day."""
    plain = {name: value for name, value in gold.items() if name != "due_date"}
    if "due_date" not in gold:
        return _same_request(made, plain, answer, call)
    day, wanted = _day(made.get("due_date")), _day(gold["due_date"])
    return day is not None and day == wanted and _same_request(made, plain, answer, call)


def _day(text: Json) -> Json:
    try:
        return datetime.strptime(str(text), _TIME).date().isoformat()
    except ValueError:
        return None


def _same_addressees(
    made: Mapping[str, Json], gold: Mapping[str, Json], answer: Mapping[str, Json] | None, call: Mapping[str, Json]
) -> Equal:
    return isinstance(made.get("to"), list) and set(map(str, made["to"])) == set(gold["to"])


def _any_receiver(made: Mapping[str, Json], gold: object, answer: object, call: object) -> Equal:
    """The released program compares the receiver with itself, so anyone will do."""
    return "receiver" in made


_RULES: Mapping[str, Rule] = {
    "AddAlarm": _same_request,
    "FindAlarms": _finds_the_same("alarms", "alarm_id"),
    "CreateEvent": _with_texts("name", "description", "location"),
    "ModifyEvent": _with_texts("new_name", "new_description", "new_location", rule=_same_request_and_response),
    "QueryCalendar": _finds_the_same("events", "event_id"),
    "SearchInbox": _finds_the_same("emails", "email_id"),
    "SendEmail": _with_texts("subject", "body", rule=_same_addressees),
    "SearchMessages": _finds_the_same("messages", "message_id"),
    "SendMessage": _with_texts("message", rule=_any_receiver),
    "AddReminder": _with_texts("task", rule=_same_day),
    "GetReminders": _same_reminders,
}
"""Tools that do not compare request and response as they are."""


METRIC = ToolTalk()
