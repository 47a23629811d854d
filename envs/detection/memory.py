"""What an episode of detection knows: sentences, what was found of each, and what rests on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.detection.sentences import Sentence, split
from envs.types import Json

WHOLE = 0
"""Number of the response as a whole; its sentences are counted from 1."""
MAX_LINKS = 64
"""Of one sentence."""


class NoSuchSentence(ValueError):
    """A number that no sentence has, or a link that may not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What was found of one sentence."""

    sentence: int
    label: int
    """1: a hallucination; 0: none."""
    evidence: str
    tool: str
    """What found it; `set_label` for a label stated by the policy, `link` for an error that came from elsewhere."""

    def to_json(self) -> dict[str, Json]:
        """As {"sentence", "label", "evidence", "tool"}."""
        return {"sentence": self.sentence, "label": self.label, "evidence": self.evidence, "tool": self.tool}


class Memory:
    """Triples of sentence, label and evidence, each changeable by the number of its sentence, and links between them.

    The paper states both (section 3.2, reflection); its release keeps three lists of which only the last entry can be
    changed, and no links.
    """

    def __init__(self, response: str) -> None:
        self.response = response
        self.sentences: tuple[Sentence, ...] = ()
        """In their order, once the response was split."""
        self._entries: dict[int, Entry] = {}
        self._links: dict[int, tuple[int, ...]] = {}

    def segment(self, *, whole: bool = False) -> Sequence[Sentence]:
        """Split the response, or take it as one sentence. What was found of other sentences is forgotten."""
        everything = Sentence(start=0, end=len(self.response), text=self.response)
        self.sentences = (everything,) if whole else tuple(split(self.response))
        self._entries = {number: entry for number, entry in self._entries.items() if number == WHOLE}
        self._links = {}
        return self.sentences

    def text(self, number: int) -> str:
        """The sentence with this number, or the whole response.

        Raises:
            NoSuchSentence: there is none.
        """
        if number == WHOLE:
            return self.response
        if not 1 <= number <= len(self.sentences):
            known = f"expected {WHOLE} to {len(self.sentences)}" if self.sentences else "the response is not split yet"
            raise NoSuchSentence(f"no sentence {number}: {known}")
        return self.sentences[number - 1].text

    def record(self, entry: Entry) -> None:
        """What a check found. Of several checks of one sentence the first that finds an error stays.

        Raises:
            NoSuchSentence: there is no such sentence.
        """
        self.text(entry.sentence)
        earlier = self._entries.get(entry.sentence)
        if earlier is None or (earlier.label == 0 and entry.label == 1):
            self._entries[entry.sentence] = entry

    def change(self, entry: Entry) -> None:
        """Put this in the place of what was found before.

        Raises:
            NoSuchSentence: there is no such sentence.
        """
        self.text(entry.sentence)
        self._entries[entry.sentence] = entry

    def link(self, sentence: int, depends_on: Sequence[int]) -> None:
        """Say that a sentence rests on earlier ones, in the place of what was said of it before.

        Raises:
            NoSuchSentence: one of them does not exist, or does not come before it.
        """
        self.text(sentence)
        for number in depends_on:
            self.text(number)
            if not WHOLE < number < sentence:
                raise NoSuchSentence(f"sentence {sentence} cannot rest on sentence {number}: expected an earlier one")
        if len(depends_on) > MAX_LINKS:
            raise NoSuchSentence(f"more than {MAX_LINKS} links of one sentence")
        self._links[sentence] = tuple(dict.fromkeys(depends_on))

    def entries(self) -> list[Entry]:
        """What is known of each sentence that anything is known of, in their order, errors passed on along links."""
        found = dict(self._entries)
        # Links lead to earlier sentences only, so one pass in order reaches everything.
        for number in sorted(self._links):
            wrong = next((on for on in self._links[number] if on in found and found[on].label == 1), None)
            if wrong is not None and (number not in found or found[number].label == 0):
                evidence = f"rests on sentence {wrong}: {found[wrong].evidence}"
                found[number] = Entry(sentence=number, label=1, evidence=evidence, tool="link")
        return [found[number] for number in sorted(found)]

    @property
    def hallucinated(self) -> bool | None:
        """Whether any sentence is a hallucination; None while nothing is known of any."""
        labels = [entry.label for entry in self.entries()]
        return any(labels) if labels else None

    def rows(self) -> list[dict[str, Json]]:
        """Every sentence with its place and what is known of it; the whole response only if something is."""
        known = {entry.sentence: entry for entry in self.entries()}
        pieces = list(enumerate(self.sentences, start=1))
        if WHOLE in known:
            pieces.insert(0, (WHOLE, Sentence(start=0, end=len(self.response), text=self.response)))
        return [_row(piece, known.get(number)) for number, piece in pieces]


def _row(sentence: Sentence, entry: Entry | None) -> dict[str, Json]:
    return {
        "span": [sentence.start, sentence.end],
        "text": sentence.text,
        "label": entry.label if entry else None,
        "evidence": entry.evidence if entry else "",
        "tool": entry.tool if entry else "",
    }
