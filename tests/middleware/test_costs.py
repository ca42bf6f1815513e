"""What a call costs beside its tokens' standard price: tiers of service, another model, what a trusted LiteLLM says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from govmiddleware.core.money import nano_usd, usd_text
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.host import govern
from govmiddleware.testing.provider import Script

PRICED = "gpt-5.2"
COST = {"name": "all", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 100}
USED = {"prompt_tokens": 1000, "completion_tokens": 100}


def answer(**said: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
    return json.dumps({"model": PRICED, "choices": [choice], "usage": USED, **said}).encode()


def cost(tier: str | None = None, model: str = PRICED) -> str:
    price = PriceBook().find(model)
    assert price is not None
    return f"{price.cost(Usage(1000, output_tokens=100), service_tier=tier) / 10**9:.9f}"


@pytest.mark.parametrize(
    ("asked", "answered", "charged"),
    [
        (None, None, None),
        (None, "priority", "priority"),
        ("flex", None, "flex"),
        ("flex", "default", None),
        ("priority", "priority", "priority"),
        ("priority", "default", None),
        ("auto", "default", None),
    ],
)
async def test_the_tier_that_answers_is_charged_and_else_the_one_asked_for(
    governed, inside, post, journal, asked: str | None, answered: str | None, charged: str | None
) -> None:
    governance = await governed(limits=[COST])
    inside.provider.next(Script(body=answer(service_tier=answered) if answered else answer(), status=200))
    fields = {"service_tier": asked} if asked else {}
    assert (await post(govern(inside, governance), model=PRICED, max_tokens=100, **fields)).status_code == 200
    [record] = await journal(governance)
    assert record["cost_usd"] == cost(charged)
    bound, price = record["bound"], PriceBook().find(PRICED)
    assert price is not None
    dearest = price.worst_cost(
        bound["input_tokens"], 100, Reach(media=False, cache_1h=False, service_tier=asked)
    )
    assert bound["cost_usd"] == usd_text(dearest), (
        "the dearer of the tier that was asked for and the standard"
    )


@pytest.mark.parametrize("served", ["flex", "priority", "default"])
async def test_a_response_costs_what_the_tier_that_served_it_does(
    governed, inside, post, journal, served: str
) -> None:
    governance = await governed()
    usage = {"input_tokens": 1000, "output_tokens": 100}
    said = {"model": PRICED, "status": "completed", "output": [], "usage": usage, "service_tier": served}
    inside.provider.next(Script(body=json.dumps(said).encode(), status=200))
    content = json.dumps({"model": PRICED, "input": "Hi", "service_tier": "priority"})
    app = govern(inside, governance)
    assert (await post(app, path="/v1/responses", content=content)).status_code == 200
    [record] = await journal(governance)
    assert record["cost_usd"] == cost(served)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
async def test_a_dear_tier_without_a_price_is_refused(governed, inside, post, path: str) -> None:
    governance = await governed()
    app = govern(inside, governance)
    content = json.dumps({"model": "m", "messages": [], "service_tier": "priority"})
    refused = await post(app, path=path, content=content)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "service_tier"
    assert inside.reached == 0


async def test_the_model_that_answered_is_charged_unless_an_operator_set_the_price(
    governed, inside, post, journal
) -> None:
    governance = await governed()
    app = govern(inside, governance)
    inside.provider.next(Script(body=answer(model="gpt-5-nano"), status=200))
    inside.provider.next(Script(body=answer(model="gpt-5-nano"), status=200))
    inside.provider.next(Script(body=answer(model="nobody-knows-it"), status=200))
    for asked in (PRICED, "m", PRICED):
        await post(app, model=asked)
    costs = [record["cost_usd"] for record in await journal(governance)]
    assert costs == [cost(model="gpt-5-nano"), "0.001200000", cost()]


def told(text: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"x-litellm-response-cost", text.encode()),)


@pytest.mark.parametrize(
    ("text", "charged"),
    [("0.0123456789", "0.012345679"), ("0.0", "0.000000000"), ("1.5e-05", "0.000015000")],
)
async def test_what_a_trusted_upstream_says_it_cost_is_charged(
    governed, inside, post, journal, text: str, charged: str
) -> None:
    governance = await governed(limits=[COST], upstreams=[{"name": "litellm", "trust_cost_header": True}])
    inside.provider.next(Script(body=answer(), headers=told(text), status=200))
    assert (await post(govern(inside, governance), model=PRICED)).status_code == 200
    [record] = await journal(governance)
    assert (record["cost_usd"], record["price_version"]) == (charged, "x-litellm-response-cost")
    [spent] = [amount for name, amount in record["holds"].items() if "cost_usd" in name]
    assert spent == nano_usd(charged)


@pytest.mark.parametrize("text", ["", "nan", "-1", "inf", "1e30", "12 USD", "\xff"])
async def test_a_cost_that_cannot_be_is_not_believed(governed, inside, post, journal, text: str) -> None:
    governance = await governed(upstreams=[{"name": "litellm", "trust_cost_header": True}])
    inside.provider.next(Script(body=answer(), headers=told(text), status=200))
    await post(govern(inside, governance), model=PRICED)
    [record] = await journal(governance)
    assert (record["cost_usd"], record["price_version"]) == (cost(), governance.prices.version)


async def test_an_upstream_that_is_not_trusted_cannot_say_what_it_cost(
    governed, inside, post, journal
) -> None:
    governance = await governed()
    inside.provider.next(Script(body=answer(), headers=told("0.5"), status=200))
    await post(govern(inside, governance), model=PRICED)
    assert [record["cost_usd"] for record in await journal(governance)] == [cost()]


async def test_the_cost_in_the_head_of_a_stream_is_not_that_of_the_stream(
    governed, inside, post, journal
) -> None:
    governance = await governed(upstreams=[{"name": "litellm", "trust_cost_header": True}])
    inside.provider.next(Script(headers=told("0.5"), usage=USED))
    await post(govern(inside, governance), model=PRICED, stream=True)
    assert [record["cost_usd"] for record in await journal(governance)] == [cost()]
