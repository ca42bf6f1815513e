"""Readers of Gemini's answers: usage, the model, what was delivered, in JSON, event streams and streamed arrays.

Source: ai.google.dev/api/generate-content#method:-models.streamgeneratecontent, and the recordings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.gemini_ending import Ending
from govmiddleware.protocols.gemini_usage import usage_of, with_searches
from govmiddleware.protocols.json_array import ArraySplitter
from govmiddleware.protocols.proto_json import elements
from govmiddleware.protocols.readers import count_or_none, text_or_none
from govmiddleware.protocols.sse import data_of

_HEAD = ("modelVersion", "usageMetadata", "candidates", "promptFeedback")
_BETWEEN = b" \t\r\n[,"
"""What can stand before an element of an array."""


class JsonReader(readers.JsonReader):
    """Reads an answer that is not a stream, of generateContent or of embeddings."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        head: dict[str, Any] = {name: msgspec.json.decode(answer[name]) for name in _HEAD if name in answer}
        self.model = text_or_none(head.get("modelVersion"))
        usage = usage_of(head)
        if usage is None:
            collect_delivered(head, self._delivered)
        else:
            self.usage = with_searches(usage, queries_of(head), self.model)


class StreamReader(readers.StreamReader):
    """Reads a stream of chunks, each an answer of its own, as events or as the elements of an array.

    Each chunk reports what was used so far. The last report counts, though it may be less than one before it; until
    then, the largest. Nothing in a stream of events says that it is whole but that it ends after a reason to finish.
    """

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(holds=may_be_cut)
        self._array: ArraySplitter | None = None
        self._begun = False
        self._ending = Ending()
        self._last: Usage | None = None
        self._queries: set[tuple[int, str]] = set()

    def feed(self, chunk: bytes) -> bytes:
        if not self._begun:
            first = chunk.lstrip()[:1]
            if not first:
                return chunk
            self._begun = True
            if first in b"[{":
                self._events = self._array = ArraySplitter()
        return super().feed(chunk)

    def close(self) -> bytes:
        rest = super().close()
        if self._ending.told_why:
            self.finished = True
            self.usage = self._last
        return rest

    def _pass(self, event: bytes) -> bytes:
        data = data_of(event) if self._array is None else event.lstrip(_BETWEEN)
        chunk = readers.object_in(data) if data else None
        if chunk is not None:
            self._ending.note(chunk)
            self._read(chunk)
        return event

    def _read(self, chunk: dict[str, Any]) -> None:
        self.model = text_or_none(chunk.get("modelVersion")) or self.model
        self._queries |= queries_of(chunk)
        collect_delivered(chunk, self._delivered)
        usage = usage_of(chunk)
        if usage is not None:
            self._last = usage = with_searches(usage, self._queries, self.model)
            if self.usage is None or usage.total_tokens >= self.usage.total_tokens:
                self.usage = usage

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        chunk = self._ending.write(usage, model, request_id)
        if self._array is not None:
            return self._array.end(chunk)
        return b"data: " + chunk + b"\r\n\r\n" if chunk else b""


def queries_of(answer: dict[str, Any]) -> set[tuple[int, str]]:
    """What Google Search was asked for an answer, each with the index of its candidate."""
    return {
        (count_or_none(candidate.get("index")) or 0, query)
        for candidate in elements(answer.get("candidates"))
        if isinstance(candidate, dict) and isinstance(grounding := candidate.get("groundingMetadata"), dict)
        for query in elements(grounding.get("webSearchQueries"))
        if isinstance(query, str)
    }


def collect_delivered(answer: dict[str, Any], into: list[str]) -> None:
    """The texts of every candidate that the model generated."""
    for candidate in elements(answer.get("candidates")):
        content = candidate.get("content") if isinstance(candidate, dict) else None
        for part in elements(content.get("parts")) if isinstance(content, dict) else ():
            if isinstance(part, dict):
                _collect(part, into)


def _collect(part: dict[str, Any], into: list[str]) -> None:
    call, code = part.get("functionCall"), part.get("executableCode")
    said = [part.get("text")]
    if isinstance(code, dict):
        said.append(code.get("code"))
    if isinstance(call, dict):
        said.append(call.get("name"))
        if call.get("args"):
            said.append(msgspec.json.encode(call["args"]).decode())
    into += [text for text in said if isinstance(text, str) and text]
