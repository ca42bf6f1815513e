"""An upstream over TLS: served on one connection where it is trusted, never where it is not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from govmiddleware.errors import UpstreamUnreachable
from govmiddleware.upstream import open_client

AUTHORITY = trustme.CA()


class Upstream:
    """Answers each request with its body."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (length, body))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context) as server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("library", ["aiohttp", "httpx"])
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_an_upstream_over_tls_is_called_where_its_certificate_is_trusted(library, is_trusted) -> None:
    trust = ssl.create_default_context()
    if is_trusted:
        AUTHORITY.configure_trust(trust)
    client = open_client(
        connect_timeout=5, first_byte_timeout=5, idle_timeout=5, library=library, ssl_context=trust
    )
    upstream = Upstream()

    async def ask(url: str, body: bytes) -> bytes:
        async with client.request("POST", url, [(b"accept", b"*/*")], body) as answer:
            assert answer.status == 200
            return b"".join([chunk async for chunk in answer.chunks()])

    async with upstream.running() as url:
        if is_trusted:
            assert await ask(f"{url}/a", b"first") == b"first"
            assert await ask(f"{url}/b?c", b"x" * 300_000) == b"x" * 300_000
            assert upstream.connections == 1
        else:
            with pytest.raises(UpstreamUnreachable) as failed:
                await ask(f"{url}/a", b"secret")
            assert not failed.value.sent
        await client.close()
