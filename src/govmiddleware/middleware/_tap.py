"""The tap of Meter: a `send` that reads the answer as it passes."""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Message, Send

from govmiddleware.core.call import AnswerEnd, Call, Reading
from govmiddleware.core.estimate import family_of
from govmiddleware.core.ports import UsageReader
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.core.usage import Usage
from govmiddleware.middleware._codings import PIECE, Decoder, Undecodable, can_decode, codings_of
from govmiddleware.middleware._enter import without_headers
from govmiddleware.protocols import litellm

logger = logging.getLogger("govmiddleware.meter")

_COUNT_AT_CHARACTERS = 16_384
"""Delivered text is counted in pieces of this size: about a millisecond each, and bounded memory."""


_WINDOWS = 4
_WINDOW = 8_192
"""Of a longer piece, so many windows of so many characters are counted, and the rest is taken to be like them: some
5 % off. Only an answer that came in one piece and without usage is ever so long."""

_TAKE_AT_BYTES = 4096
"""What was delivered is taken over from the reader once in so much of a stream: some twenty chunks."""

_PIECE_BYTES = 1024
"""A stream that is reserved in slices is looked at in pieces of this size, whatever the upstream's chunks."""

_MOST_MARGIN = 128
"""Output tokens. By so much, or an eighth of what is reserved, the next slice is asked for before the last runs
out."""

_LEAST_MARGIN = 32
"""Output tokens: what a piece may hold. By so much before the end of the last slice a stream is ended."""


class StreamCut(OSError):
    """Raised into the app whose stream a limit has ended. An OSError: what ASGI lets `send` raise when nobody listens
    any more (ASGI 2.4, "Send"), so that frameworks stop quietly."""


