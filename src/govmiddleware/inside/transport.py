"""A transport for clients of httpx and httpx2 (asynchronous and synchronous), whose model calls are governed.

The two libraries have the same API, and each accepts its own objects alone. Which one it is, a request tells.
openai >= 3 and anthropic >= 2 use httpx2; openai takes clients of httpx too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import cache
from types import ModuleType
from typing import Any, Self

from starlette.types import Message, Scope

from govmiddleware.core.call import Call, Principal
from govmiddleware.inside.calls import InnerCalls
from govmiddleware.inside.exchange import Exchange
from govmiddleware.inside.libraries import library_of
from govmiddleware.inside.loops import Home, call_on, run_on
from govmiddleware.middleware._enter import STATE_KEY
from govmiddleware.protocols.registry import recognise

_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class GovernedTransport:
    """Estimates, gates, meters and journals the requests that a protocol recognises; all others pass
    untouched. It serves asynchronous and synchronous clients alike.

    Args:
        inner: the transport that sends, of the client's library; by default the library's own, with as many
            connections as the openai and anthropic SDKs allow themselves.
        principal: who calls where no governed request runs.

    Requests raise NoCaller and WrongEventLoop. A refusal is an answer, in the provider's own shape.
    """

    def __init__(
        self, calls: InnerCalls, home: Home, inner: Any = None, *, principal: Principal | None = None
    ) -> None:
        self._calls = calls
        self._home = home
        self._given = inner
        self._principal = principal
        self._made: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    async def handle_async_request(self, request: Any) -> Any:
        library = library_of(request)
        inner = self._inner(library, "AsyncHTTPTransport")
        if (call := self._call_for(request)) is None:
            return await inner.handle_async_request(request)
        exchange = Exchange(self._calls.stack, _scope(request, call), await request.aread())
        loop = self._home.for_task()
        refusal = await run_on(loop, exchange.start)
        if exchange.headers is None:
            return _answer(library, refusal)
        try:
            response = await inner.handle_async_request(_outgoing(library, request, exchange))
        except BaseException as error:
            loop.call_soon_threadsafe(exchange.leave, error)
            await run_on(loop, exchange.ended)
            raise
        stream = _stream_class(library, _AsyncAnswer, "AsyncByteStream")(exchange, loop, response)
        try:
            [head] = await run_on(loop, exchange.give, _start(response))
        except BaseException:
            await stream.aclose()
            raise
        return library.Response(
            head["status"], headers=head["headers"], stream=stream, extensions=response.extensions
        )

    def handle_request(self, request: Any) -> Any:
        library = library_of(request)
        inner = self._inner(library, "HTTPTransport")
        if (call := self._call_for(request)) is None:
            return inner.handle_request(request)
        exchange = Exchange(self._calls.stack, _scope(request, call), request.read())
        loop = self._home.for_thread()
        refusal = call_on(loop, exchange.start)
        if exchange.headers is None:
            return _answer(library, refusal)
        try:
            response = inner.handle_request(_outgoing(library, request, exchange))
        except BaseException as error:
            loop.call_soon_threadsafe(exchange.leave, error)
            call_on(loop, exchange.ended)
            raise
        stream = _stream_class(library, _SyncAnswer, "SyncByteStream")(exchange, loop, response)
        try:
            [head] = call_on(loop, exchange.give, _start(response))
        except BaseException:
            stream.close()
            raise
        return library.Response(
            head["status"], headers=head["headers"], stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        for inner in self._all("AsyncHTTPTransport"):
            await inner.aclose()

    def close(self) -> None:
        for inner in self._all("HTTPTransport"):
            inner.close()

    async def __aenter__(self) -> Self:
        if self._given is not None:
            await self._given.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._given is not None:
            await self._given.__aexit__(*error)
        else:
            await self.aclose()

    def __enter__(self) -> Self:
        if self._given is not None:
            self._given.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._given is not None:
            self._given.__exit__(*error)
        else:
            self.close()

    def _call_for(self, request: Any) -> Call | None:
        protocol = recognise(request.method, request.url.path)
        if protocol is None:
            return None
        return self._calls.new_call(protocol, request.method, request.url.path, principal=self._principal)

    def _inner(self, library: ModuleType, kind: str) -> Any:
        if self._given is not None:
            return self._given
        with self._lock:
            key = library.__name__, kind
            if key not in self._made:
                limits = library.Limits(max_connections=1000, max_keepalive_connections=100)
                self._made[key] = getattr(library, kind)(limits=limits)
            return self._made[key]

    def _all(self, kind: str) -> list[Any]:
        if self._given is not None:
            return [self._given]
        with self._lock:
            return [inner for (_, made), inner in self._made.items() if made == kind]


class _Answer:
    """The body of an answer on its way to the client."""

    def __init__(self, exchange: Exchange, loop: asyncio.AbstractEventLoop, response: Any) -> None:
        self._exchange = exchange
        self._loop = loop
        self._response = response

    def _leave(self, error: Exception | None = None) -> None:
        if not self._exchange.has_ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._exchange.leave, error)

    def __del__(self) -> None:  # one that nobody read or closed would hold its reservation for ever
        self._leave()


class _AsyncAnswer(_Answer):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.stream:
                for message in await run_on(self._loop, self._exchange.give, _chunk(chunk)):
                    yield message["body"]
                    if not message["more_body"]:
                        return  # a limit has ended the stream
            for message in await run_on(self._loop, self._exchange.give, _END):
                yield message["body"]
        except Exception as error:
            self._leave(error)
            await run_on(self._loop, self._exchange.ended)
            raise

    async def aclose(self) -> None:
        self._leave()
        await self._response.aclose()
        await run_on(self._loop, self._exchange.ended)


class _SyncAnswer(_Answer):
    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._response.stream:
                for message in call_on(self._loop, self._exchange.give, _chunk(chunk)):
                    yield message["body"]
                    if not message["more_body"]:
                        return  # a limit has ended the stream
            for message in call_on(self._loop, self._exchange.give, _END):
                yield message["body"]
        except Exception as error:
            self._leave(error)
            call_on(self._loop, self._exchange.ended)
            raise

    def close(self) -> None:
        self._leave()
        self._response.close()
        call_on(self._loop, self._exchange.ended)


@cache
def _stream_class(library: ModuleType, answer: type[_Answer], kind: str) -> type[Any]:
    """The answer as a stream of the library, which looks at the class."""
    return type(answer.__name__, (answer, getattr(library, kind)), {})


def _scope(request: Any, call: Call) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (url.host, url.port),
        "client": None,
        "root_path": "",
        "state": {STATE_KEY: call},
    }


def _outgoing(library: ModuleType, request: Any, exchange: Exchange) -> Any:
    return library.Request(
        request.method,
        request.url,
        headers=exchange.headers,
        content=exchange.body,
        extensions=request.extensions,
    )


def _start(response: Any) -> Message:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def _chunk(chunk: bytes) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": True}


def _answer(library: ModuleType, messages: list[Message]) -> Any:
    """An answer of the stack's own."""
    start, *body = messages
    content = b"".join(message["body"] for message in body)
    return library.Response(start["status"], headers=start["headers"], content=content)
