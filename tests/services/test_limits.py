"""The registry of limits: what is in force, as the store changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from redis import Redis

from govmiddleware.app import Governance
from govmiddleware.core.audit_log import Action
from govmiddleware.core.limits import Mode
from govmiddleware.core.refusals import LimitIsConfigured, Unavailable
from govmiddleware.core.registries import Copied, Registry
from govmiddleware.errors import ConfigurationError, HistoryUnavailable, StoreUnavailable
from govmiddleware.ledger.connection import Client, connect
from govmiddleware.ledger.keys import LIMITS
from govmiddleware.ledger.limits import RedisLimits
from govmiddleware.services.limits import LimitRegistry
from govmiddleware.settings import Settings
from govmiddleware.settings_limits import LimitDefaults, LimitSettings, read_limit

MINUTE = {"name": "minute", "scope": "user", "meter": "requests", "rate": "60/minute"}
STORED = {**MINUTE, "name": "stored"}
NEWER = b'{"name":"newer","scope":"user","meter":"requests","rate":"1/minute","colour":2}'


@pytest.fixture
async def client(gov_store: str) -> AsyncIterator[Client]:
    redis = connect(gov_store)
    yield redis
    await redis.aclose()


@pytest.fixture
def raw(gov_store: str) -> Redis:
    return Redis.from_url(gov_store)


class Reading:
    """How stored limits are read, and how often."""

    def __init__(self) -> None:
        self.names: list[object] = []

    def __call__(self, fields: Mapping[str, object]):  # type: ignore[no-untyped-def]
        self.names.append(fields["name"])
        limit = read_limit(fields, ["default"])
        return limit.limit(LimitDefaults()), limit.fields()


class Copies:
    """A copy, and an audit log, in memory."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.copied: dict[str, bytes] = {}

    async def put(self, copied: Copied, action: Action) -> None:
        self.copied[copied[1]] = copied[2]
        self.actions.append(action)

    async def delete(self, registry: Registry, key: str, action: Action) -> None:
        self.copied.pop(key, None)
        self.actions.append(action)

    async def read(self, registry: Registry) -> Mapping[str, bytes]:
        return self.copied

    async def is_complete(self) -> bool:
        raise NotImplementedError

    async def complete(self, copied: Sequence[Copied]) -> None:
        raise NotImplementedError


class Silent(Copies):
    """One whose database does not answer."""

    async def put(self, copied: Copied, action: Action) -> None:
        raise HistoryUnavailable("no answer")

    async def delete(self, registry: Registry, key: str, action: Action) -> None:
        raise HistoryUnavailable("no answer")


def registry(store: RedisLimits, reading: Reading | None = None, copy: Copies | None = None) -> LimitRegistry:
    configured = LimitSettings.model_validate(MINUTE)
    return LimitRegistry(
        store,
        [(configured.limit(LimitDefaults()), configured.fields())],
        reading or Reading(),
        copy=copy or Copies(),
    )


def in_force(limits: LimitRegistry) -> dict[str, int]:
    return {limit.name: limit.hard for limit in limits}


async def test_stored_limits_bind_beside_those_of_the_file_which_win(client, raw, caplog) -> None:
    limits = registry(RedisLimits(client))
    await limits.put(STORED)
    raw.hset(LIMITS, "minute", b'{"name":"minute","scope":"user","meter":"requests","rate":"1/minute"}')
    await limits.refresh()
    assert in_force(limits) == {"minute": 60, "stored": 60}
    assert [(each.limit.name, each.source) for each in await limits.all()] == [
        ("minute", "file"),
        ("stored", "store"),
    ]
    assert "limit minute of the store does not bind: the file has one of this name" in caplog.text


async def test_limits_are_created_replaced_and_deleted_for_every_registry(client) -> None:
    here, there = registry(RedisLimits(client)), registry(RedisLimits(client))
    assert (await here.put(STORED))[1] is True
    assert (await here.put({**STORED, "rate": "7/minute"}))[1] is False
    assert in_force(here) == {"minute": 60, "stored": 7}, "at once where it was changed"
    await there.refresh()
    assert in_force(there) == {"minute": 60, "stored": 7}
    assert (await here.delete("stored"), await here.delete("stored")) == (True, False)
    await there.refresh()
    assert in_force(there) == {"minute": 60}
    assert (await there.find("stored"), (await there.all())[0].source) == (None, "file")


async def test_limits_of_the_file_cannot_be_changed(client, raw) -> None:
    limits = registry(RedisLimits(client))
    for change in (limits.put(MINUTE), limits.delete("minute")):
        with pytest.raises(LimitIsConfigured, match="Limit minute stands in the configuration file"):
            await change
    with pytest.raises(ConfigurationError, match="rate"):
        await limits.put({**STORED, "rate": "often"})
    assert raw.exists(LIMITS) == 0


async def test_what_did_not_change_is_not_read_again(client, raw) -> None:
    reading = Reading()
    limits = registry(RedisLimits(client), reading)
    raw.hset(LIMITS, "stored", b'{"name":"stored","scope":"user","meter":"requests","rate":"7/minute"}')
    for _ in range(3):
        await limits.refresh()
    assert reading.names == ["stored"]


