"""A load balancer of connections, as kube-proxy is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType


class Balancer:
    """Gives each connection to the next replica in turn, and to another one where that refuses it. What happens
    on a connection after it was made reaches the client: nothing is sent a second time.

    Attributes:
        endpoints: the ports of the replicas that get new connections; those that are there already stay.
        refused: how many connections a replica did not take.
    """

    def __init__(self, ports: Iterable[int]) -> None:
        self.endpoints = list(ports)
        self.refused = 0
        self.url = ""
        self._turn = 0

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._balance, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _balance(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_replica, to_replica = await self._connect()
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(from_client, to_replica))
            pumps.create_task(_pump(from_replica, to_client))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            self._turn += 1
            port = self.endpoints[self._turn % len(self.endpoints)]
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                self.refused += 1


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and how it ends."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.transport.abort()
