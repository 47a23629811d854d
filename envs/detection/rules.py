"""Detection without any model: the claims whose form is known are checked, and nothing is said of the others.

It sees what any policy sees, messages and tools, and answers with calls. So it is also the teacher of models, offline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

from envs.detection import dates
from envs.detection.claims import date_claims, numbers, results, sums
from envs.detection.demands import lengths
from envs.detection.memory import WHOLE
from envs.detection.programs import is_fenced, program
from envs.detection.prompts import Language, parts
from envs.detection.sentences import Sentence, split
from envs.types import Call, Json, Message, ToolCall, ToolSpec

MAX_SENTENCES = 1_000
MAX_CHECKS = 40
"""Of one response; a response with more claims is checked as far as that."""

_THOUGHTS: dict[Language, dict[str, str]] = {
    "en": {
        "split_text": "First the response is split into sentences.",
        "whole": "The response is a program: it is checked as a whole.",
        "code_interpreter": "The program is run.",
        "word_count": "The question demands a length.",
        "calculator": "Sentence {number} holds a calculation.",
        "date": "Sentence {number} says something about dates.",
        "web_search": "Sentence {number} states a fact.",
        "match": "What was found is compared with sentence {number}.",
        "review": "Everything that can be checked was checked; now the memory is read.",
        "link": "Sentence {number} uses a result of sentence {other}, which is wrong.",
        "get_answer": "Every label agrees with its evidence.",
        "finish": "Nothing in the response could be checked.",
    },
    "zh": {
        "split_text": "先把回复切分成句子。",
        "whole": "回复是一个程序，作为整体检查。",
        "code_interpreter": "运行这个程序。",
        "word_count": "问题对长度有要求。",
        "calculator": "第{number}句含有计算。",
        "date": "第{number}句涉及日期。",
        "web_search": "第{number}句陈述了事实。",
        "match": "把找到的内容与第{number}句比较。",
        "review": "能检查的都已检查，现在读取记忆。",
        "link": "第{number}句用到了第{other}句的结果，而那个结果是错的。",
        "get_answer": "每个标签都与证据一致。",
        "finish": "回复中没有可以检查的内容。",
    },
}


Planned = tuple[str, Mapping[str, Json]]
"""Name and arguments of a call."""


class RulePolicy:
    """Replies to an episode of `DetectionEnv`; the same messages give the same reply."""

    def __init__(self, *, rounding: bool = True, links: bool = True, thoughts: bool = True) -> None:
        """Check.

        Args:
            rounding: whether a result may be rounded to the digits that it is written with.
            links: whether a sentence that uses a wrong result is wrong; else each is judged by itself.
            thoughts: whether each call is explained in a sentence before it.
        """
        self._rounding = rounding
        self._links = links
        self._thoughts = thoughts

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Message:
        """The next call of the plan.

        Raises:
            ValueError: the first message is none of an episode of detection.
        """
        num_turns = sum(message.role == "assistant" for message in messages)
        return self.message(num_turns, self.call(num_turns, messages, tools), messages)

    def call(self, number: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Planned:
        """Call number `number` of the plan: name and arguments.

        Those after verification follow from what the tools have found, so they are known once that is over.

        Raises:
            ValueError: as `reply`.
        """
        checks = self.checks(messages, tools)
        if number < len(checks):
            return checks[number]
        _, question, response = parts(messages[0].content)
        return _reflection(messages, question, response, self._links)[number - len(checks)]

    def checks(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Sequence[Planned]:
        """The calls of segmentation and verification.

        Raises:
            ValueError: as `reply`.
        """
        _, question, response = parts(messages[0].content)
        given = tuple((tool.name, frozenset(tool.properties)) for tool in tools)
        return _plan(question, response, given, self._rounding)

    def message(self, number: int, planned: Planned, messages: Sequence[Message]) -> Message:
        """A call as message number `number` of an episode."""
        name, arguments = planned
        call = ToolCall(call_id=f"call_{number}", name=name, arguments=arguments)
        thought = _thought(name, arguments, parts(messages[0].content)[0]) if self._thoughts else ""
        return Message(role="assistant", content=thought, calls=(call,))


def _thought(name: str, arguments: Mapping[str, Json], language: Language) -> str:
    key = "whole" if arguments.get("whole") else name
    others = arguments.get("depends_on") or [0]
    return _THOUGHTS[language][key].format(number=arguments.get("sentence", 0), other=others[0])


@lru_cache(maxsize=64)
def _plan(
    question: str, response: str, tools: tuple[tuple[str, frozenset[str]], ...], rounding: bool
) -> tuple[Planned, ...]:
    """Segmentation and verification: they follow from the text alone.

    Args:
        question: of the task.
        response: of the task.
        tools: names, and the arguments that each takes; what it does not take is for the environment to fill in.
        rounding: as of RulePolicy.
    """
    properties = dict(tools)
    checks = list(islice(_checks(question, response, frozenset(properties), rounding), MAX_CHECKS))
    has_program = any(name == "code_interpreter" for name, _ in checks)
    is_whole = has_program and _place_of_program(response) is None
    calls: list[Planned] = [("split_text", {"whole": True} if is_whole else {})]
    for name, arguments in checks:
        if name in properties:
            call = name, {key: value for key, value in arguments.items() if key in properties[name]}
            if call not in calls:
                calls.append(call)
    return tuple(calls)


def _checks(question: str, response: str, names: frozenset[str], rounding: bool) -> Iterator[Planned]:
    found, place = program(question, response), _place_of_program(response)
    if found is not None:
        tests = {"tests": found.tests} if found.tests else {}
        yield "code_interpreter", {"sentence": place or 1, "code": found.code, **tests}
        if place is None:
            return
    else:
        for demand in lengths(question):
            yield "word_count", {"sentence": WHOLE, **demand.to_json()}
    for number, sentence in enumerate(split(response)[:MAX_SENTENCES], start=1):
        if found is not None and number == place:
            continue
        claims = list(_claims(number, sentence.text, rounding))
        yield from claims
        if not claims and "web_search" in names:
            yield "web_search", {"sentence": number, "query": sentence.text[:1_000]}
            yield "match", {"sentence": number}


def _place_of_program(response: str) -> int | None:
    """Number of the sentence that is the one fenced block beside prose; None: a program is the whole response."""
    pieces = split(response)[:MAX_SENTENCES]
    fenced = [number for number, piece in enumerate(pieces, start=1) if is_fenced(piece.text)]
    return fenced[0] if len(fenced) == 1 and len(pieces) > 1 else None


def _claims(number: int, text: str, rounding: bool) -> Iterator[Planned]:
    for formula in sums(text):
        exact = {} if rounding else {"rounding": False}
        yield "calculator", {"sentence": number, "formula": formula, **exact}
    for claim in date_claims(text):
        yield "date", {"sentence": number, **claim.to_json()}


def _reflection(messages: Sequence[Message], question: str, response: str, links: bool) -> list[Planned]:
    """Review, links, answer: they follow from what the tools found."""
    judged = list(_judged(messages))
    if not judged:
        return [("finish", {"answer": "unknown"})]
    linked = list(_links(judged, question, response))[:MAX_CHECKS] if links else []
    return [("review", {}), *linked, ("get_answer", {})]


def _judged(messages: Sequence[Message]) -> Iterator[tuple[ToolCall, int]]:
    """Calls of tools that gave a label, with the label."""
    calls: dict[str, Call] = {call.call_id: call for message in messages for call in message.calls}
    for message in messages:
        call = calls.get(message.call_id) if message.role == "tool" else None
        if isinstance(call, ToolCall) and call.name not in ("review", "link", "set_label"):
            label = _label(message.content)
            if label is not None:
                yield call, label


def _label(content: str) -> int | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    label = value.get("label") if isinstance(value, Mapping) else None
    return label if label in (0, 1) else None


def _links(judged: Sequence[tuple[ToolCall, int]], question: str, response: str) -> Iterator[Planned]:
    """A sentence that uses the result of a wrong calculation rests on it, and its own results are wrong too."""
    pieces = split(response)
    formulas: dict[int, list[str]] = {}
    for call, _ in judged:
        if call.name == "calculator":
            formulas.setdefault(call.arguments.get("sentence", WHOLE), []).extend(_formulas(call, pieces))
    miscalculated = {
        call.arguments.get("sentence", WHOLE) for call, label in judged if call.name == "calculator" and label == 1
    }
    given = set(numbers(question))
    wrong: dict[str, int] = {}
    for number, sentence in enumerate(pieces, start=1):
        used = set(numbers(_without_dates(sentence.text)))
        sources = sorted({wrong[value] for value in used if value in wrong})
        if sources:
            yield "link", {"sentence": number, "depends_on": sources}
        if sources or number in miscalculated:
            for value in (value for formula in formulas.get(number, ()) for value in results(formula)[-1:]):
                # A number that was given before is no result of this calculation alone.
                if value not in given:
                    wrong.setdefault(value, number)
        given |= used - wrong.keys()


def _without_dates(text: str) -> str:
    for place in reversed(dates.find(text)):
        text = f"{text[: place.start]} {text[place.end :]}"
    return text


def _formulas(call: ToolCall, pieces: Sequence[Sentence]) -> list[str]:
    """What a calculation checked: its formula, or, where that was left out, what is found in the sentence."""
    if "formula" in call.arguments:
        return [str(call.arguments["formula"])]
    number = call.arguments.get("sentence", WHOLE)
    return sums(pieces[number - 1].text) if 1 <= number <= len(pieces) else []
