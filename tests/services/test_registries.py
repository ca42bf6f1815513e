"""The registries of a store that was lost: what people put there by command binds again, and nothing passes before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.core.registries import Registry, StoredApiToken
from govmiddleware.errors import StoreLost
from govmiddleware.ledger.keys import LIMITS
from govmiddleware.testing import ScriptedProvider

TWICE = {"name": "twice", "scope": "api_token", "meter": "requests", "window": "lifetime", "hard": 2}
OTHER = {**TWICE, "name": "other"}


@pytest.fixture
def raw(gov_store: str) -> Redis:
    return Redis.from_url(gov_store)


def token(name: str = "ci", **options: Any) -> tuple[StoredApiToken, str]:
    """And its secret."""
    made = StoredApiToken(ids.new_api_token_id(), name, "acme", "operator", int(time.time()), **options)
    return made, ids.new_api_token()


async def created(governance: Governance, name: str = "ci") -> tuple[StoredApiToken, str]:
    made, secret = token(name)
    assert await governance.api_token_registry.add(made, ids.hash_api_token(secret), actor="cli")
    return made, secret


async def copied(governance: Governance, registry: Registry) -> set[str]:
    return {*await governance.registries._copy.read(registry)}


async def rebuilt(governance: Governance) -> tuple[tuple[str, ...], tuple[str, ...]]:
    restored = await governance.registries.restore(actor="cli")
    await governance.rebuilding.rebuild()
    return restored.limits, restored.api_tokens


async def actions(governance: Governance) -> list[str]:
    return [entry.action.action async for entry in governance.audit_log.entries()]


async def test_what_is_changed_is_changed_in_the_copy_too(make_governance) -> None:
    governance = make_governance()
    async with governance.store():
        await governance.limits.put(TWICE)
        await governance.limits.put(OTHER)
        (kept, secret), (gone, _) = await created(governance), await created(governance, "gone")
        await governance.limits.delete("other")
        await governance.api_token_registry.revoke(gone, actor="cli")
        assert await copied(governance, Registry.LIMIT) == {"twice"}
        [(key, value)] = (await governance.registries._copy.read(Registry.API_TOKEN)).items()
        assert key == kept.id
        assert ids.hash_api_token(secret).encode() in value
        assert secret.encode() not in value
        assert await actions(governance) == [
            "limit.set",
            "limit.set",
            "api_token.created",
            "api_token.created",
            "limit.deleted",
            "api_token.revoked",
        ]


async def test_a_lost_store_gets_back_what_it_lacks_and_keeps_what_it_has(make_governance, raw) -> None:
    governance = make_governance()
    async with governance.store():
        await governance.limits.put(TWICE)
        await governance.limits.put(OTHER)
        _, (gone, _), (known, _) = [await created(governance, name) for name in ("ci", "gone", "known")]
        await governance.api_token_registry.revoke(gone, actor="cli")
        raw.flushall()
        raw.hset(LIMITS, "other", b"what somebody put there by hand")
        sha256 = ids.hash_api_token(ids.new_api_token())
        await governance.api_token_store.add(known, sha256)
        await governance.api_token_store.revoke(known)
        limits, tokens = await rebuilt(governance)
        assert limits == ("twice",)
        assert "acme/ci" in tokens
        assert raw.hget(LIMITS, "other") == b"what somebody put there by hand"
        listed = {each.name: each.active for each in await governance.api_token_store.list()}
        assert listed == {"ci": True, "known": False}, "what was revoked does not come back"
        assert (await actions(governance))[-1] == "registries.restored"
        assert await rebuilt(governance) == ((), ()), "there is nothing to do again"


async def test_a_store_that_lost_nothing_gets_nothing_that_it_did_not_take(make_governance, raw) -> None:
    governance = make_governance()
    async with governance.store():
        await governance.limits.put(TWICE)
        raw.hdel(LIMITS, "twice")  # as if its write had failed
        assert await rebuilt(governance) == ((), ())
        assert not raw.exists(LIMITS)
        assert await governance.limits.delete("twice"), "and it can be deleted"
        raw.flushall()
        assert await rebuilt(governance) == ((), ())


async def test_nothing_is_changed_in_a_lost_store_before_it_is_rebuilt(make_governance, raw) -> None:
    governance = make_governance()
    async with governance.store():
        made, secret = await created(governance)
        raw.flushall()
        for change in (
            governance.limits.put(TWICE),
            governance.limits.delete("twice"),
            governance.api_token_registry.add(token()[0], "0" * 64, actor="cli"),
            governance.api_token_store.find(ids.hash_api_token(secret)),
            governance.api_token_store.is_active("acme", made.id),
            governance.limits.all(),
        ):
            with pytest.raises(StoreLost, match="its limits and API tokens, which the journal knows"):
                await change
        assert await copied(governance, Registry.LIMIT) == set()


async def test_a_worker_that_runs_keeps_its_limits_while_the_store_is_lost(make_governance, raw) -> None:
    governance = make_governance()
    async with governance.store():
        await governance.limits.put(TWICE)
        raw.flushall()
        with pytest.raises(StoreLost):
            await governance.limits.refresh()
        assert [limit.name for limit in governance.limits] == ["twice"]


async def test_what_the_store_had_before_there_was_a_copy_is_copied_once(make_governance, raw) -> None:
    governance = make_governance()
    (made, secret), (gone, other) = token(), token("gone")
    async with governance.store():
        raw.hset(LIMITS, "twice", b'{"name":"twice"}')
        for each, its_secret in ((made, secret), (gone, other)):
            await governance.api_token_store.add(each, ids.hash_api_token(its_secret))
        await governance.api_token_store.revoke(gone)
        await governance.registries.complete_copy()
        assert await copied(governance, Registry.LIMIT) == {"twice"}
        assert await copied(governance, Registry.API_TOKEN) == {made.id}
        raw.hset(LIMITS, "by-hand", b"{}")
    later = make_governance()
    async with later.store():
        await later.registries.complete_copy()
        assert await copied(later, Registry.LIMIT) == {"twice"}, "it is complete"
        raw.flushall()
        assert await rebuilt(later) == (("twice",), ("acme/ci",))
        assert await later.api_token_store.find(ids.hash_api_token(secret)) == made


async def test_while_the_database_is_away_limits_bind_as_the_store_has_them(
    make_governance, tmp_path: Path
) -> None:
    whole = make_governance()
    async with whole.store():
        await whole.limits.put(TWICE)
    governance = make_governance(journal_url=f"sqlite:///{tmp_path}")
    async with governance.store():
        assert [limit.name for limit in governance.limits] == ["twice"]


async def test_calls_with_a_stored_token_wait_for_the_rebuild_and_are_bound_by_the_stored_limit_after_it(
    make_governance: Callable[..., Governance], raw: Redis
) -> None:
    async def call(governance: Governance, secret: str) -> tuple[int, str]:
        transport = httpx.ASGITransport(governance.stack(ScriptedProvider(), sidecar=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
            answer = await http.post(
                "/v1/chat/completions",
                json={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
                headers={"authorization": f"Bearer {secret}"},
            )
            return answer.status_code, answer.json().get("error", {}).get("code", "")

    async with make_governance() as before:
        await before.limits.put(TWICE)
        _, secret = await created(before)
        assert await call(before, secret) == (200, "")
        await before.drainer.drain()
        raw.flushall()
        assert await call(before, secret) == (503, "store_lost"), "for a worker that knows the token"
    async with make_governance() as after:
        assert await call(after, secret) == (503, "store_lost"), "and for one that does not"
    operator = make_governance()
    async with operator.store():
        assert await rebuilt(operator) == (("twice",), ("acme/ci",))
        assert (await operator.audit()).ok
    async with make_governance() as after:
        assert [await call(after, secret) for _ in range(2)] == [(200, ""), (429, "insufficient_quota")]
