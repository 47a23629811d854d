"""Places in the text of tokens -> places in the tokens themselves."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from rollout.parsers import CallPlace, Span


class TokenPlaces:
    """Finds characters in the tokens they were decoded from.

    Args:
        decode: the text of tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._pieces: dict[int, str] = {}
        """The text of single tokens: decoding is much slower than adding lengths."""

    def in_tokens(
        self, places: Sequence[CallPlace], text: str, token_ids: Sequence[int], at: int = 0
    ) -> tuple[CallPlace, ...]:
        """The places in tokens. A token that covers a boundary belongs to the part on either side.

        Args:
            places: in characters of `text`.
            text: what the tokens stand for, or the beginning of it.
            token_ids: the tokens.
            at: index of the first of them.
        """
        if not places:
            return ()
        find = self._finder(text, list(token_ids))

        def place(span: Span) -> Span:
            start, end = find(span)
            return at + start, at + end

        return tuple(one.moved(place) for one in places)

    def _finder(self, text: str, token_ids: list[int]) -> Callable[[Span], Span]:
        pieces = [self._piece(token_id) for token_id in token_ids]
        if "".join(pieces).startswith(text):
            ends = list(accumulate(map(len, pieces)))
            return lambda span: (bisect_right(ends, span[0]), bisect_left(ends, span[1]) + 1)
        return self._slow_finder(text, token_ids)

    def _slow_finder(self, text: str, token_ids: list[int]) -> Callable[[Span], Span]:
        """For tokens whose texts do not add up, because a letter is spread over several of them or a space is lost."""
        decoded: dict[int, str] = {}

        def prefix(length: int) -> str:
            if length not in decoded:
                decoded[length] = self._decode(token_ids[:length])
            return decoded[length]

        lengths = range(1, len(token_ids))

        def find(span: Span) -> Span:
            start, end = span
            first = bisect_left(lengths, True, key=lambda length: len(prefix(length)) > start)
            last = bisect_left(lengths, True, key=lambda length: prefix(length).startswith(text[:end]))
            return min(first, last), last + 1

        return find

    def _piece(self, token_id: int) -> str:
        piece = self._pieces.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] = self._decode([token_id])
        return piece
