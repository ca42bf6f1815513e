"""A master, its replica, and three sentinels that watch them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.sidecar.waiting import until
from tests.stores.server import Server, command_at, valkey_binary, wait_for

SERVICE = "books"

_CONFIG = """\
sentinel monitor {service} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 5000
"""


class Watched:
    """Two servers, of which the sentinels make one the master."""

    def __init__(self, servers: list[Server], sentinels: list[Server]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> Server:
        """As most sentinels say."""
        ports = [self._master_port(sentinel) for sentinel in self.sentinels]
        port = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def wait_for_failover_from(self, old: Server) -> None:
        until(lambda: all(self._master_port(sentinel) != old.port for sentinel in self.sentinels), within=20)
        wait_for(self.master.port, "role:master", "INFO", "replication")

    def _master_port(self, sentinel: Server) -> int:
        address = command_at(sentinel.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(address[1])


@contextmanager
def watched(home: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        durable = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        master = stack.enter_context(Server(valkey_binary(), home / "master", *durable))
        replica = stack.enter_context(
            Server(valkey_binary(), home / "replica", *durable, "--replicaof", f"127.0.0.1 {master.port}")
        )
        wait_for(master.port, "state=online", "INFO", "replication")
        sentinels = []
        for number in range(3):
            folder = home / f"sentinel{number}"
            folder.mkdir()
            config = folder / "sentinel.conf"
            config.write_text(_CONFIG.format(service=SERVICE, master=master.port))
            sentinels.append(stack.enter_context(Sentinel(config)))
        for sentinel in sentinels:
            wait_for(sentinel.port, "'num-other-sentinels', '2'", "SENTINEL", "MASTER", SERVICE)
            wait_for(sentinel.port, "'num-slaves', '1'", "SENTINEL", "MASTER", SERVICE)
        yield Watched([master, replica], sentinels)


class Sentinel(Server):
    def __init__(self, config: Path) -> None:
        super().__init__(valkey_binary(), config.parent)
        self._command = [str(valkey_binary()), str(config), "--sentinel", "--port", str(self.port)]
        self._command += ["--bind", "127.0.0.1", "--dir", str(config.parent)]
