"""The control plane over HTTP: health, readiness, metrics and usage, and who may read them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger.embedded import EmbeddedStore
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
LIMITS = [{"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 5}]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}

Get = Callable[..., Any]


@pytest.fixture
async def sidecar(make_governance, gov_provider) -> AsyncIterator[Sidecar]:
    governance = make_governance(
        upstream=gov_provider[1], admin_token=ADMIN, api_tokens=TOKENS, limits=LIMITS
    )
    async with governance:
        app = Sidecar(governance)
        yield app
        await app.hang_up()


@pytest.fixture
async def get(sidecar) -> AsyncIterator[Get]:
    """`await get(path, secret, **query)`, below /gov."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sidecar), base_url="http://gov/gov/") as http:

        async def send(path: str, secret: str | bytes | None = None, **query: str) -> httpx.Response:
            raw = secret if isinstance(secret, bytes) else (secret or "").encode()
            headers = {} if secret is None else {"authorization": b"Bearer " + raw}
            return await http.get(path, params=query, headers=headers)

        yield send


@pytest.fixture
async def traffic(sidecar) -> None:
    """Two calls of ann and one of bob for acme, one of umbrella, and a refusal."""
    calls = [
        ("acme operator", {"x-gov-user": "ann", "x-gov-tags": "team=search"}, BODY),
        ("acme operator", {"x-gov-user": "ann", "x-gov-tags": "team=ads"}, BODY),
        ("acme admin", {"x-gov-user": "bob/x"}, BODY | {"model": "gpt-4o"}),
        ("umbrella operator", {"x-gov-user": "eve"}, BODY),
        ("acme operator", {"x-gov-user": "ann"}, BODY | {"model": "unpriced"}),
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sidecar), base_url="http://gov") as http:
        for secret, headers, body in calls:
            headers = headers | {"authorization": f"Bearer {secret}"}
            await http.post("/v1/chat/completions", json=body, headers=headers)
    tasks = sidecar.governance.upkeep
    await tasks.stop()  # the refusal's record is written beside its request
    tasks.start()


# Health -------------------------------------------------------------------------------------------


