"""Whether a value can have come from what the policy had read: a deterministic form of Relign's truthfulness judge.

A value is grounded if each of its leaves occurs in the request, the history or the results of calls, follows from them
by normalisation (numbers in words and other units, dates, plurals, codes of countries and currencies), is given by the
schema of its parameter, or is common knowledge that no user has to say (a page number, the state that a city lies in).
Source: Relign (arXiv 2412.04141), the rule of the judge "calling truthfulness".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from envs.types import Json, ToolCall, ToolSpec, ToolStatus
from rewards.common_names import REGIONS, SAME
from rewards.matching import normalise, pointer
from rewards.moments import Moments
from rewards.quantities import numbers_in, rounded
from rollout.trajectory import Trajectory

_WORDS = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?%?")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
"""Letters of scripts that write words without spaces, or glue endings to them."""
_LITTLE_WORDS = frozenset({"a", "an", "the", "of", "at", "for", "and"})
_TIME_ZONE = re.compile(r"[A-Z][A-Za-z]+/(?:[A-Z][A-Za-z]+/)?([A-Z][A-Za-z_]+)")
"""Of the IANA database: Area/City."""
_LONG_TEXT = 5
"""From so many words on a value is taken for a text the policy composed: half of its words must be known."""
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_PAGING = frozenset({"page", "pages", "offset", "limit", "skip", "results", "entries", "rows", "records"})
_PAGING_COMPANIONS = frozenset(
    {"max", "maximum", "num", "number", "no", "size", "per", "of", "start", "total", "count", "index", "search",
     "query", "list", "items", "to", "return"}
)  # fmt: skip
_LARGEST_PAGING_VALUE = 1000
_NO_CLAIM = frozenset({"any", "dontcare", "don't care", "no preference"})
"""Values that say that there is no preference: nobody has to have said that."""


class Context:
    """What the policy has read: the prompt and, turn by turn, the results of calls that succeeded and the user's words.

    Messages of refused calls are left out: they may quote the very value that was made up.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._raw = " \n ".join(texts)
        self._plain = normalise(self._raw)
        self._tokens = _WORDS.findall(self._plain)
        self._spaced = f" {' '.join(self._tokens)} "

    @cached_property
    def _stems(self) -> list[str]:
        return [_stem(token) if token.endswith("s") else token for token in self._tokens]

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(self._tokens).union(self._stems)

    @cached_property
    def _stemmed(self) -> str:
        return f" {' '.join(self._stems)} "

    @cached_property
    def _numbers(self) -> frozenset[float]:
        alone = {float(token) for token in self._tokens if token.isdecimal() and len(token) < 300}
        return numbers_in(self._plain).union(alone)

    @cached_property
    def _moments(self) -> Moments:
        return Moments(self._plain)

    def holds(self, value: Json) -> bool:
        """Whether every leaf of `value` occurs, or follows by normalisation."""
        if isinstance(value, Mapping):
            return all(map(self.holds, value.values()))
        if isinstance(value, (list, tuple)):
            return all(map(self.holds, value))
        if value is None or isinstance(value, bool):
            # No text can be searched for these: whether they are right is for the reference to say.
            return True
        if isinstance(value, (int, float)):
            try:
                return rounded(float(value)) in self._numbers
            except OverflowError:
                return str(value) in self._words
        return self._holds_text(str(value))

    def _holds_text(self, value: str) -> bool:
        text = normalise(value)
        words = _WORDS.findall(text)
        if not words:
            return not text or text in self._plain
        if self._holds_phrase(words) or text in ("true", "false"):
            return True
        if UNSPACED.search(text) and text.replace(" ", "") in self._plain.replace(" ", ""):
            return True
        moment = self._moments.holds(text)
        if moment is not None:
            return moment
        if _NUMBER.fullmatch(text):
            return bool(numbers_in(text) & self._numbers)
        return self._holds_name(value, text) or self._holds_words(words)

    def _holds_phrase(self, words: list[str]) -> bool:
        return f" {' '.join(words)} " in self._spaced or f" {' '.join(map(_stem, words))} " in self._stemmed

    def _holds_words(self, words: list[str]) -> bool:
        """Whether the words that say something are known, though not in this order; of a long text, half of them."""
        words = [word for word in words if word not in _LITTLE_WORDS]
        known = sum(word in self._words or _stem(word) in self._words for word in words)
        return bool(words) and (known == len(words) or (len(words) >= _LONG_TEXT and 2 * known >= len(words)))

    def _holds_name(self, value: str, text: str) -> bool:
        """Whether another name of the same is there: a code, an abbreviation, a place without its state."""
        if any(self._holds_alias(alias) for group in SAME.get(text, ()) for names in group for alias in names):
            return True
        zone = _TIME_ZONE.fullmatch(value)
        if zone is not None:
            return self._holds_phrase(_WORDS.findall(normalise(zone[1])))
        place, comma, region = text.partition(",")
        if comma and all(part.strip(" .") in REGIONS for part in region.split(",")):
            name = value.partition(",")[0]
            return self._holds_phrase(_WORDS.findall(place)) or self._holds_initials(name)
        return self._holds_initials(value)

    def _holds_alias(self, alias: str) -> bool:
        if alias.isupper():  # In lower case, codes are words: IN, OR, ME.
            return re.search(rf"\b{alias}\b", self._raw) is not None
        words = _WORDS.findall(alias)
        return self._holds_phrase(words) if words else alias in self._plain

    def _holds_initials(self, name: str) -> bool:
        words = name.split()
        if len(words) < 2 or not all(word[0].isupper() for word in words):
            return False
        initials = re.escape("".join(word[0] for word in words))
        return re.search(rf"\b{initials}\b", self._raw) is not None


