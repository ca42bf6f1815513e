"""Limits over HTTP: read, created, replaced and deleted, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.ledger.keys import LIMITS
from govmiddleware.settings import Settings
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
CONFIGURED = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 5}
MINUTE = {"scope": "user", "meter": "requests", "rate": "60/minute"}
ACMES = {**MINUTE, "workspace": "acme"}

Send = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def send(make_governance) -> AsyncIterator[Send]:
    """`await send(method, path, json=…, secret=…)`, below /gov/api/v1; by the admin unless said."""
    governance = make_governance(
        upstream="http://127.0.0.1:1", admin_token=ADMIN, api_tokens=TOKENS, limits=[CONFIGURED]
    )
    async with governance:
        app = Sidecar(governance)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gov/gov/api/v1/") as http:

            async def to_sidecar(
                method: str, path: str, secret: str | None = ADMIN, **options: Any
            ) -> httpx.Response:
                headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
                return await http.request(method, path, headers=headers, **options)

            yield to_sidecar
        await app.hang_up()


async def names(send: Send, secret: str = ADMIN) -> list[str]:
    return [limit["name"] for limit in (await send("GET", "limits", secret)).json()["limits"]]


async def test_limits_are_json_in_the_names_of_the_file(send: Send) -> None:
    period = {
        "scope": ["user", "model"],
        "value": ["ann", "m"],
        "meter": "cost_usd",
        "window": "30d",
        "anchor": "2026-01-01",
        "timezone": "Europe/Berlin",
        "hard": 2.5,
        "soft": "2",
        "mode": "dry_run",
    }
    created = await send("PUT", "limits/a", json=period)
    shown = {
        **period,
        "name": "a",
        "scope": "user+model",
        "hard": "2.500000000",
        "soft": "2.000000000",
        "default": False,
        "approvals_required": 1,
        "source": "store",
    }
    assert (created.status_code, created.json()) == (201, shown)
    assert (await send("GET", "limits/a")).json() == shown
    month = {
        **CONFIGURED,
        "hard": "5.000000000",
        "default": False,
        "mode": "enforced",
        "approvals_required": 1,
        "source": "file",
    }
    assert (await send("GET", "limits")).json() == {"limits": [month, shown]}
    again = {name: value for name, value in shown.items() if name != "source"}
    replaced = await send("PUT", "limits/a", json=again)
    assert (replaced.status_code, replaced.json()) == (200, shown)


async def test_a_limit_is_deleted_once(send: Send) -> None:
    await send("PUT", "limits/a", json=MINUTE)
    answers = [await send("DELETE", "limits/a") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 404]
    assert answers[1].json()["error"]["code"] == "limit_not_found"
    assert (await send("GET", "limits/a")).status_code == 404


async def test_limits_of_the_file_are_a_conflict(send: Send) -> None:
    for method, body in (("PUT", MINUTE), ("DELETE", None)):
        answer = await send(method, "limits/month", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "limit_is_configured")
    assert (await send("GET", "limits/month")).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b"", None, "The body is a limit as a JSON object"),
        (b"[]", None, "The body is a limit as a JSON object"),
        (b'{"hard": NaN}', None, "The body is a limit as a JSON object"),
        pytest.param(b"\xff", None, "The body is a limit as a JSON object", id="no text"),
        pytest.param(b'{"hard":' + b"[" * 60_000, None, "The body is a limit as a JSON object", id="deep"),
        (b'{"scope":"user","meter":"requests","window":"day","hard":"1e400"}', "hard", "a number less than"),
        (b"{}", "scope", "scope = None: expected a value; it is required"),
        (b'{"name": "b"}', "name", "The limit is called a in the path."),
        (b'{"scope":"user","meter":"requests","rate":"often"}', "rate", "rate = 'often': expected a whole number"),
        (b'{"scope":"user","meter":"requests"}', "limit", "expected either rate, or window together with hard"),
        (b'{"scope":"user","meter":"requests","rate":"1/day","colour":1}', "colour", "a setting that exists"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_limit_is_a_400_that_says_why(
    send: Send, body: bytes, param: str | None, said: str
) -> None:
    answer = await send("PUT", "limits/a", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["error"]["message"]
    assert await names(send) == ["month"]


async def test_a_body_that_is_too_large_is_a_413(send: Send) -> None:
    assert (await send("PUT", "limits/a", content=b" " * 100_000)).status_code == 413


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "limits"), ("GET", "limits/month"), ("PUT", "limits/a")]
)
async def test_limits_are_for_owners_and_admins(send: Send, method: str, path: str) -> None:
    body = ACMES if method == "PUT" else None
    codes = [
        (await send(method, path, secret, json=body)).status_code
        for secret in (None, "wrong", "acme operator")
    ]
    assert codes == [401, 401, 403]


@pytest.mark.parametrize("role", ["owner", "admin"])
async def test_a_workspaces_admin_has_the_limits_of_its_own_workspace(send: Send, role: str) -> None:
    acme, umbrella = f"acme {role}", f"umbrella {role}"
    assert (await send("PUT", "limits/own", acme, json=ACMES)).status_code == 201
    await send("PUT", "limits/all", json=MINUTE)
    assert (await names(send, acme), await names(send, umbrella)) == (["own"], [])
    assert await names(send) == ["month", "all", "own"]
    assert (await send("GET", "limits/own", acme)).status_code == 200
    for secret, method, path, body in (
        (acme, "GET", "limits/all", None),
        (acme, "GET", "limits/month", None),
        (acme, "DELETE", "limits/all", None),
        (acme, "DELETE", "limits/month", None),
        (acme, "PUT", "limits/all", ACMES),
        (acme, "PUT", "limits/new", MINUTE),
        (acme, "PUT", "limits/own", {**MINUTE, "workspace": "umbrella"}),
        (umbrella, "GET", "limits/own", None),
        (umbrella, "DELETE", "limits/own", None),
        (umbrella, "PUT", "limits/own", {**MINUTE, "workspace": "umbrella"}),
    ):
        answer = await send(method, path, secret, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (
            secret,
            method,
            path,
        )
    assert (await send("DELETE", "limits/own", acme)).status_code == 204


async def test_a_limit_that_cannot_be_read_is_nobodys_but_the_admins(send: Send, gov_store: str) -> None:
    with Redis.from_url(gov_store) as redis:
        redis.hset(LIMITS, "newer", b'{"name":"newer","workspace":"umbrella","colour":1}')
    assert (await send("PUT", "limits/newer", "acme owner", json=ACMES)).status_code == 403
    assert (await send("DELETE", "limits/newer", "acme owner")).status_code == 403
    assert (await send("DELETE", "limits/newer")).status_code == 204


async def test_a_limit_whose_change_the_audit_log_cannot_take_stays_as_it_was(
    make_governance, tmp_path: Path
) -> None:
    governance = make_governance(
        upstream="http://127.0.0.1:1", admin_token=ADMIN, journal_url=f"sqlite:///{tmp_path}"
    )
    async with governance:
        app = Sidecar(governance)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gov/gov/api/v1/") as http:
            headers = {"authorization": f"Bearer {ADMIN}"}
            answer = await http.put("limits/a", json=MINUTE, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "journal_unavailable")
            assert (await http.get("limits/a", headers=headers)).status_code == 404
        await app.hang_up()


async def test_limits_without_a_store_are_a_503(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/closed.sock"
    app = Sidecar(Governance(Settings(redis_url=url, upstream="http://127.0.0.1:1", admin_token=ADMIN)))
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gov") as http:
        for method, path in (("GET", "limits"), ("PUT", "limits/a"), ("DELETE", "limits/a")):
            answer = await http.request(method, f"/gov/api/v1/{path}", json=MINUTE, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert "sock" not in answer.text
    await app.hang_up()
