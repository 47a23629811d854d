"""The user's wording: templates of requests and of argument lists, disjoint between training and held-out tasks.

Single, missing-argument and unmatched-tools requests share their templates: a request must not give its kind away.
All words of the held-out templates also occur in the training templates; their order is new.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.toolworld.catalogue import Split, WorldTool, spoken
from envs.types import Json

SINGLE: dict[Split, tuple[str, ...]] = {
    "train": (
        "{do}{args}",
        "{do}{args}.",
        "please {do}{args}.",
        "can you {do}{args}?",
        "I want to {do}{args}.",
        "I need to {do}{args}.",
        "help me {do}{args}.",
        "could you please {do}{args}?",
        "I want you to {do}{args}.",
        "today I need to {do}{args}.",
        "my task: {do}{args}.",
        "now {do}{args}, thanks.",
        "hello, {do}{args}.",
        "it is time to {do}{args}.",
        "hello, my task is to {do}{args}.",
        "please help, I have to {do}{args}.",
        "{lead}, please {do}.",
        "{lead}, can you {do}?",
    ),
    "heldout": (
        "hello, can you {do}{args}?",
        "I need you to {do}{args}, please.",
        "thanks, now I want to {do}{args}.",
        "please help me to {do}{args}.",
        "today my task is to {do}{args}.",
        "could you help me {do}{args}?",
        "I have to {do}{args} now.",
        "{lead}, I need to {do}.",
    ),
}
"""{do}: the words of the tool; {args}: the arguments behind it; {lead}: the arguments before it."""

CHAIN: dict[Split, tuple[str, ...]] = {
    "train": (
        "{do}{args}, then use its {link} to {do2}{args2}.",
        "first {do}{args}, then {do2} with its {link}{more2}.",
        "{do}{args}. then {do2} with the {link} from it{more2}.",
        "please {do}{args} and use the {link} to {do2}{args2}.",
        "I want to {do}{args}, then use the {link} to {do2}{args2}.",
        "can you {do}{args}, then {do2} with its {link}{more2}?",
        "{do}{args}; with the {link} from it {do2}{args2}.",
        "help me {do}{args} and then {do2} with that {link}{more2}.",
        "{do}{args}. use that {link} to {do2}{args2}.",
        "I need to {do}{args}. after that {do2} with the {link}{more2}.",
        "first {do}{args}. after that use its {link} to {do2}{args2}.",
        "hello, {do}{args} and {do2} with the {link} from it{more2}.",
        "my task: {do}{args}, then {do2} with that {link}{more2}.",
        "today I want to {do}{args} and use its {link} to {do2}{args2}.",
    ),
    "heldout": (
        "please {do}{args}. after that {do2} with its {link}{more2}.",
        "first {do}{args} and use that {link} to {do2}{args2}.",
        "I need to {do}{args}, then use the {link} from it to {do2}{args2}.",
        "hello, can you {do}{args} and then use its {link} to {do2}{args2}?",
        "{do}{args}, after that {do2} with the {link} from it{more2}.",
        "my task is to {do}{args} and then {do2} with the {link}{more2}.",
        "help me {do}{args}. then use that {link} to {do2}{args2}.",
    ),
}
"""{link}: the parameter of the second call whose value comes from the first result; {more2}: the others, joined on."""

PARALLEL: dict[Split, tuple[tuple[str, str], ...]] = {
    "train": (
        ("{all}.", " and "),
        ("{all}.", "; "),
        ("please {all}.", " and also "),
        ("can you {all}?", " and "),
        ("I want to {all}.", " and to "),
        ("I need to {all}.", " and also "),
        ("help me {all}.", ", then "),
        ("hello, {all}.", "; also "),
        ("my task: {all}.", ". "),
        ("both: {all}.", "; "),
        ("today {all}.", ", also "),
        ("{all}, thanks.", " and also "),
        ("could you please {all}?", " and then "),
        ("it is time to {all}.", " and "),
    ),
    "heldout": (
        ("hello, can you {all}?", " and also "),
        ("please help me {all}.", "; also "),
        ("I have to {all}.", " and then "),
        ("today I want to {all}.", " and "),
        ("both, please: {all}.", ". "),
        ("could you {all}, thanks.", "; "),
        ("my task is to {all}.", " and also to "),
    ),
}
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


def _style(opening: str, item: str, separator: str, last: str | None = None, **options: Json) -> ArgumentStyle:
    last = separator if last is None else last
    return ArgumentStyle(opening=opening, item=item, separator=separator, last_separator=last, **options)


STYLES: dict[Split, tuple[ArgumentStyle, ...]] = {
    "train": (
        _style(" with ", "{n} {v}", ", ", " and ", leads=True),
        _style(" with ", "{n} {v}", " and ", leads=True),
        _style(" where ", "{n} is {v}", " and ", leads=True),
        _style(" (", "{n}: {v}", ", ", closing=")"),
        _style(": ", "{n} = {v}", ", "),
        _style(" using ", "{v} as {n}", ", ", " and ", leads=True),
        _style(" for ", "{n} {v}", ", ", " and ", leads=True),
        _style(", ", "{n}: {v}", "; "),
        _style(" with ", "{n} {v}", ", ", " and ", quoted=True),
        _style(" (", "{n} = {v}", "; ", closing=")", quoted=True),
    ),
    "heldout": (
        _style(" with ", "{n} = {v}", " and ", leads=True),
        _style(" using ", "{n} {v}", ", ", leads=True),
        _style(" for ", "{n}: {v}", ", ", " and ", leads=True),
        _style(" (", "{v} as {n}", "; ", closing=")"),
        _style(": ", "{n} is {v}", ", ", " and "),
        _style(" where ", "{n} is {v}", ", ", quoted=True, leads=True),
    ),
}

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
