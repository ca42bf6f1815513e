"""The store restarts, dies, freezes and fails over under load: clear refusals, a quick recovery, true books."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import serve_processes
from tests.sidecar.waiting import until
from tests.stores.cluster import OPTIONS, Cluster, cluster
from tests.stores.sentinels import Watched, watched
from tests.stores.server import Server, command_at, valkey_binary

from govmiddleware.core.ids import hash_api_token
from govmiddleware.testing import ScriptedProvider

pytestmark = pytest.mark.impatient

CLIENTS = 16
LONGEST_WAIT = 5.0
RECOVERY = 5.0
"""Seconds. A call waits at most 1 s for the store, and as long as busy cores make it wait."""

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}


@dataclass
class Load:
    """Clients that call one after the other, each until `stop`.

    Attributes:
        answers: status and code of the error, began and ended in seconds of the monotonic clock.
        served: the request ids of those with 200.
    """

    url: str
    served: list[str] = field(default_factory=list)
    answers: list[tuple[int, str | None, float, float]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"authorization": f"Bearer {SECRET}"}
        async with (
            aiohttp.ClientSession(headers=headers, connector=connector) as session,
            asyncio.TaskGroup() as clients,
        ):
            stop = asyncio.Event()
            for _ in range(CLIENTS):
                clients.create_task(self._client(session, stop))
            await self.until_answered(3 * CLIENTS)
            yield
            stop.set()

    async def until_answered(self, count: int) -> None:
        """So many calls with 200 from now on."""
        wanted = self.statuses()[200] + count
        async with asyncio.timeout(30):
            while self.statuses()[200] < wanted:
                await asyncio.sleep(0.01)

    def statuses(self) -> Counter[int]:
        return Counter(status for status, *_ in self.answers)

    async def _client(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            async with session.post(f"{self.url}/v1/chat/completions", json=BODY) as response:
                answer = await response.json()
            code = answer.get("error", {}).get("code")
            self.answers.append((response.status, code, began, time.monotonic()))
            if response.status == 200:
                self.served.append(response.headers["x-gov-request-id"])
            await asyncio.sleep(0.02)  # as the retry-after of a real client, but shorter


Trouble = Callable[[], None]


def live_through(trouble: Trouble, redis_url: str, config: Path, *, is_felt: bool = True) -> Load:
    """What must hold whatever happens to the store; `is_felt` where some call must have been refused."""

    async def drive(load: Load) -> float:
        async with load.running():
            await asyncio.to_thread(trouble)
            back = time.monotonic()
            await load.until_answered(10 * CLIENTS)
        return back

    with serve_processes(config) as [sidecar]:
        load = Load(sidecar.url)
        back = asyncio.run(drive(load))
        assert load.statuses().keys() <= {200, 503}
        refused = [answer for answer in load.answers if answer[0] == 503]
        assert refused or not is_felt
        assert {code for _, code, _, _ in refused} <= {"store_unavailable"}
        assert max(ended - began for _, _, began, ended in load.answers) < LONGEST_WAIT
        assert max((began for _, _, began, _ in refused), default=back) < back + RECOVERY
        books = Books(redis_url)
        until(lambda: books.open_reservations() == 0)
        until(lambda: books.audit().ok)  # what was lost may still be on its way back
        return load


def configured(path: Path, redis_url: str, upstream: str) -> Path:
    config = path / "govmiddleware.toml"
    config.write_text(
        f"""
        upstream = "{upstream}"
        redis_url = "{redis_url}"
        lease_seconds = 5
        sweep_seconds = 1
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        [[limits]]
        name = "month"
        scope = "workspace"
        meter = "cost_usd"
        window = "month"
        hard = 10
        [[limits]]
        name = "minute"
        scope = "api_token"
        meter = "requests"
        rate = "1000000/minute"
        [[limits]]
        name = "slots"
        scope = "api_token"
        meter = "concurrency"
        hard = 1000
        """
    )
    return config


def restart(server: Server) -> None:
    server.terminate()
    time.sleep(1)
    server.start()


def crash(server: Server) -> None:
    server.kill()
    time.sleep(1)
    server.start()


def freeze(server: Server) -> None:
    server.freeze()
    time.sleep(5)
    server.thaw()


@pytest.mark.parametrize("trouble", [restart, crash, freeze])
def test_a_store_in_trouble_refuses_clearly_and_is_back_at_once(
    trouble: Callable[[Server], None], tmp_path: Path, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    provider, upstream = gov_provider
    with Server(valkey_binary(), tmp_path / "store", "--appendonly", "yes") as server:
        config = configured(tmp_path, server.url, upstream)
        load = live_through(lambda: trouble(server), server.url, config)
        served = load.statuses()[200]
        assert len(provider.exchanges) == served == len(Books(server.url).records())
        check_that_sql_has_each_once(load, server.url)


def lose(pair: Watched, master: Server) -> None:
    master.kill()
    pair.wait_for_failover_from(master)


def part_from(pair: Watched, master: Server) -> None:
    """The old master comes back when there is a new one, and takes itself for the master still."""
    master.freeze()
    pair.wait_for_failover_from(master)
    master.thaw()


def lose_what_the_replica_has_not(pair: Watched, master: Server) -> None:
    """The replica hears nothing of the master's last settlements, with their reservations: they are lost for good."""
    [replica] = [server for server in pair.servers if server is not master]
    replica.freeze()
    command_at(master.port, "CLIENT", "KILL", "TYPE", "replica")  # or it would find them in its socket
    journaled = command_at(master.port, "XLEN", "gov:{acme}:journal")
    until(lambda: command_at(master.port, "XLEN", "gov:{acme}:journal") > journaled + 20)
    master.kill()
    replica.thaw()
    pair.wait_for_failover_from(master)