class Tap:
    """Passes every message on, and fills the Call's usage, delivered output and reading.

    Whoever has the whole answer must find it in the books: the reservation is settled before the last
    of it is sent.
    """

    def __init__(self, call: Call, send: Send, *, usage_was_injected: bool) -> None:
        self._call = call
        self._send = send
        self._injected = usage_was_injected
        self._reader: UsageReader | None = None
        self._decoder: Decoder | None = None
        self._sliced = False
        self._covered = self._margin = self._room = 0
        self._holds_back = False
        self._has_room = True
        self._holds = False
        self._left: int | None = None
        self._begun = self._ended = False
        self._is_first = True
        self._nobody_listens = False
        self._unseen = 0
        self._pending: list[str] = []
        self._pending_characters = 0
        self._pending_bytes = 0
        self._counted = 0
        call.reading = Reading.CUT  # nothing of it has been delivered yet

    async def __call__(self, message: Message) -> None:
        call = self._call
        if call.was_cut:
            raise StreamCut
        passes_unread = self._ended or call.refusal is not None  # a refusal is our own answer
        if not passes_unread:
            if message["type"] == "http.response.body":
                if self._decoder is not None:
                    await self._read_encoded(self._decoder, message.get("body", b""))
                if self._sliced and not self._fits(len(message.get("body", b""))):
                    message = await self._body_in_slices(message)
                else:
                    message = self._body(message)
                if self._ended:
                    await self._conclude()
                elif self._holds and not message.get("body"):
                    return
            elif message["type"] == "http.response.start":
                message = self._start(message)
        try:
            await self._send(message)
        except OSError:  # what ASGI lets it raise then (2.4, "Send")
            self._nobody_listens = True
            raise
        if self._is_first and call.first_byte is not None:
            self._is_first = False
            self._send = without_headers(self._send)
        if call.was_cut:
            raise StreamCut

    def end(self, error: Exception | None) -> AnswerEnd | None:
        """How the answer ended, once the app is done, was cancelled or has raised `error`; None where none had
        begun."""
        call, reader = self._call, self._reader
        if not self._begun:
            return None
        if call.was_cut:
            return AnswerEnd.LIMIT
        if self._ended:
            is_whole = reader is None or reader.finished or not call.stream
            return AnswerEnd.WHOLE if is_whole else AnswerEnd.UPSTREAM_CUT
        broke = error is not None and not self._nobody_listens
        return AnswerEnd.UPSTREAM_CUT if broke else AnswerEnd.CLIENT_LEFT

    def close(self) -> None:
        """The answer is over, as it should be or not."""
        call, reader = self._call, self._reader
        if reader is None:
            return
        if not self._ended:
            self._take(reader)
        call.usage = reader.usage
        call.model_served = call.model_served or reader.model
        call.service_tier = reader.service_tier or call.service_tier
        if call.reading is not Reading.WHOLE or reader.usage is None:
            self._count()

    def _start(self, message: Message) -> Message:
        call, self._begun = self._call, True
        headers = list(message.get("headers", ()))
        values = {name.lower(): value for name, value in headers}
        call.model_served = litellm.model_served(values)
        call.deployment_is_named = call.model_served is not None
        length = values.get(b"content-length", b"").strip()
        self._left = int(length) if length.isdigit() else None
        content_type = values.get(b"content-type", b"").strip().lower()
        call.stream = content_type.startswith(b"text/event-stream") or (
            call.stream and (call.protocol.streams_json or not content_type.startswith(b"application/json"))
        )
        if call.trusts_cost and not call.stream:
            call.told_cost = litellm.response_cost(values)
        if b"content-encoding" in values:
            codings = codings_of([value for name, value in headers if name.lower() == b"content-encoding"])
            if not can_decode(codings):
                self._give_up(f"its coding is {b', '.join(codings).decode('latin-1')}")
                return {**message, "headers": headers}
            self._decoder = Decoder(codings) if codings else None
        plain_stream = call.stream and self._decoder is None
        if plain_stream and call.grow is not None:
            self._sliced = True
            self._cover()
            self._room = self._covered - self._margin
        strips = plain_stream and self._injected
        self._holds = strips or self._sliced
        self._reader = call.protocol.usage_reader(
            stream=call.stream, usage_was_injected=strips, may_be_cut=self._sliced
        )
        if self._holds:  # the length may change
            self._left = None
            headers = [header for header in headers if header[0].lower() != b"content-length"]
        return {**message, "headers": headers}

    def _body(self, message: Message) -> Message:
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        self._ended = not more
        if self._left is not None:
            self._left -= len(body)
            self._ended = self._ended or self._left == 0
        reader = self._reader
        if reader is None:
            return message
        passed = body
        if self._decoder is None:
            passed = reader.feed(body)
            self._unseen += len(body)
        if self._ended or reader.finished:
            passed += self._close(reader)
        elif self._unseen >= _TAKE_AT_BYTES:
            self._take(reader)
        if passed is body:
            return message
        self._holds_back = len(passed) < len(body)
        return _body_message(passed, more=more)

    def _fits(self, size: int) -> bool:
        """Whether what is reserved covers a chunk of so many bytes, whatever it says."""
        reader = self._reader
        assert reader is not None, "only what can be read is reserved in slices"
        if self._holds_back:  # with this chunk, the client may get more than its bytes
            return False
        self._room -= size
        if self._room < 0 or reader.usage is not None:
            self._take(reader)
            self._room = self._covered - self._margin - self._at_most(reader) - size
        return self._room >= 0

    async def _body_in_slices(self, message: Message) -> Message:
        """Of a long chunk, the client gets all, or the end of the stream behind that for which the limits have room.
        One that cannot hold as many tokens as are reserved is not looked at in pieces."""
        reader = self._reader
        assert reader is not None, "only what can be read is reserved in slices"
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        size = _PIECE_BYTES
        if len(body) > size and self._at_most(reader) + len(body) + self._margin <= self._covered:
            size = len(body)
        pieces = []
        for start in range(0, len(body), size):
            pieces.append(reader.feed(body[start : start + size]))
            self._take(reader)
            is_covered = self._at_most(reader) + self._margin <= self._covered
            if not is_covered and not await self._has_cover(reader):
                pieces.append(await self._cut(reader))
                return _body_message(b"".join(pieces), more=False)
        self._room = self._covered - self._margin - self._at_most(reader)
        self._ended = not more
        if self._ended or reader.finished:
            pieces.append(self._close(reader))
        passed = b"".join(pieces)
        self._holds_back = len(passed) < len(body)
        return message if passed is body else _body_message(passed, more=more)

    def _close(self, reader: UsageReader) -> bytes:
        """The reader has all of the answer: what it still held back. Whatever follows passes unread."""
        self._ended = True
        rest = reader.close()
        self._take(reader)
        return rest

    async def _has_cover(self, reader: UsageReader) -> bool:
        """Whether more of the stream may pass, where it may be more than what is reserved: a little more can be."""
        call = self._call
        if reader.finished:
            return True
        self._count()
        delivered = self._at_most(reader)
        if delivered + self._margin <= self._covered or call.grow is None:
            return True
        self._has_room, had_room = await call.grow(delivered + self._margin + 1), self._has_room
        self._cover()
        return self._has_room or had_room  # what is reserved already may still be used up

    def _cover(self) -> None:
        """Take note of what is reserved now, and of the margin that this leaves."""
        self._covered = self._call.reserved.output_tokens if self._call.reserved else 0
        self._margin = min(_MOST_MARGIN if self._has_room else _LEAST_MARGIN, self._covered // 8)

    def _at_most(self, reader: UsageReader) -> int:
        """Output tokens that were delivered, at most: what is not counted yet has no more than it has bytes, and
        what is counted may be more in the model's own tokens."""
        delivered = self._counted + self._pending_bytes
        usage = reader.usage
        return delivered if usage is None else max(delivered, usage.output_tokens)

    async def _cut(self, reader: UsageReader) -> bytes:
        """End the stream in its protocol's own way, its settlement first."""
        call = self._call
        call.was_cut = self._ended = True
        call.evaluations += call.without_room  # so that the record says which limit it was
        self.close()
        if call.conclude is not None:
            await call.conclude()
        usage = Usage(
            input_tokens=call.estimated_input_tokens or 0, output_tokens=call.delivered_output_tokens
        )
        return reader.cut(usage, model=call.model or "", request_id=call.request_id)

    async def _conclude(self) -> None:
        """Once the answer is over: judge what it was, and settle. An error page may be followed by the
        exception behind it, so that what is an error waits for the request's end."""
        call, reader = self._call, self._reader
        if reader is not None:
            if reader.finished:
                call.reading = Reading.WHOLE
            elif not call.stream or not call.delivered_output_tokens + self._pending_characters:
                call.reading = Reading.UNREAD  # it came to its end, and was not what its protocol says
            self.close()
        if call.conclude is not None and (call.status or 0) < 400:
            await call.conclude()

    async def _read_encoded(self, decoder: Decoder, chunk: bytes) -> None:
        """Beside the relay: the client gets the chunk as it came, whatever it decodes to."""
        reader = self._reader
        if reader is None:
            return
        try:
            for piece in decoder.feed(chunk):
                reader.feed(piece)
                self._take(reader)
                if len(piece) >= PIECE:  # there may be many more in this chunk
                    await asyncio.sleep(0)
        except Undecodable as problem:
            self._give_up(str(problem))

    def _give_up(self, problem: str) -> None:
        """The client sees the answer as it came; its usage is unknown."""
        self._reader, self._call.reading = None, Reading.UNREAD
        logger.warning("The answer to %s cannot be read: %s.", self._call.request_id, problem)

    def _take(self, reader: UsageReader) -> None:
        """Take over what was delivered, and count it once it is much."""
        self._unseen = 0
        for text in reader.take_delivered():
            self._pending.append(text)
            characters = len(text)
            self._pending_characters += characters
            if self._sliced:
                self._pending_bytes += characters if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._pending_characters >= _COUNT_AT_CHARACTERS:
            self._count()

    def _count(self) -> None:
        text = "".join(self._pending)
        sample = _windows_of(text)
        counted = count_tokens([sample], encoding=encoding_for(self._call.model or ""))
        self._call.delivered_output_tokens += -(-counted * len(text) // max(1, len(sample)))
        percent = family_of(self._call.model or "").percent
        self._counted = -(-self._call.delivered_output_tokens * percent // 100)
        self._pending.clear()
        self._pending_characters = self._pending_bytes = 0


def _body_message(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _windows_of(text: str) -> str:
    if len(text) <= _WINDOWS * _WINDOW:
        return text
    starts = (number * (len(text) - _WINDOW) // (_WINDOWS - 1) for number in range(_WINDOWS))
    return "".join(text[start : start + _WINDOW] for start in starts)
