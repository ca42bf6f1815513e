"""Providers in a host app: `[[upstreams]]` names them by model, for limits and the books; the app calls them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from govmiddleware.core.providers import Provider
from govmiddleware.errors import MissingPredecessor
from govmiddleware.host import govern
from govmiddleware.middleware import Authenticate, Estimate
from govmiddleware.upstream import ByProvider

UPSTREAMS = [{"name": "big", "models": ["m-big*"]}, {"name": "small", "models": ["m-*"]}]
DAY = {"name": "day", "scope": "provider", "meter": "requests", "window": "day"}


async def test_a_call_belongs_to_the_first_provider_that_takes_its_model(
    governed, inside, post, journal
) -> None:
    governance = await governed(upstreams=UPSTREAMS)
    app = govern(inside, governance)
    for model in ("m-small", "m-big-2", "m-other"):
        assert (await post(app, model=model)).status_code == 200
    assert [call.provider for call in inside.calls] == ["small", "big", "small"]
    assert [record["provider"] for record in await journal(governance)] == ["small", "big", "small"]


async def test_without_upstreams_every_call_belongs_to_default(governed, inside, post, journal) -> None:
    governance = await governed(limits=[DAY | {"hard": 1, "value": "default"}])
    app = govern(inside, governance)
    assert [(await post(app)).status_code for _ in range(2)] == [200, 429]
    assert {record["provider"] for record in await journal(governance)} == {"default"}


async def test_a_model_that_no_provider_takes_is_refused_before_anything_is_counted(
    governed, inside, post, journal
) -> None:
    limits = [DAY | {"hard": 1}, DAY | {"name": "all", "scope": "workspace", "hard": 1}]
    governance = await governed(upstreams=UPSTREAMS, limits=limits)
    app = govern(inside, governance)
    answer = await post(app, model="gpt-4o")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model 'gpt-4o' does not exist here: no upstream takes it.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert inside.reached == 0
    assert (await post(app, model="m-1")).status_code == 200, "the limits of one call are still there for it"
    [refusal] = [record for record in await journal(governance) if record["kind"] == "refusal"]
    assert (refusal["outcome"], refusal["provider"], refusal["holds"]) == ("model_not_found", None, {})


async def test_an_unpriced_model_is_told_as_such_only_where_somebody_takes_it(governed, inside, post) -> None:
    governance = await governed(upstreams=[{"name": "odd", "models": ["x-*"]}])
    app = govern(inside, governance)
    answers = [await post(app, model=model) for model in ("x-1", "y-1")]
    assert [answer.json()["error"]["code"] for answer in answers] == ["model_not_priced", "model_not_found"]


async def test_what_names_no_model_counts_for_the_first_provider(governed, inside, post, journal) -> None:
    governance = await governed(upstreams=UPSTREAMS, limits=[DAY | {"hard": 1, "value": "big"}])
    app = govern(inside, governance, paths=["/jobs/*"])
    assert [(await post(app, path="/jobs/run")).status_code for _ in range(2)] == [404, 429]
    assert (await post(app, model="m-1")).status_code == 200, "small has no limit"
    providers = Counter(record["provider"] for record in await journal(governance))
    assert providers == {"big": 2, "small": 1}


@pytest.mark.parametrize(
    ("limit", "served"),
    [
        ({}, {"big": 3, "small": 3}),
        ({"value": "small"}, {"big": 20, "small": 3}),
    ],
    ids=["of each provider", "of one"],
)
async def test_a_limit_on_providers_is_exact_however_many_race(
    governed, inside, post, journal, limit: dict[str, Any], served: dict[str, int]
) -> None:
    governance = await governed(upstreams=UPSTREAMS, limits=[DAY | {"hard": 3} | limit])
    app = govern(inside, governance)
    models = ["m-big", "m-small"] * 20
    answers = await asyncio.gather(*(post(app, model=model) for model in models))
    passed = Counter(
        model for model, answer in zip(models, answers, strict=True) if answer.status_code == 200
    )
    assert {name: passed[f"m-{name}"] for name in ("big", "small")} == served
    [refused] = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
    assert refused == "insufficient_quota"


# By hand ------------------------------------------------------------------------------------------


async def test_estimate_by_itself_takes_providers_too(governed, inside, post) -> None:
    governance = await governed()
    providers = [Provider("one", ("m",)), Provider("other")]
    app = Estimate(inside, prices=governance.prices, providers=providers)
    for model in ("m", "m2"):
        await post(app, model=model)
    assert [call.provider for call in inside.calls] == ["one", "other"]


async def test_a_choice_by_provider_without_estimate_names_what_it_lacks(governed, inside, post) -> None:
    governance = await governed()
    app = Authenticate(
        ByProvider({"default": inside}),
        api_tokens=governance.api_tokens,
        reservations=governance.reservations,
    )
    with pytest.raises(MissingPredecessor, match="Estimate"):
        await post(app)
