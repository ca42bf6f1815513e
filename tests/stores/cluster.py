"""A cluster of three primaries, and the moving of its slots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis.crc import key_slot

from tests.sidecar.waiting import until
from tests.stores.server import Server, command_at, valkey_binary, wait_for

OPTIONS = ("--cluster-enabled", "yes", "--appendonly", "yes", "--cluster-node-timeout", "1000")
_SLOTS = 16384


class Cluster:
    """Three primaries that share the slots evenly. `url` names two of them."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers[:2])
        self._ids = {server.port: str(command_at(server.port, "CLUSTER", "MYID")) for server in servers}

    def owner_of(self, key: str) -> Server:
        slot = key_slot(key.encode())
        for start, end, (_, port, *_rest), *_replicas in command_at(self.servers[0].port, "CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def wait_until_another_owns(self, key: str, asked: Server, old: Server) -> None:
        """As `asked` sees it."""
        slot = key_slot(key.encode())

        def owner() -> int:
            ranges = command_at(asked.port, "CLUSTER", "SLOTS")
            return next(int(node[1]) for start, end, node, *_ in ranges if start <= slot <= end)

        until(lambda: owner() != old.port, within=20)
        wait_for(asked.port, "cluster_state:ok", "CLUSTER", "INFO")

    def follow(self, replica: Server, primary: Server) -> None:
        """Make an empty server of the cluster's kind a replica of one of its primaries."""
        command_at(replica.port, "CLUSTER", "MEET", "127.0.0.1", primary.port, primary.bus_port)
        wait_for(replica.port, "cluster_known_nodes:4", "CLUSTER", "INFO")
        command_at(replica.port, "CLUSTER", "REPLICATE", self._ids[primary.port])
        wait_for(primary.port, "state=online", "INFO", "replication")

    def another_than(self, server: Server) -> Server:
        return next(other for other in self.servers if other is not server)

    def move_slot_at_once(self, key: str, to: Server) -> None:
        """As Valkey 9 does: the slot with all of its keys changes hands in one step."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        command_at(
            source.port, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self._ids[to.port]
        )
        until(lambda: self.owner_of(key) is to)

    def move_slot_key_by_key(self, key: str, to: Server) -> None:
        """As Redis does, and `valkey-cli --cluster reshard`: for a while its keys lie on both servers."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        command_at(to.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[source.port])
        command_at(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[to.port])
        while keys := command_at(source.port, "CLUSTER", "GETKEYSINSLOT", slot, 1):
            command_at(source.port, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            time.sleep(0.02)  # so that calls meet every stage of it
        for server in (to, source, *self.servers):
            command_at(server.port, "CLUSTER", "SETSLOT", slot, "NODE", self._ids[to.port])

    def wait_until_ok(self) -> None:
        for server in self.servers:
            wait_for(server.port, "cluster_state:ok", "CLUSTER", "INFO")
            wait_for(server.port, "cluster_slots_pfail:0", "CLUSTER", "INFO")
            wait_for(server.port, "cluster_slots_fail:0", "CLUSTER", "INFO")


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(valkey_binary(), home / str(number), *OPTIONS)) for number in range(3)
        ]
        for number, server in enumerate(servers):
            first, last = (_SLOTS * each // 3 for each in (number, number + 1))
            command_at(server.port, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            command_at(server.port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in servers[:number]:
                command_at(server.port, "CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)
        for server in servers:
            wait_for(server.port, "cluster_known_nodes:3", "CLUSTER", "INFO")
        three = Cluster(servers)
        three.wait_until_ok()
        yield three
