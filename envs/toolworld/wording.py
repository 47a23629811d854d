"""The user's wording: requests and argument lists put together from pieces, in combinations of either split.

Every piece is used in training; which pieces stand together in a held-out task never does, as a hash of the
combination decides. Single, missing-argument and unmatched-tools requests share their templates: a request must not
give its kind away.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from envs.toolworld.catalogue import Split, WorldTool, spoken
from envs.types import Json

_HELDOUT_ONE_IN = 6

_GREETINGS = ("", "hello, ", "thanks, ", "today ", "now ", "both, please: ")
_ASKS = (
    "{do}",
    "please {do}",
    "can you {do}",
    "could you {do}",
    "could you please {do}",
    "I want to {do}",
    "I need to {do}",
    "I have to {do}",
    "I want you to {do}",
    "I need you to {do}",
    "help me {do}",
    "please help me to {do}",
    "it is time to {do}",
    "my task is to {do}",
    "my task: {do}",
)
_CLOSINGS = ("", ".", "?", ", please.", ", thanks.", " now.")
_CONNECTORS = (
    ", then use its {link} to {do2}{args2}",
    ", then {do2} with its {link}{more2}",
    ". then {do2} with the {link} from it{more2}",
    " and use the {link} to {do2}{args2}",
    "; with the {link} from it {do2}{args2}",
    " and then {do2} with that {link}{more2}",
    ". use that {link} to {do2}{args2}",
    ". after that {do2} with the {link}{more2}",
    ", after that {do2} with the {link} from it{more2}",
    " and then use its {link} to {do2}{args2}",
)
_FOLLOWERS = (
    ", then {do2}{args2}",
    ", after that {do2}{args2}",
    ". then {do2}{args2}",
    ". after that {do2}{args2}",
    " and then {do2}{args2}",
    ", and next {do2}{args2}",
)
_JOINTS = (" and ", " and also ", "; ", "; also ", ", then ", ". ", ", also ", " and then ", " and to ")

T = TypeVar("T")


def _split(combinations: Iterable[T]) -> dict[Split, tuple[T, ...]]:
    """The training and the held-out combinations."""
    found: dict[Split, list[T]] = {"train": [], "heldout": []}
    for combination in combinations:
        digest = hashlib.sha256(repr(combination).encode()).digest()
        found["heldout" if digest[0] % _HELDOUT_ONE_IN == 0 else "train"].append(combination)
    return {split: tuple(members) for split, members in found.items()}


SINGLE = _split(
    [
        greeting + ask.format(do="{do}{args}") + closing
        for greeting, ask, closing in itertools.product(_GREETINGS[:-1], _ASKS, _CLOSINGS)
    ]
    + ["{lead}, " + ask + closing for ask, closing in itertools.product(_ASKS, _CLOSINGS)]
)
"""{do}: the words of the tool; {args}: the arguments behind it; {lead}: the arguments before it."""

CHAIN = _split(
    greeting + first + ask.format(do="{do}{args}") + connector + closing
    for greeting, first, ask, connector, closing in itertools.product(
        _GREETINGS[:-1], ("", "first "), _ASKS, _CONNECTORS, (".", "?")
    )
)
"""{link}: the parameter of the second call whose value comes from the first result; {more2}: the others, joined on."""

PARALLEL = _split(
    (greeting + ask.format(do="{all}") + closing, joint)
    for greeting, ask, closing, joint in itertools.product(_GREETINGS, _ASKS, _CLOSINGS, _JOINTS)
)
"""The frame, and what stands between the clauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentStyle:
    """How a list of arguments is written."""

    opening: str
    item: str
    separator: str
    last_separator: str
    closing: str = ""
    quoted: bool = False
    leads: bool = False
    """Whether the list can also stand before the request."""

    def write(self, items: Sequence[str]) -> str:
        """The list with its opening; "" without items."""
        if not items:
            return ""
        *first, last = items
        body = self.separator.join(first) + self.last_separator + last if first else last
        return f"{self.opening}{body}{self.closing}"


_OPENINGS = (
    (" with ", "", True),
    (" where ", "", True),
    (" using ", "", True),
    (" for ", "", True),
    (" (", ")", False),
)
_OPENINGS += ((": ", "", False), (", ", "", False))
"""What opens and closes a list, and whether the list can also lead."""
_ITEMS = ("{n} {v}", "{n} is {v}", "{n}: {v}", "{n} = {v}", "{v} as {n}")
_SEPARATORS = ((", ", ", "), (", ", " and "), (" and ", " and "), ("; ", "; "))

STYLES = _split(
    ArgumentStyle(
        opening=opening,
        item=item,
        separator=separator,
        last_separator=last,
        closing=closing,
        quoted=quoted,
        leads=leads,
    )
    for (opening, closing, leads), item, (separator, last), quoted in itertools.product(
        _OPENINGS, _ITEMS, _SEPARATORS, (False, True)
    )
)

