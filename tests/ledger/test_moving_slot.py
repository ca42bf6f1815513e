"""A cluster moves a workspace's slot: what runs meanwhile runs whole or not at all.

Of a slot that moves, a server takes no command for a key that it has not, not even in the middle of a script:
not for one that the script itself has emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot
from tests.ledger.states import granted
from tests.stores.cluster import Cluster, cluster
from tests.stores.server import command_at

from govmiddleware.core.ports import LimitsExceeded
from govmiddleware.errors import StoreUnavailable

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

SLOT = key_slot(b"{acme}")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("stores")) as three:
        yield three


@pytest.fixture
def gov_store(three: Cluster) -> str:
    for server in three.servers:
        command_at(server.port, "FLUSHALL")
    return three.url


@contextmanager
def moving(three: Cluster) -> Iterator[None]:
    """The slot of `acme` is about to move, and no key has yet."""
    source = three.owner_of("{acme}")
    target = three.another_than(source)
    for at, way, other in (target, "IMPORTING", source), (source, "MIGRATING", target):
        command_at(at.port, "CLUSTER", "SETSLOT", SLOT, way, command_at(other.port, "CLUSTER", "MYID"))
    try:
        yield
    finally:
        for at in source, target:
            command_at(at.port, "CLUSTER", "SETSLOT", SLOT, "STABLE")


End = Callable[["Bench"], object]


@pytest.mark.parametrize(
    "end",
    [
        lambda bench: bench.settle("last", 0, 7, 7),
        lambda bench: bench.release("last"),
        lambda bench: bench.sweep("last"),
    ],
    ids=["settled", "released", "swept"],
)
async def test_the_last_call_is_ended_whole(three: Cluster, bench: Bench, end: End) -> None:
    await bench.open("first", bench.slot(of=2), bench.month(10, of=100), bench.sliding(10, of=100))
    await bench.settle("first", 0, 5, 5)  # so that there is a journal
    await bench.open("last", bench.slot(of=2), bench.month(10, of=100), bench.sliding(10, of=100))
    bench.clock.advance(2 * 60)
    with moving(three):
        assert await end(bench)
    await bench.audited()
    assert await bench.look(bench.slot(of=2)) == (0, 0)


async def test_a_refused_extension_gives_back_the_last_slot_and_tells_of_what_was_full(
    three: Cluster, bench: Bench
) -> None:
    bench.raw.sadd(bench.keys.active_tokens, "tok_1")
    await bench.open("first", bench.slot(of=5))
    await bench.settle("first", 0)  # so that all keys are there
    await bench.open("a", bench.slot(of=5), bench.month(90, of=100))
    with moving(three):
        refused = await bench.extend("a", bench.slot(of=1), bench.month(20, of=100))
    assert isinstance(refused, LimitsExceeded)
    await bench.audited()
    granted(await bench.open("b", bench.slot(of=1), bench.month(100, of=100)))


async def test_a_new_call_waits_until_the_slot_has_moved(three: Cluster, bench: Bench) -> None:
    """Its reservation is a key that the server has not."""
    await bench.open("a", bench.slot(of=5))
    with moving(three), pytest.raises(StoreUnavailable):
        await bench.open("b", bench.slot(of=5))
    granted(await bench.open("b", bench.slot(of=5)))
    await bench.audited()