def _stem(word: str) -> str:
    """A word without the ending of a plural or of the third person."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zes")) else word[:-1]


def context_before(trajectory: Trajectory, turn: int) -> Context:
    """What the policy had read when it wrote turn `turn`."""
    return Context(texts_before(trajectory, turn))


def texts_before(trajectory: Trajectory, turn: int) -> list[str]:
    """The prompt, the results of calls that succeeded and the user's words before turn `turn`, in their order."""
    texts = [message.content for message in trajectory.task.prompt]
    for earlier in trajectory.turns[:turn]:
        texts.extend(result.content for result in earlier.results if result.status == ToolStatus.OK)
        texts.extend(message.content for message in earlier.heard)
    return texts


def ungrounded_arguments(call: ToolCall, tool: ToolSpec, context: Context, *, defaults: bool) -> list[str]:
    """JSON pointers of what nothing grounds in the required arguments of a call; as `ungrounded_places`."""
    return [
        place
        for name in tool.required
        if name in call.arguments
        for place in ungrounded_places(
            name, call.arguments[name], tool.properties.get(name), context, defaults=defaults
        )
    ]


def ungrounded_places(name: str, value: Json, schema: Json, context: Context, *, defaults: bool) -> list[str]:
    """JSON pointers, from the argument on ("/stops/0/city"), of the leaves of a value that nothing grounds.

    Args:
        name: of the argument.
        value: what it was given.
        schema: of the parameter.
        context: what the policy had read.
        defaults: whether the schema's default, examples and description ground a value, and not only what limits the
            choice. They never do in a task in which a value is missing: there, copying them is the very fault.
    """
    return list(_ungrounded(name, value, schema, context, pointer(name), defaults))


def _ungrounded(name: str, value: Json, schema: Json, context: Context, where: str, defaults: bool) -> Iterator[str]:
    is_whole = isinstance(value, (str, int, float)) or value is None
    if is_whole and context.holds(value):
        return
    if schema_grounds(value, schema, defaults=defaults) or is_paging(name, value) or _claims_nothing(value):
        return
    own: Mapping[str, Json] = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, Mapping):
        properties = own.get("properties")
        for key, item in value.items():
            inner = properties.get(key) if isinstance(properties, Mapping) else None
            yield from _ungrounded(key, item, inner, context, where + pointer(key), defaults)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _ungrounded(name, item, own.get("items"), context, f"{where}/{index}", defaults)
    elif is_whole or not context.holds(value):
        yield where


def schema_grounds(value: Json, schema: Json, *, defaults: bool) -> bool:
    """Whether the parameter's own schema gives `value`.

    Args:
        value: the value of the argument.
        schema: the schema of the parameter.
        defaults: whether its default, its examples and its description count, and not only what limits the choice
            (enum, const).
    """
    if not isinstance(schema, Mapping):
        return False
    given = [*_listed(schema.get("enum")), schema.get("const")]
    if defaults:
        given += [schema.get("default"), *_listed(schema.get("examples")), schema.get("example")]
    given = [item for item in given if item is not None]
    if given and _spelling(value) in map(_spelling, given):
        return True
    return defaults and _describes(schema.get("description"), value)


def _describes(description: Json, value: Json) -> bool:
    """Whether the words of a description give a value: any text, or a number that it explains ("1: sedentary")."""
    if not isinstance(description, str):
        return False
    text = normalise(description)
    if isinstance(value, str):
        words = _WORDS.findall(normalise(value))
        return bool(words) and f" {' '.join(words)} " in f" {' '.join(_WORDS.findall(text))} "
    if isinstance(value, int) and not isinstance(value, bool):
        return re.search(rf"(?<![\w.]){value} ?(?:[:=]|- |\u2013 |means |is |for )[ (\"']*[a-z]", text) is not None
    return False


def is_paging(name: str, value: Json) -> bool:
    """Whether a value is a page, an offset or a limit, which no user has to say."""
    if isinstance(value, bool):
        return False
    text = str(value).strip()
    if not text.isdecimal() or len(text) > 4 or int(text) > _LARGEST_PAGING_VALUE:
        return False
    parts = {part.lower() for part in _NAME_PARTS.findall(name)}
    return bool(parts & _PAGING) and parts <= _PAGING | _PAGING_COMPANIONS


def _claims_nothing(value: Json) -> bool:
    return isinstance(value, str) and normalise(value) in _NO_CLAIM


def _listed(value: Json) -> list[Json]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _spelling(value: Json) -> str:
    return normalise(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def ungrounded_words(answer: str, context: Context) -> list[str]:
    """The numbers, dates and ids of an answer (words with a digit) that `context` does not hold."""
    found = []
    for word in answer.split():
        word = word.strip(".,;:!?()[]{}\"'")
        if any(letter.isdigit() for letter in word) and not context.holds(word):
            found.append(word)
    return found
