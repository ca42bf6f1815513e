"""The reference that every other counter has to equal: tiktoken, with the vocabularies that the package carries. No
network, no cache folder.

`data/*.vocabulary` (by tools/compile_vocabularies.py) hold a vocabulary's tokens in the order of their
ranks: zlib over a 4-byte count (big-endian), each token's length in one byte, and the tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiktoken import Encoding

O200K = "o200k_base"
CL100K = "cl100k_base"

CHUNK = 8192
"""Characters that are counted at once, cut between two words where that is possible. tiktoken panics on
about a million spaces, and a long call would keep the result's list, made under the GIL, long too."""

_PLACES_TRIED = 64

_PATTERNS = {
    CL100K: (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"""
        r"""\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
    O200K: "|".join(
        [
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""",
            r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
            r"""\s*[\r\n]+""",
            r"""\s+(?!\S)""",
            r"""\s+""",
        ]
    ),
}
"""How a text falls into words, from tiktoken_ext/openai_public.py (MIT, OpenAI)."""


class ReferenceCounter:
    """Counts each of some texts; special tokens count as the text that they are.

    A text of more than `CHUNK` characters may count too many tokens (about one for each cut inside a word), never too
    few. The GIL is free for most of the time.
    """

    def __init__(self, encoding: str) -> None:
        """Reads the vocabulary: about 0.4 s. Raises KeyError for an unknown one."""
        self.encoding = read_encoding(encoding)

    def __call__(self, texts: Sequence[str]) -> list[int]:
        encode = self.encoding.encode_ordinary
        return [
            len(encode(text)) if len(text) <= CHUNK else _count_long(text, encode, CHUNK) for text in texts
        ]


def read_encoding(encoding: str) -> Encoding:
    """tiktoken's encoding of this name. Raises KeyError."""
    from tiktoken import Encoding  # late: it costs 50 ms that a process without estimates can save

    pattern = _PATTERNS[encoding]
    packed = (files("govmiddleware") / "data" / f"{encoding}.vocabulary").read_bytes()
    raw = zlib.decompress(packed)
    position = 4 + int.from_bytes(raw[:4], "big")
    ranks = {}
    for rank, length in enumerate(raw[4:position]):
        ranks[raw[position : position + length]] = rank
        position += length
    return Encoding(encoding, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def _count_long(text: str, encode: Callable[[str], list[int]], size: int) -> int:
    """In pieces of at most `size` characters."""
    total = start = 0
    while len(text) - start > size:
        end = _between_words(text, start + size // 2, start + size)
        if end is None:
            # Merging is greedy: two halves can take fewer tokens than the whole. One more makes up for it.
            end = start + size
            total += 1
        total += len(encode(text[start:end]))
        start = end
    return total + len(encode(text[start:]))


def _between_words(text: str, least: int, most: int) -> int | None:
    """Before a space between two letters, where every pattern begins a new word: a cut there changes
    nothing. None where there is no such place nearby."""
    place = most
    for _ in range(_PLACES_TRIED):
        place = text.rfind(" ", least, place)
        if place <= least:
            return None
        if text[place - 1].isalpha() and text[place + 1].isalpha():
            return place
    return None
