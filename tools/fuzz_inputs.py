"""Hostile bytes, made by decisions that a fuzzer takes: JSON of names that the protocols know and values that they do
not expect, streams of it, and recordings with damage.

The decisions are read off bytes, so that hypothesis can shrink what it finds, and atheris can follow where they lead.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import govmiddleware.protocols

T = TypeVar("T")

SCALARS = (
    *(b"1", b"null", b"true", b"false", b"0", b"-1", b"1.5", b"1e308", b"1e999", b"NaN", b"-Infinity", b"01"),
    *(b"%d" % (2**power) for power in (31, 40, 53, 63, 64, 200)),
    *(b"1" + b"0" * 5_000, b"[" * 600 + b"]" * 600, b'{"a":' * 600 + b"1" + b"}" * 600, b"[" * 2_000),
    *(
        b'""',
        b'" "',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        rb'"\u0000"',
        b'"\x00"',
        b'"\xff"',
        '"ſ"'.encode(),
        b'"',
    ),
)
FRAMES = ((b"data: ", b"\n\n"), (b"", b"\n"), (b",", b""), (b"event: x\rdata:", b"\r\r"), (b":", b"\r\n\r\n"))
"""What stands before and behind a message in each kind of stream."""

ENDS = ((b"", b""), (b"[", b"]"), (b"\xef\xbb\xbf", b"data: [DONE]\n\n"))
"""What stands before the first message and behind the last."""

_DEEPEST = 6
_BEFORE_A_VALUE = re.compile(r'":\s*')
_LINE_END = re.compile(rb"[\r\n]")
_values = json.JSONDecoder()


class Choices:
    """Decisions, read off bytes one after the other. Where the bytes are at their end, each is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        return int.from_bytes(self.take(1 if limit <= 256 else 3)) % limit

    def of(self, alternatives: Sequence[T]) -> T:
        return alternatives[self.below(len(alternatives))]

    def take(self, length: int) -> bytes:
        """The next bytes themselves."""
        self._place += length
        return self._data[self._place - length : self._place]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))


def hostile(choices: Choices, recorded: Sequence[bytes]) -> bytes:
    """Bytes of any kind."""
    match choices.below(8):
        case 0:
            return message(choices)
        case 1 | 2:
            return stream(choices)
        case 3 | 4 | 5 | 6 if recorded:
            return damaged(choices, choices.of(recorded))
        case _:
            return choices.take(choices.below(200))


def message(choices: Choices, depth: int = 0) -> bytes:
    """A JSON object, in which a key may stand twice."""
    members = [_word(choices) + b":" + _value(choices, depth) for _ in range(choices.below(7))]
    return b"{" + b",".join(members) + b"}"


def stream(choices: Choices) -> bytes:
    """Messages one after the other."""
    (before, after), (begin, end) = choices.of(FRAMES), choices.of(ENDS)
    messages = [message(choices) for _ in range(choices.below(7))]
    if choices.below(4) == 0:
        return b"".join(_aws_frame(choices, each) for each in messages)
    return begin + b"".join(before + each + after for each in messages) + end


def damaged(choices: Choices, raw: bytes) -> bytes:
    """`raw` with some of the values in its JSON replaced by others, and perhaps some bytes lost."""
    text = raw.decode("utf-8", "surrogateescape")
    for _ in range(1 + choices.below(4)):
        starts = [found.end() for found in _BEFORE_A_VALUE.finditer(text)]
        if starts:
            start = choices.of(starts)
            put = _value(choices, _DEEPEST - 2).decode("utf-8", "surrogateescape")
            text = text[:start] + put + text[_end_of_value(text, start) :]
    raw = text.encode("utf-8", "surrogateescape")
    if choices.below(4) == 0:
        start = choices.below(len(raw) + 1)
        raw = raw[:start] + choices.take(2) + raw[start + choices.below(40) :]
    return raw


def cut(choices: Choices, raw: bytes) -> list[bytes]:
    """`raw` in pieces, half of which begin within the end of a line."""
    lines = [found.end() for found in _LINE_END.finditer(raw)] or [0]
    places = [choices.of((lines, range(len(raw) + 1))) for _ in range(choices.below(8))]
    return pieces(raw, [choices.of(alternatives) for alternatives in places])


def pieces(raw: bytes, places: Sequence[int]) -> list[bytes]:
    """`raw`, cut at these places."""
    return [raw[start:end] for start, end in pairwise([0, *sorted(places), len(raw)])]


def recordings(folder: Path, *, longest: int) -> Iterator[bytes]:
    """The requests and answers of recorded exchanges that are not longer than this many bytes."""
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                exchange = json.loads(line)
                for said in (exchange["request"], exchange["response"], exchange["response_text"]):
                    raw = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                    if said and len(raw) <= longest:
                        yield raw


@cache
def words() -> tuple[bytes, ...]:
    """Every name that the code of the protocols knows, as JSON: to guess them takes years."""
    found = {"model"}
    for file in Path(govmiddleware.protocols.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return tuple(f'"{word}"'.encode() for word in sorted(found) if re.fullmatch(r"[\w.:/-]{1,60}", word))


def _word(choices: Choices) -> bytes:
    return choices.of(words())


def _value(choices: Choices, depth: int) -> bytes:
    match choices.below(9) if depth < _DEEPEST else choices.below(4):
        case 0 | 1:
            return choices.of(SCALARS)
        case 2 | 3:
            return _word(choices)
        case 4:  # JSON in a string, as some have it
            return json.dumps(message(choices, depth + 1).decode("latin-1")).encode()
        case 5 | 6:
            return b"[" + b",".join(_value(choices, depth + 1) for _ in range(choices.below(4))) + b"]"
        case _:
            return message(choices, depth + 1)


def _aws_frame(choices: Choices, payload: bytes) -> bytes:
    """An event as AWS sends it: lengths, headers, payload, and checksums that are right.

    https://smithy.io/2.0/aws/amazon-eventstream.html
    """
    headers = b""
    for name, value in ((b":event-type", _word(choices)[1:-1]), (b":message-type", b"event")):
        headers += struct.pack(">B", len(name)) + name + struct.pack(">BH", 7, len(value)) + value
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def _end_of_value(text: str, start: int) -> int:
    try:
        return _values.raw_decode(text, start)[1]
    except (ValueError, RecursionError):  # of what was damaged before
        return start