async def test_health_is_whether_the_process_answers(get) -> None:
    answer = await get("healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_is_when_calls_can_be_governed(get) -> None:
    answer = await get("readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "problems": [], "warnings": []})


async def ready(governance: Governance) -> httpx.Response:
    app = Sidecar(governance)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
        answer = await http.get("/gov/readyz")
    await app.hang_up()
    return answer


async def test_a_journal_whose_database_is_away_is_a_warning_and_still_ready(
    gov_store: str, tmp_path: Path
) -> None:
    (tmp_path / "journal").write_text("this is no database, and long enough to be taken for one" * 20)
    governance = Governance(
        Settings(
            redis_url=gov_store,
            upstream="http://127.0.0.1:1",
            journal_url=f"sqlite:///{tmp_path / 'journal'}",
        )
    )
    async with governance:
        await governance.drainer.drain()
        answer = await ready(governance)
    assert (answer.status_code, answer.json()["problems"]) == (200, [])
    [warning] = answer.json()["warnings"]
    assert "not a database" in warning


async def test_a_store_that_is_down_is_not_ready_but_healthy(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/closed.sock"
    answer = await ready(Governance(Settings(redis_url=url, upstream="http://127.0.0.1:1")))
    assert answer.status_code == 503
    [problem] = answer.json()["problems"]
    assert "the store does not answer" in problem


async def test_a_full_journal_is_not_ready(make_governance) -> None:
    governance = make_governance(upstream="http://127.0.0.1:1", journal_max_records=2)
    async with governance.store():  # where nothing drains it
        for _ in range(2):
            await governance.ledger.workspaces()
            await governance.journal.append("acme", b"{}")
        await governance.ledger._workspace("acme")
        answer = await ready(governance)
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["the journal is full: journal_max_records"]


async def test_a_store_that_forgets_budgets_to_save_memory_is_not_ready(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as url:
        with Redis.from_url(url) as redis:
            redis.config_set("maxmemory-policy", "allkeys-lru")
        async with Governance(Settings(redis_url=url, upstream="http://127.0.0.1:1")) as governance:
            answer = await ready(governance)
    assert answer.status_code == 503
    assert "noeviction" in answer.json()["problems"][0]


# Metrics ------------------------------------------------------------------------------------------


async def test_metrics_are_open_without_a_token_of_their_own(get, traffic) -> None:
    answer = await get("metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'govmiddleware_refusals_total{code="model_not_priced",limit=""} 1.0' in answer.text


async def test_metrics_with_a_token_take_it_and_nothing_else(make_governance) -> None:
    governance = make_governance(upstream="http://127.0.0.1:1", metrics_token="größer", admin_token=ADMIN)
    app = Sidecar(governance)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
        for wrong in (None, b"", b"wrong", ADMIN.encode(), b"\xff\xfe", "gr\u00f6\u00df".encode()):
            headers = {} if wrong is None else {"authorization": b"Bearer " + wrong}
            assert (await http.get("/gov/metrics", headers=headers)).status_code == 401, wrong
        headers = {"authorization": "Bearer größer".encode()}
        assert (await http.get("/gov/metrics", headers=headers)).status_code == 200
    await app.hang_up()


# Who may read usage -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["api/v1/usage", "api/v1/usage/users", "api/v1/usage/users/ann"])
async def test_usage_is_for_owners_and_admins(get, traffic, path) -> None:
    codes = {}
    for secret in (None, "wrong", b"\xff\xfe", "acme operator", "acme admin", "acme owner", ADMIN):
        answer = await get(path, secret)
        codes[secret] = answer.status_code
        if not answer.is_success:
            assert set(answer.json()["error"]) >= {"message", "code"}
    assert list(codes.values()) == [401, 401, 401, 403, 200, 200, 200]


async def test_a_workspaces_admin_reads_its_own_workspace_and_the_admin_token_all(get, traffic) -> None:
    own = (await get("api/v1/usage", "umbrella admin", by="user")).json()
    assert [group["id"] for group in own["groups"]] == ["eve"]
    assert {limit["value"] for limit in own["limits"]} == {"eve"}
    everything = (await get("api/v1/usage", ADMIN, by="workspace")).json()
    assert {group["id"]: group["requests"] for group in everything["groups"]} == {"acme": 3, "umbrella": 1}


async def test_a_stored_token_reads_nothing_yet(get, sidecar) -> None:
    secret = ids.new_api_token()
    token = StoredApiToken(ids.new_api_token_id(), "boss", "acme", "owner", 1)
    await sidecar.governance.api_token_store.add(token, ids.hash_api_token(secret))
    answer = await get("api/v1/usage", secret)
    assert answer.status_code == 403
    assert "admin token" in answer.json()["error"]["message"]


async def test_the_admin_token_makes_no_model_calls(sidecar) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sidecar), base_url="http://gov") as http:
        answer = await http.post(
            "/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {ADMIN}"}
        )
    assert answer.status_code == 401


# What usage says ----------------------------------------------------------------------------------


async def test_usage_has_the_contracts_shape(get, traffic) -> None:
    usage = (await get("api/v1/usage", ADMIN, by="model")).json()
    assert list(usage) == ["since", "until", "by", "totals", "groups", "limits"]
    assert (usage["since"], usage["until"], usage["by"]) == (None, None, "model")
    counted = ["requests", "refused", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]
    counted += ["total_tokens", "cost_usd", "reserved_usd", "debt_usd"]
    assert list(usage["totals"]) == counted
    assert list(usage["groups"][0]) == ["id", *counted]
    assert set(usage["limits"][0]) == {
        "name",
        "value",
        "used",
        "reserved",
        "hard",
        "remaining",
        "resets_at",
    }
    assert (usage["totals"]["requests"], usage["totals"]["refused"]) == (4, 1)
    costs = [Decimal(group["cost_usd"]) for group in usage["groups"]]
    assert costs == sorted(costs, reverse=True)
    assert sum(costs) == Decimal(usage["totals"]["cost_usd"]) > 0


@pytest.mark.parametrize(
    ("dimension", "names"),
    [
        ("models", ["gpt-4o", "gpt-4o-mini", "unpriced"]),
        ("providers", ["default"]),
        ("agents", ["anonymous"]),
        ("users", ["ann", "bob/x", "eve"]),
        ("sessions", ["anonymous"]),
        ("api_tokens", ["acme-admin", "acme-operator", "umbrella-operator"]),
    ],
)
async def test_usage_by_every_dimension(get, traffic, dimension, names) -> None:
    usage = (await get(f"api/v1/usage/{dimension}", ADMIN)).json()
    assert sorted(group["id"] for group in usage["groups"]) == names
    one = (await get(f"api/v1/usage/{dimension}/{names[0]}", ADMIN)).json()
    assert [group["id"] for group in one["groups"]] == [names[0]]


async def test_an_id_may_hold_anything_and_may_be_unknown(get, traffic) -> None:
    slashed = (await get("api/v1/usage/users/bob%2Fx", ADMIN)).json()
    assert [group["id"] for group in slashed["groups"]] == ["bob/x"]
    nobody = await get("api/v1/usage/users/nobody", ADMIN)
    assert (nobody.status_code, nobody.json()["groups"]) == (200, [])


async def test_usage_by_a_tag(get, traffic) -> None:
    usage = (await get("api/v1/usage", ADMIN, by="tag:team")).json()
    assert {group["id"]: group["requests"] for group in usage["groups"]} == {"search": 1, "ads": 1}


async def test_usage_of_a_time(get, traffic) -> None:
    recent = (await get("api/v1/usage", ADMIN, since="1h")).json()
    assert recent["totals"]["requests"] == 4
    assert recent["since"].endswith("Z")
    assert (await get("api/v1/usage", ADMIN, until="1h")).json()["totals"]["requests"] == 0
    assert (await get("api/v1/usage", ADMIN, since="2024-01-01T00:00:00+02:00")).json()[
        "since"
    ] == "2023-12-31T22:00:00Z"


@pytest.mark.parametrize(
    "query",
    [
        {"by": "colour"},
        {"by": "tag:"},
        {"by": ""},
        {"since": "yesterday"},
        {"since": ""},
        {"until": "2026-13-01"},
        {"since": "999999w"},
        {"since": "0001-01-01T00:00:00+23:00"},
        {"until": "9999-12-31T23:59:59-23:00"},
        {"sinse": "1h"},
    ],
    ids=json.dumps,
)
async def test_a_query_that_means_nothing_is_a_400_that_names_it(get, query) -> None:
    answer = await get("api/v1/usage", ADMIN, **query)
    assert answer.status_code == 400
    [value] = query.values()
    [name] = query
    message = answer.json()["error"]["message"]
    assert value in message or name in message


async def test_a_dimension_that_is_none_is_a_400_that_lists_them(get) -> None:
    answer = await get("api/v1/usage/colours", ADMIN)
    assert answer.status_code == 400
    assert "api_tokens" in answer.json()["error"]["message"]


async def test_usage_without_a_store_is_a_503(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/closed.sock"
    governance = Governance(Settings(redis_url=url, upstream="http://127.0.0.1:1", admin_token=ADMIN))
    async with governance:
        app = Sidecar(governance)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gov") as http:
            answer = await http.get("/gov/api/v1/usage", headers={"authorization": f"Bearer {ADMIN}"})
        await app.hang_up()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "sock" not in answer.text


# The timeline -------------------------------------------------------------------------------------


async def test_a_timeline_has_its_shape_and_adds_up(get, traffic) -> None:
    timeline = (await get("api/v1/usage/timeline", ADMIN, bucket="hour", by="user")).json()
    assert list(timeline) == ["since", "until", "bucket", "timezone", "by", "buckets"]
    assert (timeline["bucket"], timeline["timezone"], timeline["by"]) == ("hour", "UTC", "user")
    assert len(timeline["buckets"]) == 24
    assert list(timeline["buckets"][0]) == ["start", "end", "totals", "groups"]
    assert timeline["buckets"][0]["totals"]["requests"] == 0
    starts, ends = ([bucket[name] for bucket in timeline["buckets"]] for name in ("start", "end"))
    assert (timeline["since"], *ends) == (*starts, timeline["until"])
    usage = (await get("api/v1/usage", ADMIN, by="user")).json()
    assert sum(bucket["totals"]["requests"] for bucket in timeline["buckets"]) == 4
    groups = {group["id"] for bucket in timeline["buckets"] for group in bucket["groups"]}
    assert groups == {group["id"] for group in usage["groups"]}


async def test_a_timeline_is_by_default_of_the_last_30_days(get, traffic) -> None:
    timeline = (await get("api/v1/usage/timeline", "acme owner", timezone="Europe/Berlin")).json()
    assert (timeline["bucket"], len(timeline["buckets"])) == ("day", 30)
    assert timeline["buckets"][-1]["totals"]["requests"] == 3, "of the workspace alone"
    assert timeline["buckets"][-1]["groups"] == []
    assert (await get("api/v1/usage/timeline", "acme operator")).status_code == 403


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"bucket": "week"}, "There is no bucket='week'; there are minute, hour, day, month"),
        ({"timezone": "Mars"}, "timezone = 'Mars': expected the name of an IANA time zone"),
        ({"by": "colour"}, "There is no by='colour'"),
        ({"since": "yesterday"}, "yesterday"),
        ({"bucket": "minute", "since": "90d"}, "expected 2500 buckets at most"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "expected until to be after since"),
        ({"bukket": "day"}, "There is no parameter 'bukket'; there are bucket, by, since, timezone, until"),
    ],
    ids=json.dumps,
)
async def test_a_timeline_that_cannot_be_is_a_400(get, query, said) -> None:
    answer = await get("api/v1/usage/timeline", ADMIN, **query)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


# Where it lies ------------------------------------------------------------------------------------


async def test_the_prefix_can_be_another_one(make_governance, gov_provider) -> None:
    governance = make_governance(upstream=gov_provider[1], control_prefix="/-/govern")
    async with governance:
        app = Sidecar(governance)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gov") as http:
            assert (await http.get("/-/govern/healthz")).status_code == 200
            assert (await http.get("/gov/healthz")).status_code == 401, "governed like all else"
            assert (await http.get("/-/governance")).status_code == 401
        await app.hang_up()
