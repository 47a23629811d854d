"""Demonstrations of toolworld tasks: the right moves, with deliberate errors as real demonstrations have them.

Whether an error is made is decided by chance at a rate that depends only on the context, so a perfect imitator that
decodes greedily makes the majority error where the rate is above one half: it guesses instead of asking, and calls
instead of saying that no tool serves. Such a guess is rarely taken back: what a tool accepts looks like success.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, DEFERRALS, FINISH, TALK_TO_USER, offered_actions
from envs.toolworld import words
from envs.toolworld.catalogue import plausible_value, spoken
from envs.toolworld.tasks import answer_text
from envs.types import Call, Json, MalformedCall, Message, Step, Task, TaskKind, ToolCall, ToolSpec, ToolStatus

ERROR_RATES: Mapping[str, float] = {
    TaskKind.MISSING_ARGUMENT: 0.65,
    TaskKind.UNMATCHED_TOOLS: 0.60,
    "other": 0.08,
}
"""Probability of an error where the user must be asked, where other tools are needed, and at every other call. With the
usual mix of kinds and INSISTENCE about 24 % of all calls are erroneous."""

NO_ERRORS: Mapping[str, float] = dict.fromkeys(ERROR_RATES, 0.0)

INSISTENCE = 0.8
"""Probability of holding on to a guess where a deferral was due: refused, it is made again with made-up values, and
once a tool accepts it the episode is finished with the result."""

_ABANDON = 0.5
"""Probability of finishing with the result of any other erroneous call that the environment accepted."""

_SLIPS: Mapping[str, float] = {
    "near_tool": 22,
    "misspelt_tool": 16,
    "missing_argument": 14,
    "unknown_argument": 10,
    "wrong_value": 16,
    "bad_type": 8,
    "malformed": 6,
    "needless_deferral": 8,
}
"""Weight of each error where a plain call is due."""


class Demonstrator:
    """A policy for one episode of one task. It knows the task's reference."""

    def __init__(
        self,
        task: Task,
        seed: int = 0,
        error_rates: Mapping[str, float] | None = None,
        insistence: float = INSISTENCE,
    ) -> None:
        """Plan the episode.

        Args:
            task: a task with a reference.
            seed: decides the errors, together with the task's id.
            error_rates: replaces entries of ERROR_RATES; NO_ERRORS gives the gold policy.
            insistence: replaces INSISTENCE; 0 demonstrates recovery from every guess.

        Raises:
            ValueError: the task has no reference or does not offer a deferral that it holds, a rate has an unknown
                name, or the insistence is no probability.
        """
        if task.reference is None:
            raise ValueError(f"task {task.task_id}: a demonstration needs a reference")
        self._offered_actions = {action.name for action in offered_actions(task)}
        unoffered = sorted({call.name for call in task.reference} & DEFERRALS - self._offered_actions)
        if unoffered:
            raise ValueError(f"task {task.task_id}: its reference holds {unoffered[0]}, which it does not offer")
        unknown = sorted(set(error_rates or {}) - set(ERROR_RATES))
        if unknown:
            raise ValueError(f"error_rates {unknown}: expected {', '.join(ERROR_RATES)}")
        if not 0 <= insistence <= 1:
            raise ValueError(f"insistence {insistence}: expected a probability from 0 to 1")
        self.task = task
        self._insistence = insistence
        self._rates = dict(ERROR_RATES) | dict(error_rates or {})
        self._rng = random.Random(f"{seed} {task.task_id}")
        calls = tuple(_with_texts(call, task) for call in task.reference)
        self._plan: list[tuple[ToolCall, ...]] = [(call,) for call in calls] if task.ordered else [calls]
        self._position = 0
        self._slipped = False
        self._due: tuple[ToolCall, ...] = ()
        """The right calls that the last erroneous message did not make."""
        self._next_guess: ToolCall | None = None
        """What follows if the erroneous call is refused, before the right calls do."""
        self._abandons = False
        """Whether the episode ends with the result of the erroneous call once it is accepted."""
        self._num_calls = 0

    def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], last_step: Step | None
    ) -> tuple[Message, bool]:
        """The next assistant message, and whether it is an error."""
        if self._slipped:
            return self._after_slip(last_step)
        retries = _interrupted(messages, last_step)
        if retries:
            return self._message(retries), False
        if self._position == len(self._plan):
            return self._finish(self.task.answer or ""), False
        due = self._plan[self._position]
        rate = self._rates[_RATE_OF.get(due[0].name, "other")]
        if self._rng.random() < (1 - rate) ** len(due):
            self._position += 1
            return self._message(due), False
        offered = [tool for tool in tools if tool.name not in ACTION_NAMES]
        calls, self._due = self._slip(due, offered)
        self._slipped = True
        return self._message(calls), True

    def _after_slip(self, last_step: Step | None) -> tuple[Message, bool]:
        results = last_step.results if last_step else ()
        accepted = bool(results) and all(result.status == ToolStatus.OK for result in results)
        if not accepted and self._next_guess is not None:
            guess, self._next_guess = self._next_guess, None
            return self._message((guess,)), True
        self._slipped = False
        self._position += 1
        if accepted and self._abandons:
            self._position = len(self._plan)
            return self._finish(", ".join(_result_text(result.content) for result in results)), True
        return self._message(self._due), False

    def _slip(
        self, due: tuple[ToolCall, ...], offered: Sequence[ToolSpec]
    ) -> tuple[tuple[Call, ...], tuple[ToolCall, ...]]:
        """Erroneous calls instead of the due ones, and the due calls that are still to be made after them."""
        self._next_guess = None
        if due[0].name in _RATE_OF:
            first, *more = self._guesses(due[0], offered)
            self._abandons = self._rng.random() < self._insistence
            if more and self._abandons:
                self._next_guess = more[0]
            return (first,), due
        kind = self._rng.choices(list(_SLIPS), list(_SLIPS.values()))[0]
        if kind == "needless_deferral" and self._offered_actions >= DEFERRALS:
            self._abandons = False
            return (self._needless(due[0]),), due
        self._abandons = self._rng.random() < _ABANDON
        index = self._rng.randrange(len(due))
        wrong = self._corrupt(kind, due[index], offered)
        return (*due[:index], wrong, *due[index + 1 :]), (due[index],)

    def _guesses(self, deferral: ToolCall, offered: Sequence[ToolSpec]) -> list[ToolCall]:
        """A guess instead of the deferral, mostly one that will be accepted; behind another one, one that will be."""
        if deferral.name == TALK_TO_USER:
            return self._guesses_of_values(deferral.arguments["missing"], self._plan[self._position + 1][0], offered)
        return self._guesses_of_tools(offered)

    def _guesses_of_values(self, missing: Sequence[str], call: ToolCall, offered: Sequence[ToolSpec]) -> list[ToolCall]:
        """The call without asking: with made-up values, or first without the missing ones."""
        spec = _spec(call.name, offered)
        made_up = dict(call.arguments)
        for name in missing:
            made_up[name] = self._other_value(name, spec.properties[name], made_up[name])
        guess = ToolCall(name=call.name, arguments=made_up)
        if self._rng.random() < 0.8:
            return [guess]
        given = {name: value for name, value in call.arguments.items() if name not in missing}
        return [ToolCall(name=call.name, arguments=given), guess]

    def _guesses_of_tools(self, offered: Sequence[ToolSpec]) -> list[ToolCall]:
        """A call although no offered tool serves: of the nearest tool, or first of the tool that should exist."""
        call = _call(self.task.facts["wanted"])
        if not offered:
            return [call]
        near = self._near_call(call, offered)
        return [near] if self._rng.random() < 0.7 else [call, near]

    def _near_call(self, call: ToolCall, offered: Sequence[ToolSpec]) -> ToolCall:
        others = [tool for tool in offered if tool.name != call.name]
        near = max(others, key=lambda tool: _likeness(tool.name, call.name))
        unused = {name: value for name, value in call.arguments.items() if name not in near.properties}
        arguments: dict[str, Json] = {}
        for name, schema in near.properties.items():
            if name in call.arguments:
                arguments[name] = call.arguments[name]
            elif name in near.required:
                same = [key for key, value in unused.items() if _same_type(value, schema)]
                arguments[name] = unused.pop(same[0]) if same else plausible_value(name, schema, self._rng)
        return ToolCall(name=near.name, arguments=arguments)

    def _needless(self, call: ToolCall) -> ToolCall:
        if self._rng.random() < 0.5 and call.arguments:
            missing = [self._rng.choice(list(call.arguments))]
            return ToolCall(name=TALK_TO_USER, arguments={"question": question(missing), "missing": missing})
        return ToolCall(name=CHANGE_TOOLS, arguments={"reason": f"no tool can {spoken(call.name)}"})

    def _corrupt(self, kind: str, call: ToolCall, offered: Sequence[ToolSpec]) -> Call:
        """The call with one error of this kind, or of another kind where the call leaves no room for it."""
        spec = _spec(call.name, offered)
        arguments = dict(call.arguments)
        if kind == "near_tool" and len(offered) > 1:
            return self._near_call(call, offered)
        if kind == "malformed":
            text = json.dumps({"name": call.name, "arguments": arguments})
            return MalformedCall(text=text[: -self._rng.randint(1, 2)], reason="invalid JSON")
        required = [name for name in spec.required if name in arguments]
        if kind == "missing_argument" and required:
            del arguments[self._rng.choice(required)]
            return ToolCall(name=call.name, arguments=arguments)
        if kind == "unknown_argument":
            extra = self._rng.choice([name for name in _SPARE_PARAMETERS if name not in spec.properties])
            schema = {"type": "integer"} if extra in words.INTEGERS else {"type": "string"}
            arguments[extra] = plausible_value(extra, schema, self._rng)
            return ToolCall(name=call.name, arguments=arguments)
        if kind in ("wrong_value", "bad_type") and arguments:
            name = self._rng.choice(list(arguments))
            schema = spec.properties[name]
            if kind == "bad_type":
                arguments[name] = _mistyped(arguments[name])
            else:
                arguments[name] = self._other_value(name, schema, arguments[name])
            return ToolCall(name=call.name, arguments=arguments)
        return ToolCall(name=self._misspelt(call.name, {tool.name for tool in offered}), arguments=arguments)

    def _misspelt(self, name: str, offered: set[str]) -> str:
        """A name that is not offered and looks like this one."""
        parts = name.split("_")
        if len(parts) > 2:
            changed = [
                "_".join(parts[:-1]),
                "_".join([*parts, self._rng.choice(words.SUFFIXES)]),
                "_".join([self._rng.choice(words.VERBS), *parts[1:]]),
                "_".join([parts[0], *parts[2:]]),
            ]
        else:
            changed = [f"{name}_{self._rng.choice(words.SUFFIXES)}", f"{self._rng.choice(words.VERBS)}_{name}"]
        self._rng.shuffle(changed)
        return next((text for text in changed if text not in offered and text not in ACTION_NAMES), f"{name}_new")

    def _other_value(self, name: str, schema: Mapping[str, Json], value: Json) -> Json:
        for _ in range(20):
            other = plausible_value(name, schema, self._rng)
            if other != value:
                return other
        return f"{value} {self._rng.choice(words.ADJECTIVES)}" if isinstance(value, str) else value + 1

    def _finish(self, answer: str) -> Message:
        return self._message((ToolCall(name=FINISH, arguments={"answer": answer}),))

    def _message(self, calls: Sequence[Call]) -> Message:
        numbered = []
        for call in calls:
            call_id = f"call_{self._num_calls}"
            self._num_calls += 1
            if isinstance(call, ToolCall):
                numbered.append(ToolCall(call_id=call_id, name=call.name, arguments=call.arguments))
            else:
                numbered.append(MalformedCall(call_id=call_id, text=call.text, reason=call.reason))
        return Message(role="assistant", calls=tuple(numbered))


