"""A mock LLM provider that speaks the APIs of OpenAI, Anthropic, Google, AWS and Ollama, does as it is told and remembers
what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from starlette.types import Message, Receive, Scope, Send

from govmiddleware.testing import (
    anthropic_answers,
    bedrock_answers,
    gemini_answers,
    ollama_answers,
    openai_answers,
    openai_completions_answers,
    openai_media_answers,
    openai_responses_answers,
)
from govmiddleware.testing.bell import Bell, Gate
from govmiddleware.testing.words import Json

Headers = list[tuple[bytes, bytes]]

_JSON = b"application/json"
_EVENTS = b"text/event-stream; charset=utf-8"
_ARRAY = b"application/json; charset=UTF-8"
"""A stream as Google sends it where events are not asked for."""
_LINES = b"application/x-ndjson"
_FRAMES = b"application/vnd.amazon.eventstream"


class BrokenOff(Exception):
    """The script says that the connection breaks here; raised into the server, which then closes it."""


@dataclass(frozen=True, slots=True)
class Script:
    """How to answer one request. Times in seconds.

    Attributes:
        text: what is said, cut to the request's output limit; with `tool`, its arguments as JSON.
        tool: calls this function instead of talking.
        thinking: said before the text, where Anthropic's API is asked to think.
        pieces: into how many deltas a stream cuts the text.
        delay: before the answer begins.
        interval: before each further chunk of a stream.
        gate: each chunk of a stream, and the head of any other answer, waits for its permit.
        usage: reported instead of counted words.
        model: the model that claims to have answered; None: the one asked for.
        status, headers, body: an answer in place of the API's own; `body` None makes an error envelope.
        never_answers: the request is read and then nothing happens.
        breaks_after: the connection breaks after this many chunks of the answer's body.
    """

    text: str = "The quick brown fox jumps over the lazy dog."
    tool: str | None = None
    thinking: str = "Let me think about it."
    pieces: int = 5
    delay: float = 0.0
    interval: float = 0.0
    gate: Gate | None = None
    usage: Json | None = None
    model: str | None = None
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    never_answers: bool = False
    breaks_after: int | None = None


@dataclass(eq=False, slots=True)
class Exchange:
    """One request as the provider saw it, and what became of the answer.

    Attributes:
        headers: lower-case names, in order.
        body: the JSON, or None where it is none; `raw_body`: as received.
        chunks_sent: how many chunks of the answer's body were handed to the server.
        finished: whether the answer was sent to its end.
        disconnected_at: `time.monotonic()` when the client was seen to have left before that.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    raw_body: bytes = b""
    body: Json | None = None
    chunks_sent: int = 0
    finished: bool = False
    disconnected_at: float | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return next((value for found, value in self.headers if found == name), None)

    @property
    def asks_anthropic(self) -> bool:
        """Whether the client takes the provider for Anthropic."""
        return self.header(b"anthropic-version") is not None

    @property
    def asks_google(self) -> bool:
        """Whether the client takes the provider for Google."""
        return self.header(b"x-goog-api-key") is not None

    @property
    def asks_aws(self) -> bool:
        """Whether the client takes the provider for Bedrock."""
        return self.path.startswith("/model/")


