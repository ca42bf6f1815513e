"""A small call is admitted in one trip to the store; what its headers tell still refuses it before its body does."""

from __future__ import annotations

import pytest
from redis import Redis
from tests.middleware.test_authenticate import stored_token
from tests.middleware.test_refusals import standing

from govmiddleware.testing import Clock

MINUTE = {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "2/minute"}
SPENT = {"name": "spent", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0}
LARGE = [{"role": "user", "content": "word " * 10_000}]
BAD = b'{"model": '


@pytest.mark.parametrize(("fields", "trips"), [({}, 2), ({"messages": LARGE}, 3)], ids=["small", "large"])
async def test_a_large_body_is_not_read_before_the_rate_has_let_it_pass(
    governed, inside, post, gov_store, fields, trips
) -> None:
    governance = await governed(limits=[MINUTE])
    app = governance.stack(inside)
    await post(app)  # the first of a workspace begins its epoch
    with Redis.from_url(gov_store) as redis:
        redis.config_resetstat()
        assert (await post(app, **fields)).status_code == 200
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == trips
    assert (await standing(governance))["minute"] == (2, 0)


async def test_a_bad_request_past_its_rate_is_refused_by_the_rate(governed, inside, post) -> None:
    governance = await governed(limits=[MINUTE], clock=Clock())
    app = governance.stack(inside)
    assert (await post(app, content=BAD)).status_code == 400
    assert [(await post(app)).status_code for _ in range(2)] == [200, 200], "the bad one consumed nothing"
    answer = await post(app, content=BAD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await standing(governance))["minute"] == (2, 0)


async def test_a_bad_request_of_a_revoked_token_is_a_401(governed, inside, post) -> None:
    governance = await governed()
    app = governance.stack(inside)
    secret, token = await stored_token(governance)
    assert (await post(app, secret=secret, content=BAD)).status_code == 400
    await governance.api_token_store.revoke(token)
    assert (await post(app, secret=secret, content=BAD)).status_code == 401


async def test_where_a_rate_and_a_budget_both_refuse_a_small_call_the_budget_answers(
    governed, inside, post
) -> None:
    governance = await governed(limits=[MINUTE | {"rate": "1/minute"}, SPENT | {"mode": "dry_run"}])
    app = governance.stack(inside)
    assert (await post(app)).status_code == 200
    governance = await governed(limits=[MINUTE | {"rate": "1/minute"}, SPENT])
    answer = await post(governance.stack(inside))
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert [limit["name"] for limit in answer.json()["error"]["limits"]] == ["spent", "minute"]
