"""What a refusal looks like here, that it costs nothing, and where it is written down."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import generate_latest

from govmiddleware.testing import Clock

MINUTE = {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "1/minute"}
TOKENS = {"name": "tpm", "scope": "user", "meter": "total_tokens", "rate": "1000/minute"}
DAY = {"name": "day", "scope": "api_token", "meter": "requests", "window": "day", "hard": 2}
MONTH = {"name": "month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": "0.0006"}
SLOTS = {"name": "slots", "scope": "api_token", "meter": "concurrency", "hard": 1}
ANN = {"x-gov-user": "ann"}


async def standing(governance: Any) -> dict[str, tuple[Any, Any]]:
    """Used and reserved of every counter."""
    limits = (await governance.usage.report())["limits"]
    return {state["name"]: (state["used"], state["reserved"]) for state in limits}


# Shapes -------------------------------------------------------------------------------------------


async def test_a_rate_refuses_with_429_and_says_when_to_come_back(governed, inside, post) -> None:
    governance = await governed(limits=[MINUTE], clock=Clock())
    app = governance.stack(inside)
    assert (await post(app)).status_code == 200
    answer = await post(app)
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert error["limits"][0]["name"] == "minute"
    assert 0 < int(answer.headers["retry-after"]) <= 62
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in answer.headers
    assert answer.headers["x-gov-request-id"].startswith("req_")


async def test_a_rate_lets_pass_again_once_it_has_said_so(governed, inside, post) -> None:
    clock = Clock()
    governance = await governed(limits=[MINUTE], clock=clock)
    app = governance.stack(inside)
    await post(app)
    wait = int((await post(app)).headers["retry-after"])
    clock.advance(wait)
    assert (await post(app)).status_code == 200


async def test_a_rate_on_tokens_speaks_of_tokens(governed, inside, post) -> None:
    governance = await governed(limits=[TOKENS], clamp_min_output_tokens=5000)
    answer = await post(governance.stack(inside), max_tokens=5000)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "tokens"
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert answer.headers["x-should-retry"] == "false", "it is larger than the whole limit"
    assert "retry-after" not in answer.headers


async def test_a_budget_refuses_as_insufficient_quota_not_worth_retrying(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH], clamp_min_output_tokens=155)
    app = governance.stack(inside)
    first = await post(app)
    left = Decimal(first.headers["x-gov-budget-remaining-usd"])
    assert left == Decimal("0.0006") - Decimal(first.headers["x-gov-estimated-cost-usd"])
    answer = await post(app, max_tokens=155)
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    [limit] = error["limits"]
    assert (limit["name"], limit["maximum"]) == ("month", "0.000600000")
    assert Decimal(limit["used"]) + Decimal(limit["requested"]) > Decimal("0.0006")
    assert limit["resets_at"].endswith("Z")


async def test_answers_of_calls_carry_the_estimate_and_no_budget_where_there_is_none(
    governed, inside, post
) -> None:
    governance = await governed()
    answer = await post(governance.stack(inside))
    assert Decimal(answer.headers["x-gov-estimated-cost-usd"]) >= Decimal("0.0002")
    assert "x-gov-budget-remaining-usd" not in answer.headers


async def test_the_tightest_budget_is_the_one_that_is_told(governed, inside, post) -> None:
    wide = MONTH | {"name": "wide", "scope": "user", "hard": 5}
    governance = await governed(limits=[wide, MONTH])
    answer = await post(governance.stack(inside))
    assert Decimal(answer.headers["x-gov-budget-remaining-usd"]) < Decimal("0.0006")


async def test_the_app_cannot_forge_our_headers(governed, post) -> None:
    async def forger(scope: Any, receive: Any, send: Any) -> None:
        ours = [
            b"X-Gov-Request-Id",
            b"x-gov-estimated-cost-usd",
            b"x-gov-warning",
            b"X-Gov-Max-Output-Tokens",
        ]
        headers = [*((name, b"forged") for name in ours), (b"x-app", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    governance = await governed()
    answer = await post(governance.stack(forger))
    assert answer.headers.get_list("x-gov-request-id")[0].startswith("req_")
    assert len(answer.headers.get_list("x-gov-request-id")) == 1
    assert "forged" not in answer.headers.values()
    assert answer.headers["x-app"] == "1"


async def test_a_model_without_a_price_is_refused_by_name(governed, inside, post) -> None:
    governance = await governed()
    answer = await post(governance.stack(inside), model="unheard-of")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_priced", "model")
    assert "'unheard-of'" in error["message"]
    assert inside.reached == 0


# A refusal costs nothing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refused", [{"model": "unheard-of"}, {"content": b"{"}, {"max_tokens": 10**6}, {"messages": None}]
)
async def test_a_refused_request_counts_nowhere(governed, inside, post, refused) -> None:
    governance = await governed(limits=[DAY, SLOTS, TOKENS, MONTH], clamp_min_output_tokens=10**6)
    app = governance.stack(inside)
    assert [(await post(app, **refused)).is_success for _ in range(3)] == [False] * 3
    assert set((await standing(governance)).values()) <= {(0, 0), ("0.000000000", "0.000000000")}
    assert (await post(app)).status_code == 200
    assert inside.reached == 1


async def test_what_the_rate_limit_held_is_given_back_where_the_budget_refuses(
    governed, inside, post
) -> None:
    governance = await governed(limits=[DAY, SLOTS, MONTH | {"hard": 0}])
    app = governance.stack(inside)
    for _ in range(3):
        answer = await post(app)
        assert answer.json()["error"]["code"] == "insufficient_quota", "never the day's 2 requests"
    assert await standing(governance) == {}, "no record holds anything"
    assert inside.reached == 0


async def test_where_a_rate_and_a_budget_fail_in_one_trip_the_budget_answers(governed, inside, post) -> None:
    governance = await governed(limits=[TOKENS | {"rate": "1/minute"}, MONTH | {"hard": 0}])
    answer = await post(governance.stack(inside))
    error = answer.json()["error"]
    assert error["code"] == "insufficient_quota"
    assert [limit["name"] for limit in error["limits"]] == ["month", "tpm"]


async def test_a_refusal_by_the_rate_ends_the_request_there(governed, inside, post) -> None:
    governance = await governed(limits=[MINUTE | {"rate": "1/minute"}, MONTH | {"hard": 0}])
    app = governance.stack(inside)
    codes = [(await post(app)).json()["error"]["code"] for _ in range(2)]
    assert codes == ["insufficient_quota"] * 2, "what the budget refused does not use up the rate"


async def test_a_limit_of_nothing_refuses_everything_and_says_it_never_fits(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH | {"hard": 0}])
    answer = await post(governance.stack(inside))
    assert "can never pass" in answer.json()["error"]["message"]


# Where it is written down -------------------------------------------------------------------------


async def test_refusals_are_journaled_with_what_was_known(governed, inside, post, journal) -> None:
    governance = await governed(limits=[MONTH | {"hard": 0}])
    answer = await post(governance.stack(inside), headers=ANN)
    [record] = await journal(governance)
    assert (record["kind"], record["outcome"], record["status"]) == ("refusal", "insufficient_quota", 429)
    assert record["request_id"] == answer.headers["x-gov-request-id"]
    assert (record["user"], record["model_requested"], record["refused"]) == ("ann", "m", 1)
    assert [(each["limit"], each["decision"]) for each in record["evaluations"]] == [("month", "block")]
    assert record["usage"] is record["cost_usd"] is record["settlement"] is None
    assert record["holds"] == {}


async def test_a_flood_of_refusals_is_summed_up(governed, inside, post, journal) -> None:
    governance = await governed(limits=[MONTH | {"hard": 0}])
    app = governance.stack(inside)
    for _ in range(40):
        await post(app)
    await governance.refusals.flush()
    records = await journal(governance)
    kinds = [record["kind"] for record in records]
    assert kinds.count("refusal") < 40
    assert kinds.count("summary") == 1
    assert sum(record["refused"] for record in records) == 40


async def test_what_was_only_counted_is_written_down_at_the_end(governed, inside, post, journal) -> None:
    governance = await governed(limits=[MONTH | {"hard": 0}])
    app = governance.stack(inside)
    for _ in range(40):
        await post(app)
    assert sum(record["refused"] for record in await journal(governance)) == 40


async def test_strangers_leave_no_record_but_a_count(governed, inside, post, journal) -> None:
    governance = await governed()
    app = governance.stack(inside)
    for secret in (None, "wrong", "gov_wrong"):
        await post(app, secret=secret)
    metrics = generate_latest(governance.metrics.registry).decode()
    assert 'govmiddleware_refusals_total{code="invalid_api_key",limit=""} 3.0' in metrics
    assert 'status="4xx"} 3.0' in metrics
    assert await journal(governance) == []


async def test_metrics_name_the_limit_that_refused_and_no_model_that_clients_invent(
    governed, inside, post
) -> None:
    governance = await governed(limits=[MINUTE])
    app = governance.stack(inside)
    await post(app)
    await post(app)
    await post(app, model="invented")
    metrics = generate_latest(governance.metrics.registry).decode()
    assert 'govmiddleware_refusals_total{code="rate_limit_exceeded",limit="minute"} 2.0' in metrics
    assert "invented" not in metrics


# Links --------------------------------------------------------------------------------------------


async def test_a_refusal_has_a_link_where_somebody_serves_its_page(governed, inside, post) -> None:
    in_app = await governed(limits=[DAY | {"hard": 0}])
    assert (await post(in_app.stack(inside))).json()["error"]["override_url"] is None
    served = await governed(limits=[DAY | {"hard": 0}], public_url="https://gov.example/")
    error = (await post(served.stack(inside), headers=ANN)).json()["error"]
    assert error["override_url"].startswith("https://gov.example/gov/refusals/")
    said = served.links.read(error["override_url"].rpartition("/")[2])
    assert (said.workspace, said.api_token, said.limit, said.value) == ("acme", "ci", "day", "ci")
    assert (said.model, said.on_behalf_of) == ("m", "ann")


async def test_the_sidecars_refusals_have_a_link(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH | {"hard": 0}])
    app = governance.stack(inside, sidecar=True)
    error = (await post(app)).json()["error"]
    said = governance.links.read(error["override_url"].rpartition("/")[2])
    assert (said.limit, said.value, said.model) == ("month", "acme", "m")
    assert said.asked > 0


async def test_a_rate_that_frees_by_itself_has_no_link(governed, inside, post) -> None:
    app = (await governed(limits=[MINUTE])).stack(inside, sidecar=True)
    await post(app)
    assert (await post(app)).json()["error"]["override_url"] is None
