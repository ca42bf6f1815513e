"""Limits over the whole deployment lie in another slot: taken first, given back on a refusal, settled last."""

from __future__ import annotations

from typing import Any

import pytest

from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.core.windows import Now
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.services.audit import audit
from govmiddleware.settings_fields import check_workspace

ALL = {"name": "all", "scope": "deployment", "meter": "cost_usd", "window": "month", "hard": "0.002"}
CALLS = {"name": "calls", "scope": "deployment", "meter": "requests", "window": "day", "hard": 3}
OWN = {"name": "own", "scope": "user", "meter": "output_tokens", "window": "day", "hard": 120}
TWO = [
    {"name": name, "workspace": name, "sha256": hash_api_token(f"secret of {name}")}
    for name in ("acme", "zoo")
]


async def held(governance: Any) -> dict[str, Any]:
    """Reserved amounts of the deployment's counters."""
    found = {}
    async for key in governance.storage.redis.scan_iter(
        WorkspaceKeys(DEPLOYMENT_WORKSPACE).counter_prefix + "*"
    ):
        fields = await governance.storage.redis.hgetall(key)
        found[key.decode().split(":c:")[1]] = sum(
            int(value) for name, value in fields.items() if name.startswith(b"r") and len(name) > 1
        )
    return found


async def test_all_workspaces_count_together(governed, inside, post) -> None:
    governance = await governed(limits=[CALLS], api_tokens=TWO)
    app = governance.stack(inside)
    codes = [
        (await post(app, secret=f"secret of {name}")).status_code
        for name in ("acme", "zoo", "acme", "zoo", "acme")
    ]
    assert codes == [200, 200, 200, 429, 429]
    refused = await post(app, secret="secret of zoo")
    [limit] = refused.json()["error"]["limits"]
    assert (limit["name"], limit["scope"], limit["value"], limit["used"]) == (
        "calls",
        "deployment",
        "deployment",
        3,
    )


async def test_what_the_workspace_refuses_is_given_back_to_the_deployment(governed, inside, post) -> None:
    governance = await governed(limits=[ALL, CALLS, OWN], clamp_min_output_tokens=1000)
    app = governance.stack(inside)
    for _ in range(5):
        assert (await post(app, max_tokens=121)).status_code == 429
    assert set((await held(governance)).values()) <= {0}
    assert (await post(app, max_tokens=100)).status_code == 200
    await governance.close()
    async with governance.store():
        findings = await audit(governance.journal)
        assert findings.ok, findings.shown()
        assert findings.checked > 0


async def test_what_the_deployment_refuses_is_given_back_to_the_workspace(governed, inside, post) -> None:
    slots = {"name": "slots", "scope": "workspace", "meter": "concurrency", "hard": 1}
    governance = await governed(limits=[ALL | {"hard": 0}, slots])
    app = governance.stack(inside)
    answers = [await post(app) for _ in range(3)]
    assert [[each["name"] for each in answer.json()["error"]["limits"]] for answer in answers] == [
        ["all"]
    ] * 3


async def test_a_clamp_is_the_tighter_of_both(governed, inside, post) -> None:
    governance = await governed(limits=[ALL, OWN])
    answer = await post(governance.stack(inside), max_tokens=900)
    assert answer.headers["x-gov-max-output-tokens"] == "120"
    governance = await governed(limits=[ALL | {"meter": "output_tokens", "hard": 90}, OWN])
    answer = await post(governance.stack(inside), max_tokens=900)
    assert answer.headers["x-gov-max-output-tokens"] == "90"


async def test_a_pair_with_the_deployment_counts_each_value_over_all_workspaces(
    governed, inside, post
) -> None:
    pair = CALLS | {"scope": ["deployment", "user"], "hard": 1}
    governance = await governed(limits=[pair], api_tokens=TWO)
    app = governance.stack(inside)

    async def call(workspace: str, user: str) -> int:
        return (await post(app, secret=f"secret of {workspace}", headers={"x-gov-user": user})).status_code

    assert [await call("acme", "ann"), await call("zoo", "ann"), await call("zoo", "bob")] == [200, 429, 200]


async def test_its_records_carry_holds_alone_and_reports_leave_them_out(
    governed, inside, post, journal
) -> None:
    governance = await governed(limits=[ALL, CALLS])
    app = governance.stack(inside)
    await post(app)
    report = await governance.usage.report(by="workspace")
    assert report["totals"]["requests"] == 1
    assert [group["id"] for group in report["groups"]] == ["acme"]
    assert {state["name"] for state in report["limits"]} == {"all", "calls"}
    [own] = await journal(governance)
    [wide] = await journal(governance, DEPLOYMENT_WORKSPACE)
    assert wide["request_id"] == own["request_id"]
    assert set(wide["holds"]) == {
        "deployment:cost_usd:month:deployment",
        "deployment:requests:day:deployment",
    }
    assert wide["usage"] is None
    assert own["holds"] == {}


def test_no_workspace_can_have_the_deployments_name() -> None:
    with pytest.raises(ValueError, match="workspace name"):
        check_workspace(DEPLOYMENT_WORKSPACE)


def test_concurrency_over_the_deployment_is_known_before_the_body() -> None:
    assert Limit("slots", "deployment", Meter.CONCURRENCY, Now(), 3).known_from_headers
