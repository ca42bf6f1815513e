"""Resets over HTTP: what they take back, who may, and what is left of them in the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.services import records
from govmiddleware.services.audit import audit
from govmiddleware.sidecar import Sidecar

ADMIN = "the admin's own"
TOKENS = [
    {
        "name": f"{workspace}-{role}",
        "workspace": workspace,
        "role": role,
        "sha256": ids.hash_api_token(f"{workspace} {role}"),
    }
    for workspace in ("acme", "umbrella")
    for role in ("owner", "admin", "operator")
]
MONTH = {"scope": "user", "meter": "cost_usd", "window": "month", "hard": 5}
LIMITS: list[dict[str, Any]] = [
    {"name": "month", **MONTH},
    {"name": "tokens", **MONTH, "meter": "total_tokens", "hard": 100_000},
    {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "60/minute"},
    {"name": "ann", **MONTH, "window": "day", "value": "ann"},
    {"name": "shadow", **MONTH, "mode": "dry_run"},
    {"name": "pair", **MONTH, "scope": ["user", "model"]},
    {"name": "team", **MONTH, "scope": "tag:team"},
    {"name": "all", **MONTH, "scope": "deployment"},
    {"name": "acmes", **MONTH, "scope": "workspace", "workspace": "acme"},
    {"name": "clock", "scope": "session", "meter": "wall_clock", "hard": 3600},
    {"name": "slots", "scope": "api_token", "meter": "concurrency", "hard": 20},
]
NOTHING = (0, "0.000000000")
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


class Client:
    """Two calls of ann and one of bob were made; `reset` asks for what follows."""

    def __init__(self, governance: Governance, http: httpx.AsyncClient) -> None:
        self.governance = governance
        self.http = http

    async def reset(self, secret: str = ADMIN, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}"}
        if key := body.pop("key", None):
            headers["idempotency-key"] = key
        return await self.http.post("/gov/api/v1/usage/reset", json=body, headers=headers)

    async def used(self, name: str) -> dict[str, Any]:
        """By value."""
        states = await self.governance.usage.limit_states()
        return {str(state["value"]): state["used"] for state in states if state["name"] == name}

    async def call(self, user: str) -> None:
        headers = {"authorization": "Bearer acme operator", "x-gov-user": user, "x-gov-tags": "team=search"}
        await self.http.post("/v1/chat/completions", json=BODY, headers=headers)

    async def differences(self) -> list[Any]:
        """Of the books."""
        return (await audit(self.governance.journal)).differences

    async def adjustments(self, workspace: str) -> list[Any]:
        entries = [entry async for entry in self.governance.journal.entries(workspace)]
        return [entry for entry in entries if records.decode(entry.record).kind == "adjustment"]


@pytest.fixture
async def client(make_governance: Callable[..., Governance], gov_provider: Any) -> AsyncIterator[Client]:
    governance = make_governance(
        upstream=gov_provider[1], admin_token=ADMIN, api_tokens=TOKENS, limits=LIMITS
    )
    async with governance:
        app = Sidecar(governance)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gov") as http:
            client = Client(governance, http)
            for user in ("ann", "ann", "bob"):
                await client.call(user)
            yield client
        await app.hang_up()


async def test_a_reset_takes_back_what_the_window_has(client: Client) -> None:
    for limit, value, workspace, counted in (
        ("month", "ann", "acme", "ann"),
        ("tokens", ["ann"], "acme", "ann"),
        ("minute", "acme-operator", "acme", "acme-operator"),
        ("ann", None, "acme", "ann"),
        ("shadow", "ann", "acme", "ann"),
        ("pair", ["ann", "gpt-4o-mini"], "acme", "ann|gpt-4o-mini"),
        ("pair", "ann|gpt-4o-mini", "acme", "ann|gpt-4o-mini"),
        ("team", "search", "acme", "search"),
        ("all", None, None, "deployment"),
        ("acmes", None, None, "acme"),
        ("acmes", "acme", "acme", "acme"),
    ):
        before = await client.used(limit)
        given = {"limit": limit, "value": value, "workspace": workspace}
        answer = await client.reset(**{name: each for name, each in given.items() if each is not None})
        assert answer.status_code == 200, answer.text
        done = answer.json()
        assert list(done) == ["id", "limit", "workspace", "value", "used"]
        assert (done["value"], done["used"]) == (counted, before[counted])
        assert done["workspace"] == (None if limit == "all" else "acme")
        after = await client.used(limit)
        assert after.pop(counted) in NOTHING
        assert after == {name: used for name, used in before.items() if name != counted}, "others keep theirs"
        assert before[counted] not in NOTHING
        await client.call("ann")
        assert (await client.used(limit))[counted] not in NOTHING, "it counts on"
    assert await client.differences() == []


async def test_it_is_a_record_with_negative_amounts_and_an_entry_of_the_audit_log(client: Client) -> None:
    used = (await client.used("tokens"))["ann"]
    await client.reset("acme owner", limit="tokens", value="ann", id="case 7")
    [entry] = await client.adjustments("acme")
    assert [hold.amount for hold in entry.holds] == [-used]
    record = records.decode(entry.record)
    assert (record.kind, record.outcome, record.request_id) == ("adjustment", "reset", "case 7")
    [logged] = [entry.action async for entry in client.governance.audit_log.entries()]
    assert (logged.workspace, logged.actor, logged.action, logged.subject, logged.details["id"]) == (
        "acme",
        "api_token:acme-owner",
        "usage.reset",
        "usage-budget:tokens:ann",
        "case 7",
    )
    report: Any = await client.governance.usage.report()
    assert report["totals"]["requests"] == 3, "what calls used, a reset changes nothing about"


async def test_a_wall_clock_begins_again(client: Client) -> None:
    await asyncio.sleep(1.1)  # it counts whole seconds of the store's own clock
    assert (await client.used("clock"))["anonymous"] >= 1
    done = (await client.reset(limit="clock", value="anonymous", workspace="acme")).json()
    assert done["used"] >= 1
    assert (await client.used("clock"))["anonymous"] == 0


async def test_what_is_sent_again_by_the_same_id_is_done_once(client: Client) -> None:
    first = await client.reset(limit="tokens", value="ann", workspace="acme", key="again")
    await client.call("ann")
    used = await client.used("tokens")
    for again in ({"key": "again"}, {"id": "again"}, {"key": "again", "id": "again"}):
        answer = await client.reset(limit="tokens", value="ann", workspace="acme", **again)
        assert answer.json() == first.json()
    assert await client.used("tokens") == used
    assert len(await client.adjustments("acme")) == 1
    other = await client.reset(limit="tokens", value="bob", workspace="acme", key="again")
    assert other.json()["used"] > 0, "of another counter it is another one"
    fresh = await client.reset(limit="tokens", value="ann", workspace="acme")
    assert (fresh.json()["id"][:4], fresh.json()["used"] > 0) == ("req_", True)


async def test_it_takes_an_owner(client: Client) -> None:
    codes = {}
    for secret in ("wrong", "acme operator", "acme admin", "umbrella owner", "acme owner", ADMIN):
        codes[secret] = (await client.reset(secret, limit="month", value="ann", workspace="acme")).status_code
    assert list(codes.values()) == [401, 403, 403, 403, 200, 200]
    assert (await client.reset("acme owner", limit="all")).status_code == 403, "it is not theirs alone"
    assert (await client.reset("acme owner", limit="acmes")).status_code == 200
    assert (await client.reset("umbrella owner", limit="acmes")).status_code == 400


IMPOSSIBLE: list[tuple[dict[str, Any], int, str]] = [
    ({"limit": "nothing"}, 404, "There is no limit called nothing"),
    ({"limit": "month", "workspace": "acme"}, 400, "month has a counter for each user: name one"),
    ({"limit": "month", "value": "ann"}, 400, "month counts in every workspace: name one"),
    ({"limit": "month", "value": "ann", "workspace": "nowhere"}, 400, "Nothing was ever used in workspace"),
    ({"limit": "ann", "value": "bob", "workspace": "acme"}, 400, "ann counts user 'ann' alone"),
    ({"limit": "pair", "value": ["ann"], "workspace": "acme"}, 400, "user+model has 2 values, not 1"),
    ({"limit": "all", "workspace": "acme"}, 400, "all counts over all workspaces: name none"),
    ({"limit": "acmes", "workspace": "umbrella"}, 400, "acmes binds workspace acme alone"),
    ({"limit": "slots", "value": "x", "workspace": "acme"}, 400, "slots counts calls that are open"),
    ({"value": "ann"}, 400, "limit"),
    ({"limit": 7}, 400, "limit"),
    ({"limit": "month", "user": "ann"}, 400, "user"),
    ({"limit": "month", "id": ""}, 400, "The id has 1 to 128"),
    ({"limit": "month", "id": "x" * 129}, 400, "The id has 1 to 128"),
    ({"limit": "month", "id": "a", "key": "b"}, 400, "not the Idempotency-Key"),
    ({"limit": "x" * 20_000}, 413, "16384 bytes at most"),
]  # fmt: skip


async def test_what_cannot_be_reset_is_said(client: Client) -> None:
    for body, status, said in IMPOSSIBLE:
        answer = await client.reset(**body)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text
    assert await client.adjustments("acme") == []


async def test_without_the_audit_log_nothing_is_reset(
    make_governance: Callable[..., Governance], client: Client, tmp_path: Path
) -> None:
    used = await client.used("month")
    (tmp_path / "none").write_text("no database, but long enough to be taken for one of them" * 20)
    other = make_governance(
        upstream="http://127.0.0.1:1",
        admin_token=ADMIN,
        limits=LIMITS,
        journal_url=f"sqlite:///{tmp_path / 'none'}",
    )
    async with other.store():
        app = Sidecar(other)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gov") as http:
            answer = await Client(other, http).reset(limit="month", value="ann", workspace="acme")
        await app.hang_up()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "journal_unavailable")
    assert await client.used("month") == used


@pytest.mark.parametrize("value", ["ann\0", "an\nn", "\U00020000" * 600, ["ann", "m\x1b"]])
async def test_a_value_that_no_call_can_have_is_refused(client: Client, value: Any) -> None:
    limit = "clock" if isinstance(value, str) else "pair"
    answer = await client.reset(limit=limit, value=value, workspace="acme")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "value")
