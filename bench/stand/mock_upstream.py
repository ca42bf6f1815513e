"""The mock upstream: a provider that costs next to nothing, so that what is measured is the gateway before it.

    python -m stand.mock_upstream PORT

HTTP/1.1 on kept connections, as a bare asyncio protocol on uvloop. Paths that end in `/messages` are answered as Anthropic
does, all others as OpenAI chat; as a stream where the body says `"stream": true`. Headers of the request shape the answer:

    x-mock-chunks       deltas of a stream (default 40)
    x-mock-chunk-bytes  characters of text in each (default 12)
    x-mock-interval-ms  between two of them (default 0: each in a turn of the event loop of its own)
    x-mock-delay-ms     before the answer begins (default 0)

Each answer says in `x-mock-received` when its request was there, in microseconds of Unix time.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from functools import cache
from typing import Any, cast

import uvloop

INPUT_TOKENS, MODEL = 200, "gpt-4o-mini"
STREAM = re.compile(rb'"stream": ?true')
JSON_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-mock-received: %d\r\ncontent-length: %d\r\n\r\n"
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-mock-received: %d\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

Json = dict[str, Any]


def chat_answer() -> bytes:
    message = {"role": "assistant", "content": "Hello there, how can I help you today?"}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": chat_usage(10),
    }
    return json.dumps(answer).encode()


def chat_usage(output: int) -> Json:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": output,
        "total_tokens": INPUT_TOKENS + output,
    }


def messages_answer() -> bytes:
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Hello there, how can I help you today?"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": 10},
    }
    return json.dumps(answer).encode()


def chat_events(chunks: int, size: int, usage: bool) -> list[bytes]:
    def event(choices: list[Json], **more: object) -> bytes:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
            "choices": choices,
        }
        return b"data: %b\n\n" % json.dumps(chunk | more).encode()

    def choice(delta: Json, finish: str | None = None) -> list[Json]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    more: Json = {"usage": None} if usage else {}
    events = [event(choice({"role": "assistant", "content": ""}), **more)]
    events += [event(choice({"content": "x" * size}), **more)] * chunks
    events.append(event(choice({}, "stop"), **more))
    if usage:
        events.append(event([], usage=chat_usage(chunks)))
    return [*events, b"data: [DONE]\n\n"]


def messages_events(chunks: int, size: int) -> list[bytes]:
    def event(kind: str, **more: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind} | more).encode())

    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": INPUT_TOKENS, "cache_read_input_tokens": 0, "output_tokens": 1},
    }
    text = {"type": "text_delta", "text": "x" * size}
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[event("content_block_delta", index=0, delta=text)] * chunks,
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": chunks}),
        event("message_stop"),
    ]


@cache
def stream_of(messages: bool, chunks: int, size: int, usage: bool) -> list[bytes]:
    """The chunks of a whole answer as they go over the wire."""
    events = messages_events(chunks, size) if messages else chat_events(chunks, size, usage)
    return [*(b"%x\r\n%b\r\n" % (len(event), event) for event in events), LAST_CHUNK]


CHAT, MESSAGES = chat_answer(), messages_answer()


class Upstream(asyncio.Protocol):
    """One connection. Requests come one at a time: nobody here pipelines."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.head = b""
        self.received: list[bytes] = []
        self.missing = 0
        self.waiting: list[bytes] = []
        self.sent = 0
        self.interval = 0.0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.waiting = []

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            data, self.head = self.head[end + 4 :], self.head[:end]
            self.missing = int(self.header(b"content-length"))
        self.received.append(data)
        self.missing -= len(data)
        if self.missing <= 0:
            head, body = self.head, b"".join(self.received)
            self.missing, self.received = 0, []
            delay = self.header(b"x-mock-delay-ms")
            if delay:
                self.loop.call_later(delay / 1000, self.answer, head, body, time.time_ns() // 1000)
            else:
                self.answer(head, body, time.time_ns() // 1000)
            self.head = b""

    def header(self, name: bytes, default: int = 0) -> int:
        found = re.search(rb"\r\n%b: *(\d+)" % name, self.head, re.IGNORECASE)
        return int(found[1]) if found else default

    def answer(self, head: bytes, body: bytes, received: int) -> None:
        if self.transport.is_closing():
            return
        messages = b"/messages" in head[: head.find(b"\r\n")]
        if not STREAM.search(body):
            whole = MESSAGES if messages else CHAT
            self.transport.write(JSON_HEAD % (received, len(whole)) + whole)
            return
        self.head = head
        chunks, size = self.header(b"x-mock-chunks", 40), self.header(b"x-mock-chunk-bytes", 12)
        self.interval = self.header(b"x-mock-interval-ms") / 1000
        self.head = b""
        self.waiting, self.sent = stream_of(messages, chunks, size, b"include_usage" in body), 0
        self.transport.write(STREAM_HEAD % received)
        self.step()

    def step(self) -> None:
        """Send one chunk, and see to it that the next one follows."""
        if self.paused or self.sent >= len(self.waiting):
            return
        self.transport.write(self.waiting[self.sent])
        self.sent += 1
        if self.interval:
            self.loop.call_later(self.interval, self.step)
        else:
            self.loop.call_soon(self.step)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.step()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
