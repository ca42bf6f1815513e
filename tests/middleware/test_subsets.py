"""Each part of the stack that DESIGN promises to work by itself does, built by hand from a Governance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette

from govmiddleware.app import Governance
from govmiddleware.core.call import Call, Principal, Settlement
from govmiddleware.errors import ConfigurationError, MissingPredecessor
from govmiddleware.middleware import Authenticate, Budget, Estimate, Meter, RateLimit

ROBOT = Principal("acme", "robot")
BUDGET = {"name": "month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 10}
USED_USD = Decimal("0.000020")
"""What the scripted answer of 9 words to a prompt of 2 words costs: 2 at 1 USD a million, 9 at 2."""


def authenticate(app: Any, governance: Governance, **options: Any) -> Authenticate:
    return Authenticate(
        app, api_tokens=governance.api_tokens, reservations=governance.reservations, **options
    )


def robot(scope: Any) -> Principal:
    return ROBOT


# Authenticate -------------------------------------------------------------------------------------


async def test_authenticate_alone_names_the_caller_and_journals_its_request(
    governed, inside, post, journal
) -> None:
    governance = await governed()
    answer = await post(authenticate(inside, governance))
    assert answer.status_code == 200
    assert inside.calls[0].principal.api_token == "ci"
    [record] = await journal(governance)
    assert (record["kind"], record["api_token"], record["outcome"]) == ("outcome", "ci", "answered")
    assert record["request_id"] == answer.headers["x-gov-request-id"]


async def test_authenticate_alone_keeps_strangers_out_of_every_route(governed, inside, post) -> None:
    governance = await governed()
    app = authenticate(inside, governance)
    for path in ("/v1/chat/completions", "/v1/models", "/anything"):
        answer = await post(app, secret=None, path=path)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert inside.reached == 0


async def test_authenticate_covers_only_the_paths_it_is_given(governed, inside, post) -> None:
    governance = await governed()
    app = authenticate(inside, governance, paths=["/v1/*"])
    assert (await post(app, secret=None, path="/v1/models")).status_code == 401
    public = await post(app, secret=None, path="/public")
    assert public.status_code == 404, "the app's own answer"
    assert "x-gov-request-id" not in public.headers


async def test_what_authenticate_leaves_out_passes_everything_inside_it(governed, inside, post) -> None:
    governance = await governed(limits=[BUDGET])
    reservations, limits = governance.reservations, governance.limits
    app = RateLimit(Meter(inside), reservations=reservations, limits=limits)
    app = authenticate(app, governance, paths=["/governed/*"])
    assert (await post(app, secret=None)).status_code == 200
    assert inside.calls[0].reservation is None


async def test_paths_in_one_string_are_a_mistake_that_is_told(governed, inside) -> None:
    governance = await governed()
    with pytest.raises(ConfigurationError, match="a list of shell patterns"):
        authenticate(inside, governance, paths="/v1/*")


# Authenticate + RateLimit -------------------------------------------------------------------------


async def test_authenticate_and_rate_limit_hold_a_rate_without_reading_bodies(governed, inside, post) -> None:
    limit = {"name": "two", "scope": "api_token", "meter": "requests", "rate": "2/minute"}
    governance = await governed(limits=[limit])
    app = RateLimit(inside, reservations=governance.reservations, limits=governance.limits)
    app = authenticate(app, governance, opens=False)
    codes = [(await post(app, content=b"not even JSON")).status_code for _ in range(3)]
    assert codes == [400, 400, 429], "400 is the app's answer"
    assert inside.reached == 2


async def test_rate_limit_asks_a_callable_where_nobody_authenticates(governed, inside, post) -> None:
    limit = {"name": "one", "scope": "api_token", "meter": "requests", "rate": "1/minute"}
    governance = await governed(limits=[limit])
    app = RateLimit(inside, reservations=governance.reservations, limits=governance.limits, principal=robot)
    assert [(await post(app, secret=None)).status_code for _ in range(2)] == [200, 429]


# Estimate + Meter ---------------------------------------------------------------------------------


async def test_estimate_and_meter_measure_a_call_without_any_store(governed, inside, post) -> None:
    governance = await governed()
    answer = await post(Estimate(Meter(inside), prices=governance.prices), secret=None)
    assert answer.status_code == 200
    [call] = inside.calls
    assert call.model == "m"
    assert call.usage.output_tokens == answer.json()["usage"]["completion_tokens"] == 9
    assert call.bound.input_tokens >= call.usage.input_tokens
    assert call.bound.output_tokens == 100


async def test_meter_asks_a_stream_for_its_usage_and_hides_that_it_did(governed, inside, post) -> None:
    governance = await governed()
    answer = await post(Estimate(Meter(inside), prices=governance.prices), stream=True)
    assert b"usage" not in answer.content
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert inside.provider.exchanges[0].body["stream_options"] == {"include_usage": True}
    assert inside.calls[0].usage.output_tokens == 9


# Estimate + Budget --------------------------------------------------------------------------------


async def budgeted(governance: Governance, inside: Any, *, meter: bool) -> Any:
    app = Meter(inside) if meter else inside
    app = Budget(app, reservations=governance.reservations, limits=governance.limits, principal=robot)
    return Estimate(app, prices=governance.prices)


async def test_estimate_and_budget_settle_as_reserved_without_a_meter(
    governed, inside, post, journal
) -> None:
    governance = await governed(limits=[BUDGET])
    answer = await post(await budgeted(governance, inside, meter=False), secret=None)
    [record] = await journal(governance)
    assert record["settlement"] == Settlement.ESTIMATED
    assert record["cost_usd"] == record["bound"]["cost_usd"] == answer.headers["x-gov-estimated-cost-usd"]
    assert sum(record["holds"].values()) == Decimal(record["cost_usd"]) * 10**9


async def test_estimate_budget_and_meter_settle_what_was_used(governed, inside, post, journal) -> None:
    governance = await governed(limits=[BUDGET])
    answer = await post(await budgeted(governance, inside, meter=True), secret=None)
    [record] = await journal(governance)
    assert record["settlement"] == Settlement.EXACT
    assert Decimal(record["cost_usd"]) == USED_USD < Decimal(answer.headers["x-gov-estimated-cost-usd"])


async def test_the_callables_principal_brings_its_pins(governed, inside, post) -> None:
    per_user = {"name": "u", "scope": "user", "meter": "requests", "window": "day", "hard": 1, "value": "ann"}
    governance = await governed(limits=[per_user])

    def ann(scope: Any) -> Principal:
        return Principal("acme", "robot", user="ann", tags=(("team", "x"),))

    app = Budget(inside, reservations=governance.reservations, limits=governance.limits, principal=ann)
    app = Estimate(app, prices=governance.prices)
    codes = [(await post(app, secret=None, user=f"user-{n}")).status_code for n in range(2)]
    assert codes == [200, 429]
    assert (inside.calls[0].attribution.user, inside.calls[0].attribution.tags) == ("ann", (("team", "x"),))


async def test_behind_a_callable_headers_name_the_user_and_the_body_where_they_do_not(
    governed, inside, post
) -> None:
    governance = await governed()
    app = await budgeted(governance, inside, meter=True)
    await post(app, secret=None, headers={"x-gov-user": "ann"}, user="bob")
    await post(app, secret=None, user="bob")
    refused = await post(app, secret=None, headers={"x-gov-user": "a" * 129})
    assert [call.attribution.user for call in inside.calls] == ["ann", "bob"], "the third is refused"
    assert refused.status_code == 400


# A middleware without the one it builds on --------------------------------------------------------


async def test_a_middleware_without_its_predecessor_fails_at_its_first_request(
    governed, inside, post
) -> None:
    governance = await governed()
    parts = {"reservations": governance.reservations, "limits": ()}
    stacks = {
        "RateLimit needs Authenticate": RateLimit(inside, **parts),
        "Budget needs Authenticate": Budget(inside, **parts),
        "Budget needs Estimate": Budget(inside, **parts, principal=robot),
        "Meter needs Estimate": Meter(inside),
    }
    for message, app in stacks.items():
        with pytest.raises(MissingPredecessor, match=message):
            await post(app)
    assert inside.reached == 0


async def test_scopes_that_are_no_requests_pass_every_middleware(governed) -> None:
    governance = await governed()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    parts = {"reservations": governance.reservations, "limits": ()}
    for middleware in (
        authenticate(app, governance),
        RateLimit(app, **parts),
        Estimate(app, prices=governance.prices),
        Budget(app, **parts),
        Meter(app),
    ):
        for kind in ("websocket", "lifespan"):
            await middleware({"type": kind}, None, None)
    assert seen == ["websocket", "lifespan"] * 5


# All ----------------------------------------------------------------------------------------------


async def test_the_whole_stack_settles_a_call_in_one_record(governed, inside, post, journal) -> None:
    slots = {"name": "slots", "scope": "api_token", "meter": "concurrency", "hard": 2}
    governance = await governed(limits=[BUDGET, slots])
    answer = await post(governance.stack(inside), headers={"x-gov-user": "ann"})
    [record] = await journal(governance)
    assert record["request_id"] == record["reservation_id"] == answer.headers["x-gov-request-id"]
    assert (record["user"], record["session"], record["model_requested"]) == ("ann", "anonymous", "m")
    assert record["usage"]["output_tokens"] == 9
    assert sorted(record["holds"].values()) == [0, int(USED_USD * 10**9)]
    assert {each["limit"]: each["decision"] for each in record["evaluations"]} == {
        "month": "allow",
        "slots": "allow",
    }


async def test_code_inside_the_app_finds_its_call(governed, post) -> None:
    from govmiddleware.core.call import current_call

    governance = await governed()
    found: list[Call | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(current_call.get())
        await Starlette()(scope, receive, send)

    await post(governance.stack(app))
    assert found[0] is not None
    assert found[0].model == "m"
