from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rollout.parsers import CallPlace, HermesParser
from rollout.token_places import TokenPlaces

TEXT = '<tool_call>{"name": "f", "arguments": {"a": "Z\u00fcrich \u6771\u4eac \U0001f327", "b": [1, 22]}}</tool_call>'
PLACES = HermesParser().locate(TEXT)


def spans(place: CallPlace):
    assert place.name is not None
    return [place.span, place.name, *place.keys.values(), *place.values.values()]


class Pieces:
    """A vocabulary of byte strings, decoded as byte-level tokenizers do."""

    def __init__(self, cuts, data):
        edges = [0, *sorted(cuts), len(data)]
        self.tokens = [data[first:last] for first, last in pairwise(edges)]
        self.num_decoded = 0

    def decode(self, token_ids):
        self.num_decoded += 1
        return b"".join(self.tokens[index] for index in token_ids).decode(errors="replace")


def cuts_of(data):
    return st.sets(st.integers(1, len(data) - 1), max_size=40)


DATA = TEXT.encode()


@given(cuts_of(DATA), st.integers(0, 9))
def test_a_part_is_made_of_the_tokens_that_hold_a_byte_of_it(cuts, at):
    vocabulary = Pieces(cuts, DATA)
    found = TokenPlaces(vocabulary.decode).in_tokens(PLACES, TEXT, range(len(vocabulary.tokens)), at)
    ends = [sum(map(len, vocabulary.tokens[: index + 1])) for index in range(len(vocabulary.tokens))]
    begins = [0, *ends[:-1]]
    for (start, end), (first, last) in zip(spans(PLACES[0]), spans(found[0]), strict=True):
        start, end = len(TEXT[:start].encode()), len(TEXT[:end].encode())
        holding = [i for i, (a, b) in enumerate(zip(begins, ends, strict=True)) if a < end and b > start]
        assert (first - at, last - at) == (holding[0], holding[-1] + 1)


def test_tokens_of_whole_letters_are_decoded_once_each():
    data = TEXT.replace("\u6771\u4eac \U0001f327", "").replace("\u00fc", "u").encode()
    vocabulary = Pieces(range(1, len(data)), data)
    search = TokenPlaces(vocabulary.decode)
    for _ in range(3):
        search.in_tokens(HermesParser().locate(data.decode()), data.decode(), range(len(data)))
    assert vocabulary.num_decoded == len(data)


def test_tokens_that_lose_a_space_when_decoded_alone_are_found_too():
    words = ["I", " look.", " <tool_call>", '{"name":', ' "go"', ', "arguments":', " {}}", " </tool_call>"]

    def decode(token_ids):
        return "".join(words[index] for index in token_ids).removeprefix(" ")

    text = decode(range(len(words)))
    places = HermesParser().locate(text)
    (place,) = TokenPlaces(decode).in_tokens(places, text, range(len(words)))
    assert place == CallPlace(span=(2, 8), name=(4, 5))
