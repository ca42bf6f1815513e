"""The tap of Meter: a `send` that reads the answer as it passes."""

from __future__ import annotations

import zlib

from starlette.types import Message, Send

from govmiddleware.core.call import Call, Progress
from govmiddleware.core.ports import UsageReader
from govmiddleware.core.tokens import count_tokens, encoding_for

READABLE_ENCODINGS = frozenset({b"gzip", b"deflate", b"identity"})
"""Of answers: what an upstream may be asked for, as the tap can read it."""

_COUNT_AT_CHARACTERS = 16_384
"""Delivered text is counted in pieces of this size: about a millisecond each, and bounded memory."""


class Tap:
    """Passes every message on, and fills the Call's usage, delivered output and progress."""

    def __init__(self, call: Call, send: Send, *, usage_was_injected: bool) -> None:
        self._call = call
        self._send = send
        self._injected = usage_was_injected
        self._reader: UsageReader | None = None
        self._decoder: zlib._Decompress | None = None
        self._pending: list[str] = []
        self._pending_characters = 0
        self._delivered = 0

    async def __call__(self, message: Message) -> None:
        if self._call.refusal is None:  # else it is our own answer, not the upstream's
            if message["type"] == "http.response.start":
                message = self._start(message)
            elif message["type"] == "http.response.body" and self._reader is not None:
                message = self._body(self._reader, message)
                if not message["body"] and message["more_body"]:
                    return
        await self._send(message)

    def close(self) -> None:
        """The answer is over, as it should be or not."""
        reader = self._reader
        if reader is None:
            if self._call.progress is not Progress.ANSWERING:  # else in an encoding nobody here can read
                self._call.delivered_output_tokens = 0
            return
        self._call.usage, self._call.model_served = reader.usage, reader.model
        if reader.usage is None or self._call.progress is not Progress.COMPLETE:
            self._take(reader)
            self._count()
        self._call.delivered_output_tokens = self._delivered

    def _start(self, message: Message) -> Message:
        self._call.progress = Progress.ANSWERING
        headers = message.get("headers", [])
        values = {name.lower(): value for name, value in headers}
        encoding = values.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in READABLE_ENCODINGS:
            return message
        if encoding != b"identity":
            self._decoder = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        stream = values.get(b"content-type", b"").startswith(b"text/event-stream")
        strips = stream and self._injected and self._decoder is None
        self._reader = self._call.protocol.usage_reader(stream=stream, usage_was_injected=strips)
        if strips:  # the length may shrink
            return {
                **message,
                "headers": [header for header in headers if header[0].lower() != b"content-length"],
            }
        return message

    def _body(self, reader: UsageReader, message: Message) -> Message:
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._decoder is None:
            body = reader.feed(body)
            if not more:
                body += reader.close()
        else:
            reader.feed(self._decode(self._decoder, body))
            if not more:
                reader.close()
        self._take(reader)
        if self._pending_characters >= _COUNT_AT_CHARACTERS:
            self._count()
        if not more and reader.finished:
            self._call.progress = Progress.COMPLETE
        return {**message, "body": body, "more_body": more}

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
        self._delivered += count_tokens([text], encoding=encoding_for(self._call.model or ""))
        self._pending.clear()
        self._pending_characters = 0
