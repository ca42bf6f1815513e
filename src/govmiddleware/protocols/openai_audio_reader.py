"""Readers of transcripts and of speech. Their usage is in tokens or in seconds."""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.readers import count_or_none, object_in
from govmiddleware.protocols.sse import EventSplitter, data_of

LONGEST_SECONDS = 10**7
"""A reported length beyond this is a fault, not usage."""


class TranscriptReader(readers.JsonReader):
    """Reads an unstreamed transcript: an object, or a text where the client asked for one."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        said: dict[str, Any] = {
            name: msgspec.json.decode(answer[name])
            for name in ("usage", "duration", "text")
            if name in answer
        }
        self.usage = transcript_usage(said.get("usage"), said.get("duration"))
        if self.usage is None and isinstance(text := said.get("text"), str):
            self._delivered.append(text)

    def _read_other(self, raw: bytes) -> bool:
        if not raw or raw.startswith(b"{"):
            return False
        self._delivered.append(raw.decode("utf-8", "replace"))
        return True


class TranscriptStreamReader(readers.StreamReader):
    """Reads a stream of a transcript."""

    def __init__(self) -> None:
        super().__init__(holds=False)

    def _pass(self, event: bytes) -> bytes:
        said = object_in(data_of(event) or b"") or {}
        match said.get("type"):
            case "transcript.text.delta" if isinstance(delta := said.get("delta"), str):
                self._delivered.append(delta)
            case "transcript.text.done":
                self.usage = transcript_usage(said.get("usage"))
                self.finished = True
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return b""


class SpeechReader:
    """Of an answer that is a sound: it says nothing of what was used, and is not kept."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.finished = False

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def close(self) -> bytes:
        self.finished = True
        return b""

    def take_delivered(self) -> list[str]:
        return []

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        return b""


class SpeechStreamReader(readers.StreamReader):
    """Reads a stream of events with a sound in it."""

    def __init__(self) -> None:
        super().__init__(holds=False)
        self._events = EventSplitter(readers.LARGEST_ANSWER)

    def _take(self, piece: bytes, whole: bool) -> bytes:
        return self._pass(piece) if whole else piece

    def _pass(self, event: bytes) -> bytes:
        if b"speech.audio.done" in event:
            said = object_in(data_of(event) or b"") or {}
            if said.get("type") == "speech.audio.done":
                self.usage = speech_usage(said.get("usage"))
                self.finished = True
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return b""


def transcript_usage(reported: object, duration: object = None) -> Usage | None:
    """A `usage` object, in tokens or in seconds, normalised; else the length of the sound, where the answer says it."""
    reported = reported if isinstance(reported, dict) else {}
    tokens = _tokens(reported)
    if tokens is not None:
        given, written = tokens
        details = reported.get("input_token_details")
        heard = count_or_none(details.get("audio_tokens")) if isinstance(details, dict) else given
        return Usage(input_tokens=given, output_tokens=written, input_audio_tokens=min(heard or 0, given))
    seconds = reported.get("seconds", duration)
    if type(seconds) in (int, float) and 0 <= seconds <= LONGEST_SECONDS:
        return Usage(audio_ms=ceil(seconds * 1000))
    return None


def speech_usage(reported: object) -> Usage | None:
    """A `usage` object, normalised: all that was generated is sound."""
    tokens = _tokens(reported if isinstance(reported, dict) else {})
    if tokens is None:
        return None
    given, said = tokens
    return Usage(input_tokens=given, output_tokens=said, output_audio_tokens=said)


def _tokens(reported: dict[str, Any]) -> tuple[int, int] | None:
    given, generated = (
        count_or_none(reported.get("input_tokens")),
        count_or_none(reported.get("output_tokens")),
    )
    return None if given is None or generated is None else (given, generated)