_RATE_OF = {TALK_TO_USER: TaskKind.MISSING_ARGUMENT, CHANGE_TOOLS: TaskKind.UNMATCHED_TOOLS}
_SPARE_PARAMETERS = ("city", "color", "days", "limit", "owner", "language", "amount", "note")


def _call(value: Mapping[str, Json]) -> ToolCall:
    return ToolCall(name=value["name"], arguments=value["arguments"])


def question(missing: Sequence[str]) -> str:
    """What to ask the user: "which city and days?"."""
    return f"which {' and '.join(spoken(name) for name in missing)}?"


def _with_texts(call: ToolCall, task: Task) -> ToolCall:
    """A deferral of the reference with the free text that the reference leaves open."""
    if call.name == TALK_TO_USER:
        return ToolCall(name=call.name, arguments={"question": question(call.arguments["missing"]), **call.arguments})
    if call.name == CHANGE_TOOLS:
        return ToolCall(name=call.name, arguments={"reason": f"no tool can {task.facts['wanted']['phrase']}"})
    return call


def _interrupted(messages: Sequence[Message], last_step: Step | None) -> list[ToolCall]:
    """Right calls that failed or timed out through no fault of theirs."""
    if last_step is None:
        return []
    lost = {
        result.call_id for result in last_step.results if result.status in (ToolStatus.FAILED, ToolStatus.TIMED_OUT)
    }
    made = [message for message in messages if message.role == "assistant"][-1:]
    return [call for message in made for call in message.calls if call.call_id in lost and isinstance(call, ToolCall)]


def _spec(name: str, offered: Sequence[ToolSpec]) -> ToolSpec:
    return next(tool for tool in offered if tool.name == name)


def _likeness(name: str, wanted: str) -> tuple[int, int]:
    """Length of the common beginning in words, then the number of common words."""
    ours, theirs = spoken(name).split(), spoken(wanted).split()
    start = 0
    while start < min(len(ours), len(theirs)) and ours[start] == theirs[start]:
        start += 1
    return start, len(set(ours) & set(theirs))


def _same_type(value: Json, schema: Mapping[str, Json]) -> bool:
    if "enum" in schema or schema.get("format"):
        return False
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool}
    return type(value) is kinds.get(str(schema.get("type")))


def _mistyped(value: Json) -> Json:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return [value] if isinstance(value, str) else str(value)


def _result_text(content: str) -> str:
    value = json.loads(content)
    return answer_text(value) if isinstance(value, dict) else str(value)
