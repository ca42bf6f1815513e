"""The tap of Meter: a `send` that reads the answer as it passes."""

from __future__ import annotations

import zlib

from starlette.types import Message, Send

from govmiddleware.core.call import Call, Reading
from govmiddleware.core.ports import UsageReader
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.protocols import litellm

READABLE_ENCODINGS = frozenset({b"gzip", b"deflate", b"identity"})
"""Of answers: what an upstream may be asked for, as the tap can read it."""

_COUNT_AT_CHARACTERS = 16_384
"""Delivered text is counted in pieces of this size: about a millisecond each, and bounded memory."""


_COUNT_AT_MOST = 262_144
"""Of one piece, characters that are counted; the rest is taken to be like them. Only an answer that
came in one piece and without usage is ever so long."""


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
        self._decoder: zlib._Decompress | None = None
        self._strips = False
        self._left: int | None = None
        self._ended = False
        self._pending: list[str] = []
        self._pending_characters = 0
        call.reading = Reading.CUT  # nothing of it has been delivered yet

    async def __call__(self, message: Message) -> None:
        if self._call.refusal is None and not self._ended:  # a refusal is our own answer, not the upstream's
            if message["type"] == "http.response.start":
                message = self._start(message)
            elif message["type"] == "http.response.body":
                message = self._body(message)
                if self._strips and not message["body"] and message["more_body"]:
                    return
                await self._conclude()
        await self._send(message)

    def close(self) -> None:
        """The answer is over, as it should be or not."""
        call, reader = self._call, self._reader
        if reader is None:
            return
        call.usage = reader.usage
        call.model_served = call.model_served or reader.model
        if call.reading is not Reading.WHOLE or reader.usage is None:
            self._take(reader)
            self._count()

    def _start(self, message: Message) -> Message:
        call = self._call
        headers = list(message.get("headers", ()))
        values = {name.lower(): value.strip().lower() for name, value in headers}
        call.model_served = litellm.model_served(headers)
        length = values.get(b"content-length", b"")
        self._left = int(length) if length.isdigit() else None
        encoding = values.get(b"content-encoding", b"identity")
        content_type = values.get(b"content-type", b"")
        call.stream = content_type.startswith(b"text/event-stream") or (
            call.stream and not content_type.startswith(b"application/json")
        )
        if encoding not in READABLE_ENCODINGS:
            call.reading = Reading.UNREAD
            return {**message, "headers": headers}
        if encoding != b"identity":
            self._decoder = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        self._strips = call.stream and self._injected and self._decoder is None
        self._reader = call.protocol.usage_reader(stream=call.stream, usage_was_injected=self._strips)
        if self._strips:  # the length may shrink
            self._left = None
            headers = [header for header in headers if header[0].lower() != b"content-length"]
        return {**message, "headers": headers}

    def _body(self, message: Message) -> Message:
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._left is not None:
            self._left -= len(body)
        self._ended = not more or self._left == 0
        if (reader := self._reader) is not None:
            plain = body if self._decoder is None else self._decode(self._decoder, body)
            passed = reader.feed(plain)
            self._ended = self._ended or reader.finished
            if self._ended:
                passed += reader.close()  # what is still held back; whatever follows passes unread
            if self._decoder is None:
                body = passed
            self._take(reader)
            if self._pending_characters >= _COUNT_AT_CHARACTERS:
                self._count()
        return {**message, "body": body, "more_body": more}

    async def _conclude(self) -> None:
        """Once the answer is over: judge what it was, and settle. An error page may be followed by the
        exception behind it, so that what is an error waits for the request's end."""
        if not self._ended:
            return
        call, reader = self._call, self._reader
        if reader is not None:
            if reader.finished:
                call.reading = Reading.WHOLE
            elif not call.stream or not call.delivered_output_tokens + self._pending_characters:
                call.reading = Reading.UNREAD  # it came to its end, and was not what its protocol says
            self.close()
        if call.conclude is not None and (call.status or 0) < 400:
            await call.conclude()

    def _decode(self, decoder: zlib._Decompress, chunk: bytes) -> bytes:
        try:
            return decoder.decompress(chunk)
        except zlib.error:  # not what it says it is: the client sees it as it came, its usage is unknown
            return b""

    def _take(self, reader: UsageReader) -> None:
        texts = reader.take_delivered()
        self._pending += texts
        self._pending_characters += sum(map(len, texts))

    def _count(self) -> None:
        text = "".join(self._pending)
        sample = text[:_COUNT_AT_MOST]
        counted = count_tokens([sample], encoding=encoding_for(self._call.model or ""))
        self._call.delivered_output_tokens += -(-counted * len(text) // max(1, len(sample)))
        self._pending.clear()
        self._pending_characters = 0