_YES = ("yes", "on", "true")
_NO = ("no", "off", "false")


def single_request(rng: random.Random, split: Split, tool: WorldTool, arguments: Mapping[str, Json]) -> str:
    """A request for one call with these arguments, be they all that it needs or not."""
    do, items, style = _phrase(rng, tool), list(arguments.items()), rng.choice(STYLES[split])
    lead_allowed = style.leads and items
    template = rng.choice([text for text in SINGLE[split] if lead_allowed or "{lead}" not in text])
    args = _arguments(rng, style, items)
    return _sentence(rng, template.format(do=do, args=args, lead=args.strip()))


def chain_request(
    rng: random.Random,
    split: Split,
    tools: tuple[WorldTool, WorldTool],
    first: Mapping[str, Json],
    second: Mapping[str, Json],
    link: str,
) -> str:
    """A request for two calls; `second` lacks the argument `link`, which the first result gives."""
    style = rng.choice(STYLES[split])
    written = []
    for arguments in (first, second):
        items = list(arguments.items())
        written.append([_item(rng, style, name, value) for name, value in items])
    more2 = f" and {style.separator.join(written[1])}" if written[1] else ""
    text = rng.choice(CHAIN[split]).format(
        do=_phrase(rng, tools[0]),
        do2=_phrase(rng, tools[1]),
        args=style.write(written[0]),
        args2=style.write(written[1]),
        more2=more2,
        link=_label(rng, link),
    )
    return _sentence(rng, text)


def parallel_request(rng: random.Random, split: Split, calls: Sequence[tuple[WorldTool, Mapping[str, Json]]]) -> str:
    """A request for several independent calls, in their order."""
    frame, joint = rng.choice(PARALLEL[split])
    style = rng.choice(STYLES[split])
    clauses = []
    for tool, arguments in calls:
        items = list(arguments.items())
        clauses.append(_phrase(rng, tool) + _arguments(rng, style, items))
    return _sentence(rng, frame.format(all=joint.join(clauses)))


def sequence_request(
    rng: random.Random, split: Split, calls: Sequence[tuple[WorldTool, Mapping[str, Json]]], links: Sequence[str]
) -> str:
    """A request for several calls one after the other.

    Args:
        rng: chooses the pieces.
        split: on whose side of the split their combination lies.
        calls: the tools, each with the arguments that the user gives.
        links: for each call but the first, the parameter whose value comes from the result before it; "" for none.
    """
    greeting, ask, closing, *between = _sequence(rng, split, links)
    style = rng.choice(STYLES[split])
    items = [[_item(rng, style, name, value) for name, value in given.items()] for _, given in calls]
    text = ask.format(do=_phrase(rng, calls[0][0]) + style.write(items[0]))
    for (tool, _), written, link, joint in zip(calls[1:], items[1:], links, between, strict=True):
        more = f" and {style.separator.join(written)}" if link and written else style.write(written)
        args = style.write(written)
        text += joint.format(do2=_phrase(rng, tool), link=_label(rng, link), args2=args, more2=more)
    return _sentence(rng, greeting + text + closing)


def _sequence(rng: random.Random, split: Split, links: Sequence[str]) -> tuple[str, ...]:
    """Greeting, ask, closing, and what joins each clause to the one before it: a combination of that split."""
    while True:
        between = [rng.choice(_CONNECTORS if link else _FOLLOWERS) for link in links]
        pieces = (rng.choice(_GREETINGS[:-1]), rng.choice(_ASKS), rng.choice((".", "?")), *between)
        digest = hashlib.sha256(repr(pieces).encode()).digest()
        if (digest[0] % _HELDOUT_ONE_IN == 0) == (split == "heldout"):
            return pieces


def value_text(value: Json) -> str:
    """A value as a request or an answer shows it: a string bare, all else as in JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _arguments(rng: random.Random, style: ArgumentStyle, items: Sequence[tuple[str, Json]]) -> str:
    return style.write([_item(rng, style, name, value) for name, value in items])


def _item(rng: random.Random, style: ArgumentStyle, name: str, value: Json) -> str:
    label = _label(rng, name)
    if isinstance(value, bool):
        if style.item == "{n} {v}" and not value and rng.random() < 0.4:
            return f"no {label}"
        text = rng.choice(_YES if value else _NO)
    else:
        text = f'"{value}"' if style.quoted and isinstance(value, str) else value_text(value)
    return style.item.format(n=label, v=text)


def _label(rng: random.Random, name: str) -> str:
    return spoken(name) if rng.random() < 0.6 else name


def _phrase(rng: random.Random, tool: WorldTool) -> str:
    verb, _, rest = tool.phrase.partition(" ")
    return f"{verb} the {rest}" if rest and rng.random() < 0.3 else tool.phrase


def _sentence(rng: random.Random, text: str) -> str:
    text = text.replace("..", ".")
    return text[:1].upper() + text[1:] if rng.random() < 0.2 else text
