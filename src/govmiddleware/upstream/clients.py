"""Choose the HTTP client: aiohttp where it is installed, else httpx."""

from __future__ import annotations

import importlib.util
import ssl
from functools import cache
from typing import Literal

from govmiddleware.core.ports import UpstreamClient


def open_client(
    *,
    connect_timeout: float,
    first_byte_timeout: float,
    idle_timeout: float,
    library: Literal["aiohttp", "httpx"] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> UpstreamClient:
    """A pooled client, which connects at its first request and belongs to that request's event loop.

    aiohttp is the first choice: it forwards several times as many requests a second, and it alone
    relays an answer that begins while the request is still being sent.

    Args:
        connect_timeout: seconds for name, TCP and TLS together.
        first_byte_timeout: seconds from the request's last byte to the answer's head.
        idle_timeout: seconds without a byte, in either direction, while a body is under way.
        library: forces one of the two.
        ssl_context: None takes the machine's trust store.
    """
    if library is None:
        library = "aiohttp" if importlib.util.find_spec("aiohttp") else "httpx"
    # Both default to a trust store of their own; one context makes them agree.
    context = ssl_context or _trust_store()
    if library == "aiohttp":
        from govmiddleware.upstream.aiohttp_client import AiohttpClient

        return AiohttpClient(connect_timeout, first_byte_timeout, idle_timeout, context)
    from govmiddleware.upstream.httpx_client import HttpxClient

    return HttpxClient(connect_timeout, first_byte_timeout, idle_timeout, context)


@cache
def _trust_store() -> ssl.SSLContext:
    """The machine's, one for all clients: it takes a while to read."""
    return ssl.create_default_context()
