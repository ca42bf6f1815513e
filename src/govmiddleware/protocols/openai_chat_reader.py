"""Readers of chat completion answers: usage, the model, what was delivered, in JSON and in streams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.openai_chat_ending import Ending
from govmiddleware.protocols.openai_usage import read_usage, says_only_usage, usage_of
from govmiddleware.protocols.readers import text_or_none
from govmiddleware.protocols.sse import data_of

_SPOKEN = ("content", "reasoning_content", "reasoning", "refusal")


class _Answer(msgspec.Struct, gc=False):
    model: Any = None
    service_tier: Any = None
    usage: Any = None
    choices: msgspec.Raw = msgspec.Raw()


class JsonReader(readers.JsonReader):
    """Reads an unstreamed chat answer, or one of embeddings."""

    _answers = msgspec.json.Decoder(_Answer)

    def _read(self, answer: _Answer) -> None:
        self.model = text_or_none(answer.model)
        self.service_tier = text_or_none(answer.service_tier)
        if type(answer.usage) is dict:
            self.usage = read_usage(answer.usage)
        if self.usage is None and answer.choices:
            collect_delivered(msgspec.json.decode(answer.choices), "message", self._delivered)


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: dict[str, Any] | None = None
    text: Any = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    model: str | None = None
    service_tier: str | None = None
    usage: Any = msgspec.UNSET
    x_groq: Any = None


_plain = msgspec.json.Decoder(_Chunk)
"""Of nearly every chunk of every server: it has members of these types, and the others are not looked at."""


class StreamReader(readers.StreamReader):
    """Reads a stream of chunks as they pass.

    With `strip_usage` the client gets what the provider would have sent without `include_usage`. `ending` is how the
    stream's dialect ends one before its time.
    """

    def __init__(self, *, strip_usage: bool, may_be_cut: bool = False, ending: type[Ending] = Ending) -> None:
        super().__init__(holds=strip_usage or may_be_cut, reads_late=not may_be_cut)
        self._strip = strip_usage
        self._ending = ending(with_usage=not strip_usage) if may_be_cut else None

    def _unread(self, chunk: bytes) -> bytes | None:
        if b"[DONE]" in chunk or b"\\u00" in chunk:  # an escaped letter, perhaps in a key
            return None
        usages = chunk.count(b'"usage"')
        if not self._strip:
            return chunk if usages == 0 or usages == len(_NULL_USAGE.findall(chunk)) else None
        if usages == 1 and chunk.endswith(_LAST):
            return chunk[: -len(_LAST)] + b"}\n\n"
        return None if usages else chunk

    def _pass(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:
            return event
        if data.startswith(b"[DONE]"):
            self.finished = True
            return event
        try:
            chunk = _plain.decode(data)
        except readers.UNREADABLE:
            return self._pass_odd(event, data)
        if chunk.usage not in (None, msgspec.UNSET) or chunk.x_groq is not None:
            return self._pass_odd(event, data)
        self._read_plain((chunk,))
        if self._ending is not None:
            for choice in chunk.choices or ():
                self._ending.note(data, choice.index, bool(choice.finish_reason))
        return without_null_usage(event) if self._strip and chunk.usage is None else event

    def _read_plain(self, chunks: Iterable[_Chunk]) -> None:
        delivered = self._delivered
        for chunk in chunks:
            if self.model is None:
                self.model = chunk.model or None
            if chunk.service_tier:
                self.service_tier = chunk.service_tier
            for choice in chunk.choices or ():
                delta = choice.delta
                if delta and len(delta) == 1 and type(text := delta.get("content")) is str:  # nearly always
                    if text:
                        delivered.append(text)
                elif delta:
                    collect_spoken(delta, delivered)
                if choice.text:
                    _collect_text(choice.text, delivered)

    def _read_waiting(self) -> None:
        events = b"".join(self._waiting)
        try:  # as lines, at once: a line feed in a string is escaped, so that these stand between events
            lines = events.removeprefix(b"data: ").replace(b"\n\ndata: ", b"\n")
            chunks = _plain.decode_lines(lines)
        except readers.UNREADABLE:
            super()._read_waiting()
        else:
            self._waiting.clear()
            self._read_plain(chunks)

    def _pass_odd(self, event: bytes, data: bytes) -> bytes:
        """One that reports usage, or is made otherwise than most."""
        chunk = readers.object_in(data)
        if chunk is None:
            return event
        if self.model is None:
            self.model = text_or_none(chunk.get("model"))
        self.service_tier = text_or_none(chunk.get("service_tier")) or self.service_tier
        # The last report counts: some servers send one with every chunk, cumulative.
        self.usage = usage_of(chunk) or self.usage
        choices = [choice for choice in _elements(chunk.get("choices")) if isinstance(choice, dict)]
        collect_delivered(choices, "delta", self._delivered)
        only_usage = says_only_usage(chunk)
        if self._ending is not None:
            if only_usage:
                self._ending.owes_usage = False
            for choice in () if only_usage else choices:
                if isinstance(index := choice.get("index", 0), int):
                    self._ending.note(data, index, bool(choice.get("finish_reason")))
        if not self._strip or "usage" not in chunk:
            return event
        if chunk["usage"] is None:
            return without_null_usage(event)
        return b"" if only_usage else event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return self._ending.write(usage, model, request_id) if self._ending else b""


_NULL_USAGE = re.compile(rb'"usage"[ \t]*:[ \t]*null')
_COMPACT = b',"usage":null'
"""As OpenAI writes it."""
_LAST = _COMPACT + b"}\n\n"
"""And where: at the end of a chunk, and so at its top level."""
_COMMA = re.compile(rb"[ \t]*,[ \t]*")
_MOST_PLACES = 16
"""Where more members look like the one to take out, the event stays as it is: each takes a parse."""


def without_null_usage(event: bytes) -> bytes:
    """`event`, which has a `"usage": null` at the top level of its data, without it; the rest byte for byte.

    In valid JSON, `"usage"` before a colon is a key; which one is at the top level shows in what remains
    without it. Events whose data spans lines stay as they are.
    """
    unescaped = b"\\" not in event
    start = event.find(_COMPACT)
    if start >= 0 and unescaped and event.count(b'"usage"') == 1:
        return event[:start] + event[start + len(_COMPACT) :]
    places = list(islice(_null_usages(event), _MOST_PLACES))
    if len(places) == 1 and unescaped:  # no key is escaped: the only one is the one
        start, end = places[0]
        return event[:start] + event[end:]
    for start, end in reversed(places):
        shorter = event[:start] + event[end:]
        try:
            if "usage" not in readers.members.decode(data_of(shorter) or b""):
                return shorter
        except readers.UNREADABLE:
            continue
    return event


def _null_usages(event: bytes) -> Iterator[tuple[int, int]]:
    """Where the members are, each with the comma before it, or else the one behind it."""
    place = event.find(b'"usage"')
    while place >= 0:
        if member := _NULL_USAGE.match(event, place):
            before = event[:place].rstrip(b" \t")
            if before.endswith(b","):
                yield len(before) - 1, member.end()
            elif before.endswith(b"{"):
                comma = _COMMA.match(event, member.end())
                yield place, comma.end() if comma else member.end()
        place = event.find(b'"usage"', place + 1)


def collect_delivered(choices: object, part: str, into: list[str]) -> None:
    """The texts of every choice's `part` (`delta` or `message`) that a model generated."""
    for choice in _elements(choices):
        if not isinstance(choice, dict):
            continue
        _collect_text(choice.get("text"), into)  # of legacy completions
        spoken = choice.get(part)
        if isinstance(spoken, dict):
            collect_spoken(spoken, into)


def collect_spoken(spoken: dict[str, Any], into: list[str]) -> None:
    """The texts of a message, or of what is added to one."""
    for name in _SPOKEN:
        if name in spoken:
            _collect_text(spoken[name], into)
            if name == "reasoning_content" and spoken[name]:
                break
    if "tool_calls" in spoken or "function_call" in spoken:
        calls = [
            call.get("function") for call in _elements(spoken.get("tool_calls")) if isinstance(call, dict)
        ]
        for function in [*calls, spoken.get("function_call")]:
            if isinstance(function, dict):
                _collect_text(function.get("name"), into)
                _collect_text(function.get("arguments"), into)


def _collect_text(value: object, into: list[str]) -> None:
    """Strings, and the `text` and `thinking` of parts (Mistral's content)."""
    if isinstance(value, str):
        if value:
            into.append(value)
    elif isinstance(value, list):
        for part in value:
            _collect_text(part, into)
    elif isinstance(value, dict):
        _collect_text(value.get("text"), into)
        _collect_text(value.get("thinking"), into)


def _elements(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
