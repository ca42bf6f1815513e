"""Limits that change while calls run: each call sees what is in force, and nothing of its use is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.middleware.conftest import Inside

from govmiddleware.services.audit import audit
from govmiddleware.services.limits import LimitRegistry

THREE = {"name": "three", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 3}
TOKENS = {"name": "tokens", "scope": "user", "meter": "output_tokens", "window": "day", "hard": 10_000}
SLOT = {"name": "slot", "scope": "api_token", "meter": "concurrency", "hard": 5}

Change = Callable[[LimitRegistry], Awaitable[object]]


class Changing:
    """The app inside, before whose answer the limits change."""

    def __init__(self, inside: Inside, limits: LimitRegistry, change: Change) -> None:
        self.inside = inside
        self.limits = limits
        self.change = change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.change(self.limits)
        await self.inside(scope, receive, send)


async def states(governance: Any) -> dict[str, tuple[object, object]]:
    found = await governance.usage.limit_states()
    return {state["name"]: (state["used"], state["reserved"]) for state in found}


async def test_a_stored_limit_binds_the_next_call_and_no_more_when_it_is_deleted(
    governed, inside, post
) -> None:
    governance = await governed()
    app = governance.stack(inside)
    assert (await post(app)).status_code == 200
    await governance.limits.put({**THREE, "hard": 0})
    refused = await post(app)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    await governance.limits.delete("three")
    assert (await post(app)).status_code == 200


async def test_usage_is_found_again_when_a_limit_is_edited_or_deleted_and_made_anew(
    governed, inside, post
) -> None:
    governance = await governed()
    app = governance.stack(inside)
    await governance.limits.put(THREE)
    codes = [(await post(app)).status_code for _ in range(2)]
    await governance.limits.put({**THREE, "hard": 2})
    codes.append((await post(app)).status_code)
    await governance.limits.delete("three")
    await governance.limits.put({**THREE, "name": "other"})
    codes += [(await post(app)).status_code for _ in range(2)]
    assert codes == [200, 200, 429, 200, 429]
    assert await states(governance) == {"other": (3, 0)}


async def replaced(limits: LimitRegistry) -> None:
    for limit in (THREE, TOKENS, SLOT):
        await limits.put({**limit, "hard": 1})


async def deleted(limits: LimitRegistry) -> None:
    for limit in (THREE, TOKENS, SLOT):
        await limits.delete(str(limit["name"]))


async def renewed(limits: LimitRegistry) -> None:
    await deleted(limits)
    for limit in (THREE, TOKENS, SLOT):
        await limits.put(limit)


@pytest.mark.parametrize("change", [replaced, deleted, renewed])
async def test_what_a_call_holds_is_settled_though_its_limits_change(
    governed, inside, post, change: Change
) -> None:
    governance = await governed()
    await renewed(governance.limits)
    app = governance.stack(Changing(inside, governance.limits, change))
    assert (await post(app)).status_code == 200
    await renewed(governance.limits)
    assert await states(governance) == {"three": (1, 0), "tokens": (9, 0), "slot": (0, 0)}
    assert (await audit(governance.journal)).ok


async def test_a_limit_that_comes_while_a_call_runs_does_not_count_it(governed, inside, post) -> None:
    governance = await governed()
    app = governance.stack(Changing(inside, governance.limits, renewed))
    assert (await post(app)).status_code == 200
    assert await states(governance) == {}
    assert (await post(app)).status_code == 200
    assert (await states(governance))["three"] == (1, 0)
    assert (await audit(governance.journal)).ok


async def test_a_limit_of_one_workspace_binds_it_alone(governed, inside, post) -> None:
    governance = await governed()
    app = governance.stack(inside)
    await governance.limits.put({**THREE, "hard": 0, "workspace": "umbrella"})
    assert (await post(app)).status_code == 200, "of acme"
    await governance.limits.put({**THREE, "hard": 0, "workspace": "acme"})
    assert (await post(app)).status_code == 429


async def test_the_states_of_a_workspace_are_those_of_the_limits_that_bind_there(
    governed, inside, post
) -> None:
    governance = await governed()
    app = governance.stack(inside)
    user = {"scope": "user", "meter": "requests", "window": "day"}
    for name, fields in {
        "all": {**user, "hard": 9},
        "ours": {**user, "hard": 8, "workspace": "acme"},
        "theirs": {**user, "hard": 7, "workspace": "umbrella"},
        "ann": {**user, "hard": 6, "value": "ann"},
        "others": {**user, "hard": 5, "default": True},
        "rehearsed": {**user, "hard": 4, "mode": "dry_run"},
    }.items():
        await governance.limits.put({**fields, "name": name})
    for name in ("ann", "bob"):
        assert (await post(app, headers={"x-gov-user": name})).status_code == 200
    found = [(state["name"], state["value"]) for state in await governance.usage.limit_states()]
    assert found == [
        ("all", "ann"),
        ("all", "bob"),
        ("ann", "ann"),
        ("others", "bob"),
        ("ours", "ann"),
        ("ours", "bob"),
        ("rehearsed", "ann"),
        ("rehearsed", "bob"),
    ]