async def test_until_the_store_was_read_nobody_knows_the_limits(tmp_path: Path) -> None:
    redis = connect(f"unix://{tmp_path}/closed.sock")
    limits = registry(RedisLimits(redis))
    with pytest.raises(StoreUnavailable):
        await limits.refresh()
    with pytest.raises(Unavailable):
        iter(limits)
    assert limits.problems() == ["the limits could not be read from the store yet"]
    await redis.aclose()


async def test_while_the_store_is_down_what_was_in_force_stays_so(gov_store: str, tmp_path: Path) -> None:
    class Severed(RedisLimits):
        async def read(self) -> Mapping[str, bytes]:
            if severed:
                raise StoreUnavailable
            return await super().read()

    severed = False
    redis = connect(gov_store)
    limits = registry(Severed(redis))
    await limits.put(STORED)
    severed = True
    with pytest.raises(StoreUnavailable):
        await limits.refresh()
    assert in_force(limits) == {"minute": 60, "stored": 60}
    await redis.aclose()


async def test_an_answer_that_is_late_does_not_bring_back_what_was_before(client) -> None:
    class Slow(RedisLimits):
        async def read(self) -> Mapping[str, bytes]:
            found = await super().read()
            if not late.is_set():
                late.set()
                await go_on.wait()
            return found

    late, go_on = asyncio.Event(), asyncio.Event()
    limits = registry(Slow(client))
    early = asyncio.create_task(limits.refresh())
    await late.wait()
    change = asyncio.create_task(limits.put(STORED))
    await asyncio.wait({change}, timeout=0.1)  # it would be done, if it did not wait for the other
    go_on.set()
    await asyncio.gather(early, change)
    assert in_force(limits) == {"minute": 60, "stored": 60}


@pytest.mark.parametrize("unreadable", [NEWER, b"{", b"[]", b'{"name":"newer"}'])
async def test_what_a_newer_version_wrote_does_not_bind_and_is_told(
    client, raw, caplog, unreadable: bytes
) -> None:
    limits = registry(RedisLimits(client))
    await limits.put(STORED)
    raw.hset(LIMITS, "newer", unreadable)
    for _ in range(2):
        await limits.refresh()
    assert in_force(limits) == {"minute": 60, "stored": 60}, "the others bind"
    [problem] = limits.problems()
    assert problem.startswith("limit newer of the store does not bind: ")
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage().partition(":")[0] for record in told] == [
        "limit newer of the store cannot be read and does not bind"
    ]
    assert limits.is_unreadable("newer")
    await limits.put({**STORED, "name": "newer"})
    assert limits.problems() == []


async def test_a_limit_is_called_as_it_is_stored(client, raw) -> None:
    limits = registry(RedisLimits(client))
    raw.hset(LIMITS, "other", b'{"name":"minute","scope":"user","meter":"requests","rate":"7/minute"}')
    await limits.refresh()
    assert in_force(limits) == {"minute": 60, "other": 7}


async def test_stored_limits_take_the_deployments_soft_fraction_mode_and_upstreams(
    make_governance: Callable[..., Governance],
) -> None:
    governance = make_governance(soft_fraction=0.5, mode="dry_run", upstreams=[{"name": "far"}])
    async with governance.store():
        await governance.limits.put({**STORED, "scope": "provider", "value": "far"})
        [limit] = governance.limits
        assert (limit.soft, limit.mode) == (30, Mode.DRY_RUN)
        with pytest.raises(ConfigurationError, match="the name of an upstream: far"):
            await governance.limits.put({**STORED, "scope": "provider", "value": "near"})


async def test_a_limit_that_cannot_be_read_keeps_the_sidecar_from_being_ready(make_governance, raw) -> None:
    raw.hset(LIMITS, "newer", NEWER)
    async with make_governance() as governance:
        assert await governance.readiness() == [
            "limit newer of the store does not bind: "
            "colour = 2: expected a setting that exists; there is none of this name"
        ]


async def test_calls_wait_for_the_limits_where_the_store_was_down_at_the_start(tmp_path: Path) -> None:
    async with Governance(Settings(redis_url=f"unix://{tmp_path}/closed.sock")) as governance:
        with pytest.raises(Unavailable):
            list(governance.limits)


# The audit log -----------------------------------------------------------------------------------


async def test_every_change_is_in_the_audit_log_with_who_made_it(client) -> None:
    log = Copies()
    limits = registry(RedisLimits(client), copy=log)
    await limits.put({**STORED, "workspace": "acme"}, actor="admin")
    assert await limits.delete("stored", actor="cli")
    assert not await limits.delete("stored", actor="cli")
    told = [(action.workspace, action.actor, action.action, action.subject) for action in log.actions]
    assert told == [
        ("acme", "admin", "limit.set", "limit:stored"),
        ("acme", "cli", "limit.deleted", "limit:stored"),
    ]
    assert all(action.details["rate"] == "60/minute" for action in log.actions)


async def test_what_the_audit_log_does_not_take_is_not_done(client) -> None:
    await registry(RedisLimits(client)).put(STORED)
    limits = registry(RedisLimits(client), copy=Silent())
    for change in (limits.put({**STORED, "rate": "1/minute"}), limits.delete("stored")):
        with pytest.raises(HistoryUnavailable):
            await change
    await limits.refresh()
    assert in_force(limits)["stored"] == 60
