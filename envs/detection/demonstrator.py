"""Demonstrations of detection: what the rules do, with deliberate slips that a learner has to unlearn."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from envs.actions import FINISH
from envs.detection.prompts import NO, YES
from envs.detection.rules import Planned, RulePolicy
from envs.types import MalformedCall, Message, Step, Task, ToolCall, ToolSpec

SLIPS: Mapping[str, float] = {
    "wrong_tool": 0.2,
    "wrong_sentence": 0.1,
    "unknown_tool": 0.1,
    "malformed": 0.1,
    "lingers": 0.15,
    "stops": 0.25,
    "guesses": 0.25,
}
"""Weight of each slip. `lingers` is a check after all were made, the others stand in the place of a check. The last two
end the episode; all others are followed by the right call."""

BEYOND = 9
"""How far behind its sentence a check looks whose number is wrong."""
_CHECKS = ("calculator", "date", "word_count", "code_interpreter")
_MISNAMED: Mapping[str, tuple[str, ...]] = {
    "calculator": ("calculate", "compute"),
    "date": ("calendar", "date_check"),
    "word_count": ("count_words", "length"),
    "code_interpreter": ("run_code", "python"),
}


class Demonstrator:
    """A policy for one episode of one task. It sees what the rules see, and does not know the truth."""

    def __init__(
        self,
        task: Task,
        seed: int = 0,
        slips: float = 0.0,
        kinds: Mapping[str, float] | None = None,
        thoughts: bool = False,
    ) -> None:
        """Prepare.

        Args:
            task: of `envs.detection.env.make_task`.
            seed: decides the slips, together with the task's id.
            slips: probability of a slip at each check, and of lingering behind the last; 0 gives the rules. A kind that
                does not fit the place is none.
            kinds: replaces the weights of SLIPS; kinds not named do not occur.
            thoughts: whether each call is explained in a sentence before it.

        Raises:
            ValueError: `slips` is no probability, or a kind is unknown.
        """
        if not 0 <= slips <= 1:
            raise ValueError(f"slips {slips}: expected a probability from 0 to 1")
        weights = dict(SLIPS if kinds is None else kinds)
        if set(weights) - set(SLIPS) or not sum(weights.values()) > 0:
            raise ValueError(f"kinds {weights}: expected positive weights of {', '.join(SLIPS)}")
        self._rules = RulePolicy(thoughts=thoughts)
        self._rng = random.Random(f"{seed} {task.task_id}")
        self._slips = slips
        self._kinds = list(weights)
        self._weights = list(weights.values())
        self._position = 0
        self._num_messages = 0
        self._slipped = False
        self._last: Planned = "", {}
        """The last check."""

    def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], last_step: Step | None
    ) -> tuple[Message, bool]:
        """The next assistant message, and whether it is an error."""
        del last_step  # The rules read results from the messages.
        planned = self._rules.call(self._position, messages, tools)
        kind = "" if self._slipped else self._drawn(planned[0])
        if kind:
            self._slipped = True
            return self._slip(kind, planned, tools), True
        self._slipped = False
        self._position += 1
        if planned[0] in _CHECKS:
            self._last = planned
        return self._said(planned, messages), False

    def _drawn(self, name: str) -> str:
        """The slip that is made in the place of a call; "" for none."""
        if (name not in _CHECKS and name != "review") or self._rng.random() >= self._slips:
            return ""
        kind = self._rng.choices(self._kinds, self._weights)[0]
        return kind if (kind == "lingers") == (name == "review") else ""

    def _said(self, planned: Planned, messages: Sequence[Message]) -> Message:
        self._num_messages += 1
        return self._rules.message(self._num_messages - 1, planned, messages)

    def _slip(self, kind: str, planned: Planned, tools: Sequence[ToolSpec]) -> Message:
        """A wrong message in the place of a call."""
        name, arguments = planned
        match kind:
            case "lingers":
                name, arguments = self._last
                return self._wordless(name, {**arguments, "sentence": int(arguments.get("sentence", 0)) + 1})
            case "wrong_tool":
                offered = [tool.name for tool in tools if tool.name in _CHECKS and tool.name != name]
                return self._wordless(self._rng.choice(offered), {"sentence": arguments.get("sentence", 0)})
            case "wrong_sentence":
                return self._wordless(name, {**arguments, "sentence": int(arguments.get("sentence", 0)) + BEYOND})
            case "unknown_tool":
                return self._wordless(self._rng.choice(_MISNAMED[name]), arguments)
            case "malformed":
                text = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
                call = MalformedCall(call_id=self._call_id(), text=text[:-1], reason="invalid JSON")
                return Message(role="assistant", calls=(call,))
            case "stops" if self._position > 1:
                # What was not checked yet is taken for right.
                return self._wordless("get_answer", {})
        return self._wordless(FINISH, {"answer": self._rng.choice((YES, NO))})

    def _wordless(self, name: str, arguments: Mapping[str, object]) -> Message:
        call = ToolCall(call_id=self._call_id(), name=name, arguments=arguments)
        return Message(role="assistant", calls=(call,))

    def _call_id(self) -> str:
        self._num_messages += 1
        return f"call_{self._num_messages - 1}"