def check_that_sql_has_each_once(load: Load, redis_url: str) -> None:
    """Once the sidecar has ended."""
    books = Books(redis_url)
    drained = books.drained()
    assert sorted(str(record.request_id) for record in drained) == sorted(load.served)
    costs = [Decimal(record.cost_usd or 0) for record in drained]
    assert min(costs) > 0
    assert Decimal(books.usage()["cost_usd"]) == sum(costs)
    findings = books.audit()
    assert findings.ok, findings.shown()


@pytest.mark.parametrize("trouble", [lose, part_from])
def test_a_failover_refuses_clearly_and_is_over_at_once(
    trouble: Callable[[Watched, Server], None], tmp_path: Path, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    provider, upstream = gov_provider
    with watched(tmp_path / "stores") as pair:
        config = configured(tmp_path, pair.url, upstream)
        load = live_through(lambda: trouble(pair, pair.master), pair.url, config)
        served = load.statuses()[200]
        assert len(provider.exchanges) == served == len(Books(pair.url).records())
        check_that_sql_has_each_once(load, pair.url)


def test_settlements_that_no_store_has_any_more_are_charged_again_once(
    tmp_path: Path, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    provider, upstream = gov_provider
    with watched(tmp_path / "stores") as pair:
        config = configured(tmp_path, pair.url, upstream)
        master = pair.master
        load = live_through(lambda: lose_what_the_replica_has_not(pair, master), pair.url, config)
        assert (
            "with their reservations, and they are charged again" in config.with_suffix(".0.log").read_text()
        )
        assert len(provider.exchanges) == load.statuses()[200]
        check_that_sql_has_each_once(load, pair.url)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "stores") as three:
        yield three


def test_a_cluster_that_lost_a_primary_for_a_while_loses_nothing(
    three: Cluster, tmp_path: Path, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    provider, upstream = gov_provider
    owner = three.owner_of("{acme}")

    def crash_of_the_owner() -> None:
        crash(owner)
        three.wait_until_ok()  # a primary that was away takes writes again after two seconds

    load = live_through(crash_of_the_owner, three.url, configured(tmp_path, three.url, upstream))
    served = load.statuses()[200]
    assert len(provider.exchanges) == served == len(Books(three.url).records())


@pytest.mark.parametrize("trouble", [Server.kill, Server.freeze])
def test_a_cluster_whose_replica_takes_over_goes_on_with_it(
    trouble: Callable[[Server], None],
    three: Cluster,
    tmp_path: Path,
    gov_provider: tuple[ScriptedProvider, str],
) -> None:
    provider, upstream = gov_provider
    owner = three.owner_of("{acme}")
    other = three.another_than(owner)
    with Server(valkey_binary(), tmp_path / "replica", *OPTIONS) as replica:
        three.follow(replica, owner)

        def fail_over() -> None:
            trouble(owner)
            three.wait_until_another_owns("{acme}", other, owner)

        url = f"redis+cluster://127.0.0.1:{other.port},127.0.0.1:{owner.port}"
        load = live_through(fail_over, url, configured(tmp_path, url, upstream))
        served = load.statuses()[200]
        assert len(provider.exchanges) == served == len(Books(url).records())


@pytest.mark.parametrize("move", [Cluster.move_slot_at_once, Cluster.move_slot_key_by_key])
def test_a_slot_that_moves_under_load_takes_whole_reservations_with_it(
    move: Callable[[Cluster, str, Server], None],
    three: Cluster,
    tmp_path: Path,
    gov_provider: tuple[ScriptedProvider, str],
) -> None:
    provider, upstream = gov_provider
    old = three.owner_of("{acme}")
    new = three.another_than(old)
    config = configured(tmp_path, three.url, upstream)
    load = live_through(lambda: move(three, "{acme}", new), three.url, config, is_felt=False)
    assert three.owner_of("{acme}") is new
    served = load.statuses()[200]
    assert len(provider.exchanges) == served == len(Books(three.url).records())