@dataclass
class ScriptedProvider:
    """An ASGI app: `*/chat/completions`, `*/responses`, `*/responses/{compact,input_tokens,ID}`, `*/completions`,
    `*/embeddings`, `*/moderations`, `*/images/…`, `*/audio/…`, `*/models`, and OpenAI's 404 for the rest. To clients that send `anthropic-version`
    it is Anthropic: `*/messages`, `*/messages/count_tokens`, `*/models`, and its 404. To those that send
    `x-goog-api-key` it is Google: `*/models/MODEL:METHOD` for the generation of content, `countTokens` and
    `batchEmbedContents`, `*/models`, and its 404. Under `/api` it is an Ollama: `chat`, `generate`, `embed`, and its 404.
    Under `/model` it is Bedrock: `MODEL/converse`, `converse-stream`, `invoke` and `invoke-with-response-stream` in
    Anthropic's form, `count-tokens`, and its 404.

    It may run in a thread of its own: scripts, records and gates can be used from any other.

    Attributes:
        script: how requests are answered for which nothing else was set with `next`.
        api_key: where set, other keys are answered with 401. Anthropic's is taken in `x-api-key` alone, and
            Google's in `x-goog-api-key`.
        exchanges: every request, in order of arrival.
    """

    script: Script = field(default_factory=Script)
    api_key: str | None = None
    models: tuple[str, ...] = (
        "gpt-4o-mini",
        "gpt-4o",
        "text-embedding-3-small",
        "claude-sonnet-5",
        "gemini-2.5-flash",
    )
    exchanges: list[Exchange] = field(default_factory=list)
    _queue: deque[Script] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bell: Bell = field(default_factory=Bell)

    def next(self, script: Script, *, times: int = 1) -> None:
        """Answer the next `times` requests like this, after those that were queued before."""
        with self._lock:
            self._queue.extend([script] * times)

    async def until(self, condition: Callable[[], bool], *, within: float = 5.0) -> None:
        """Wait until `condition()`, over the exchanges, is true. Raises TimeoutError."""
        await self._bell.until(condition, within=within)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._converse(scope, receive, send)
        else:
            raise ValueError(f"no answer to {scope['type']}")

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(
            scope["method"], scope["path"], scope.get("query_string", b""), list(scope["headers"])
        )
        with self._lock:
            self.exchanges.append(exchange)
            script = self._queue.popleft() if self._queue else self.script
        self._bell.ring()
        if not await self._read_body(exchange, receive):
            self._note_disconnect(exchange)
            return
        answer = asyncio.create_task(self._answer(exchange, script, send))
        departure = asyncio.create_task(_departure(receive))
        try:
            await asyncio.wait({answer, departure}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()  # raises what the script provokes
            elif not exchange.finished:
                self._note_disconnect(exchange)
        finally:
            answer.cancel()
            departure.cancel()

    async def _read_body(self, exchange: Exchange, receive: Receive) -> bool:
        """Whether it came to its end."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            exchange.raw_body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        with contextlib.suppress(ValueError):
            body = json.loads(exchange.raw_body)
            exchange.body = body if isinstance(body, dict) else None
        self._bell.ring()
        return True

    async def _answer(self, exchange: Exchange, script: Script, send: Send) -> None:
        if script.never_answers:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(script.delay)
        status, content_type, chunks = self._response(exchange, script)
        streams = content_type in (_EVENTS, _ARRAY, _LINES, _FRAMES)
        if script.gate and not streams:
            await script.gate.passage()
        request_id = f"req_{secrets.token_hex(16)}".encode()
        named = [(b"openai-version", b"2020-10-01"), (b"x-request-id", request_id)]
        if exchange.asks_anthropic:
            named = [(b"request-id", request_id)]
        headers = [(b"content-type", content_type), *named, *script.headers]
        if not streams:
            chunks = list(chunks)
            headers.append((b"content-length", b"%d" % sum(map(len, chunks))))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, chunk in enumerate(chunks):
            if number == script.breaks_after:
                raise BrokenOff
            if streams and script.gate:
                await script.gate.passage()
            if number:
                await asyncio.sleep(script.interval)
            await send(_body_message(chunk, more=True))
            exchange.chunks_sent += 1
            self._bell.ring()
        exchange.finished = True  # before the last message: who has read it may look at once
        await send(_body_message(b"", more=False))
        self._bell.ring()

    def _response(self, exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
        """Status, content type and the body's chunks."""
        if script.status != 200 or script.body is not None:
            scripted = "Scripted error."
            body = script.body or (
                gemini_answers.error(scripted, code=script.status, status="INTERNAL")
                if exchange.asks_google
                else bedrock_answers.error(scripted)
                if exchange.asks_aws
                else anthropic_answers.error(scripted, kind="api_error")
                if exchange.asks_anthropic
                else openai_answers.error(scripted, kind="server_error")
            )
            return script.status, _JSON, [body]
        if exchange.asks_google:
            return self._as_google(exchange, script)
        if exchange.path.startswith("/api/"):
            return _as_ollama(exchange, script)
        if exchange.asks_aws:
            return self._as_aws(exchange, script)
        return (self._as_anthropic if exchange.asks_anthropic else self._as_openai)(exchange, script)

    def _as_openai(self, exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
        key = exchange.header(b"authorization")
        if self.api_key is not None and key != f"Bearer {self.api_key}".encode():
            message = "Incorrect API key provided."
            return 401, _JSON, [openai_answers.error(message, code="invalid_api_key")]
        media = openai_media_answers.answer(
            exchange.path,
            exchange.body,
            exchange.raw_body,
            text=script.text,
            pieces=script.pieces,
            usage=script.usage,
        )
        if media is not None:
            return 200, *media
        match exchange.method, exchange.path.rpartition("/")[2]:
            case "GET", "models":
                return 200, _JSON, [openai_answers.list_models(self.models)]
            case "POST", "moderations" if exchange.body and "input" in exchange.body:
                return 200, _JSON, [openai_answers.moderate(exchange.body)]
            case "POST", "embeddings" | "completions" | "responses" if (
                exchange.body is None or "model" not in exchange.body
            ):
                return 400, _JSON, [openai_answers.error("You must provide a model parameter.")]
            case "POST", "embeddings" if exchange.body and "input" in exchange.body:
                answer = openai_answers.embed(exchange.body, model=script.model, usage=script.usage)
                return 200, _JSON, [answer]
            case "POST", "completions" if exchange.body and "messages" in exchange.body:
                return self._completion(exchange.body, script)
            case "POST", "completions" if exchange.body and "prompt" in exchange.body:
                return self._text_completion(exchange.body, script)
            case "POST", "responses" if exchange.body and "input" in exchange.body:
                return self._response_object(exchange.body, script)
            case "POST", "compact" if exchange.body:
                return 200, _JSON, [openai_responses_answers.compact(exchange.body, usage=script.usage)]
            case "POST", "input_tokens" if exchange.body:
                return 200, _JSON, [openai_responses_answers.count(exchange.body)]
            case "GET", response_id if "/responses/" in exchange.path:
                stored = self._respond({"model": self.models[0]}, script)
                return 200, _JSON, [replace(stored, id=response_id).as_json()]
        url = f"{exchange.method} {exchange.path}"
        return 404, _JSON, [openai_answers.error(f"Invalid URL ({url})")]

    def _as_anthropic(self, exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
        key = exchange.header(b"x-api-key")
        if self.api_key is not None and key != self.api_key.encode():
            error = anthropic_answers.error("invalid x-api-key", kind="authentication_error")
            return 401, _JSON, [error]
        body = exchange.body or {}
        match exchange.method, exchange.path.rpartition("/")[2]:
            case "GET", "models":
                return 200, _JSON, [anthropic_answers.list_models(self.models)]
            case "POST", "messages" if {"model", "messages", "max_tokens"} <= body.keys():
                return self._message(body, script)
            case "POST", "count_tokens" if {"model", "messages"} <= body.keys():
                return 200, _JSON, [anthropic_answers.count(body)]
            case "POST", "messages" | "count_tokens":
                return 400, _JSON, [anthropic_answers.error("Field required")]
        return 404, _JSON, [anthropic_answers.error("Not found", kind="not_found_error")]

    def _as_google(self, exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
        key = exchange.header(b"x-goog-api-key")
        if self.api_key is not None and key != self.api_key.encode():
            problem = "API key not valid. Please pass a valid API key."
            return 400, _JSON, [gemini_answers.error(problem, code=400, status="INVALID_ARGUMENT")]
        body = exchange.body or {}
        model, _, called = exchange.path.rpartition("/")[2].partition(":")
        match exchange.method, called:
            case "GET", "" if model == "models":
                return 200, _JSON, [gemini_answers.list_models(self.models)]
            case "POST", "generateContent" | "streamGenerateContent" if "contents" in body:
                answer = gemini_answers.answer(
                    body,
                    asked=model,
                    text=script.text,
                    tool=script.tool,
                    model=script.model,
                    usage=script.usage,
                )
                if called == "generateContent":
                    return 200, _JSON, [answer.as_json()]
                if b"alt=sse" in exchange.query:
                    return 200, _EVENTS, answer.as_events(pieces=script.pieces)
                return 200, _ARRAY, answer.as_array(pieces=script.pieces)
            case "POST", "countTokens" if "contents" in body:
                return 200, _JSON, [gemini_answers.count(body)]
            case "POST", "batchEmbedContents" if "requests" in body:
                return 200, _JSON, [gemini_answers.embed(body)]
        return 404, _JSON, [gemini_answers.error("Not found.", code=404, status="NOT_FOUND")]

    def _as_aws(self, exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
        key = exchange.header(b"authorization")
        if self.api_key is not None and key != f"Bearer {self.api_key}".encode():
            return (
                403,
                _JSON,
                [bedrock_answers.error("The security token included in the request is invalid.")],
            )
        body = exchange.body or {}
        model, _, operation = exchange.path.removeprefix("/model/").rpartition("/")
        match exchange.method, operation:
            case "POST", "converse" | "converse-stream" if "messages" in body:
                answer = bedrock_answers.answer(body, text=script.text, tool=script.tool, usage=script.usage)
                if operation == "converse":
                    return 200, _JSON, [answer.as_json()]
                return 200, _FRAMES, answer.as_frames(pieces=script.pieces)
            case "POST", "invoke" | "invoke-with-response-stream" if {
                "messages",
                "max_tokens",
            } <= body.keys():
                streams = operation != "invoke"
                _, _, chunks = self._message({**body, "model": model, "stream": streams}, script)
                return (200, _FRAMES, bedrock_answers.as_chunks(chunks)) if streams else (200, _JSON, chunks)
            case "POST", "count-tokens" if "input" in body:
                return 200, _JSON, [bedrock_answers.count(body)]
        return 404, _JSON, [bedrock_answers.error("Not found.")]

    def _message(self, body: Json, script: Script) -> tuple[int, bytes, Iterator[bytes]]:
        answer = anthropic_answers.answer(
            body,
            text=script.text,
            tool=script.tool,
            thinking=script.thinking,
            model=script.model,
            usage=script.usage,
        )
        if body.get("stream"):
            return 200, _EVENTS, answer.as_events(pieces=script.pieces)
        return 200, _JSON, iter([answer.as_json()])

    def _completion(self, body: Json, script: Script) -> tuple[int, bytes, Iterator[bytes]]:
        completion = openai_answers.complete(
            body, text=script.text, tool=script.tool, model=script.model, usage=script.usage
        )
        if not body.get("stream"):
            return 200, _JSON, iter([completion.as_json()])
        asked = body.get("stream_options") or {}
        events = completion.as_events(
            pieces=script.pieces,
            include_usage=bool(asked.get("include_usage")),
            continuous_usage=bool(asked.get("continuous_usage_stats")),
        )
        return 200, _EVENTS, events

    def _text_completion(self, body: Json, script: Script) -> tuple[int, bytes, Iterator[bytes]]:
        completion = openai_completions_answers.complete(
            body, text=script.text, model=script.model, usage=script.usage
        )
        if not body.get("stream"):
            return 200, _JSON, iter([completion.as_json()])
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return 200, _EVENTS, completion.as_events(pieces=script.pieces, include_usage=include_usage)

    def _response_object(self, body: Json, script: Script) -> tuple[int, bytes, Iterator[bytes]]:
        response = self._respond(body, script)
        if body.get("stream"):
            return 200, _EVENTS, response.as_events(pieces=script.pieces)
        return 200, _JSON, iter([response.as_json()])

    def _respond(self, body: Json, script: Script) -> openai_responses_answers.Response:
        return openai_responses_answers.respond(
            body, text=script.text, tool=script.tool, model=script.model, usage=script.usage
        )

    def _note_disconnect(self, exchange: Exchange) -> None:
        exchange.disconnected_at = time.monotonic()
        self._bell.ring()


def _as_ollama(exchange: Exchange, script: Script) -> tuple[int, bytes, Iterable[bytes]]:
    body = exchange.body or {}
    match exchange.path.rpartition("/")[2]:
        case "chat" | "generate" as route if "model" in body:
            answer = ollama_answers.answer(
                body,
                chats=route == "chat",
                text=script.text,
                tool=script.tool,
                model=script.model,
                usage=script.usage,
            )
            if body.get("stream", True):
                return 200, _LINES, answer.as_lines(pieces=script.pieces)
            return 200, _JSON, [answer.as_json()]
        case "embed" if "input" in body:
            return 200, _JSON, [ollama_answers.embed(body)]
    return 404, _JSON, [ollama_answers.error("not found")]


def _body_message(chunk: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
