"""The openai SDK on a governed transport, with each of the HTTP clients it takes, in a script: no request around."""

from __future__ import annotations

import httpx2
import openai
import pytest
from tests.inside.books import read_books
from tests.inside.conftest import settings
from tests.inside.speaking import SAY, SCRIPT

from govmiddleware import Governance, NoCaller, Settings
from govmiddleware.testing import Script
from govmiddleware.testing.bell import Gate

MONTH = {"name": "month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 1}
MINUTE = {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "2/minute"}


async def test_an_answer_is_metered_and_journaled(kind, governance_with, provider, speaker_on) -> None:
    governance = governance_with(limits=[MONTH, MINUTE])
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    answer = await speaker.say()
    assert answer.choices[0].message.content == provider.script.text
    [record] = await read_books(governance)
    assert (record["workspace"], record["api_token"], record["user"]) == ("acme", "nightly", "anonymous")
    assert (record["parent_request_id"], record["model_served"], record["status"]) == (None, "m", 200)
    assert (record["settlement"], record["outcome"]) == ("exact", "answered")
    assert record["cost_usd"] == "0.000020000"
    assert sorted(record["holds"].values()) == [1, 20_000]


async def test_the_provider_gets_the_request_as_it_was_made(
    kind, governance_with, provider, speaker_on
) -> None:
    speaker = speaker_on(kind, governance_with().transport(principal=SCRIPT))
    await speaker.say(extra_headers={"x-gov-session": "s9", "x-own": "kept"}, extra_query={"q": "1"})
    [exchange] = provider.exchanges
    assert (exchange.path, exchange.query) == ("/v1/chat/completions", b"q=1")
    assert exchange.body == {
        "messages": [{"role": "user", "content": "Say hello."}],
        "model": "m",
        "max_tokens": 100,
    }
    assert exchange.header(b"authorization") == b"Bearer sk-provider"
    assert exchange.header(b"x-own") == b"kept"
    assert exchange.header(b"x-gov-session") is None


async def test_our_headers_are_on_the_answer(kind, governance_with, speaker_on) -> None:
    governance = governance_with(limits=[MONTH])
    raw = await speaker_on(kind, governance.transport(principal=SCRIPT)).say(raw=True)
    assert raw.headers["x-gov-request-id"].startswith("req_")
    assert raw.headers["x-gov-estimated-cost-usd"] < "0.001"
    assert raw.headers["x-gov-budget-remaining-usd"].startswith("0.999")
    [record] = await read_books(governance)
    assert record["request_id"] == raw.headers["x-gov-request-id"]


async def test_a_stream_arrives_as_it_is_made_and_is_settled_exactly(
    kind, governance_with, provider, speaker_on
) -> None:
    gate = Gate()
    provider.script = Script(gate=gate)
    governance = governance_with()
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    gate.let()
    stream = await speaker.say(stream=True)
    pieces, said = speaker.chunks(stream), []
    for sent in range(1, 5):
        said.append(await anext(pieces))
        assert provider.exchanges[0].chunks_sent == sent
        gate.let()
    gate.open()
    said += [piece async for piece in pieces]
    assert "".join(piece.choices[0].delta.content or "" for piece in said) == provider.script.text
    assert all(piece.choices and piece.usage is None for piece in said), "nobody asked for usage but we"
    assert provider.exchanges[0].body["stream_options"] == {"include_usage": True}
    [record] = await read_books(governance)
    assert (record["settlement"], record["cost_usd"]) == ("exact", "0.000020000")


async def test_a_stream_that_is_closed_early_is_charged_what_was_delivered(
    kind, governance_with, provider, speaker_on
) -> None:
    gate = Gate()
    provider.script = Script(gate=gate)
    governance = governance_with(limits=[MONTH])
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    gate.let(3)
    stream = await speaker.say(stream=True)
    pieces = speaker.chunks(stream)
    for _ in range(3):
        await anext(pieces)
    await speaker.do(stream.close)
    await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"], record["status"]) == ("aborted", "aborted", 200)
    assert 0 < record["usage"]["output_tokens"] < 9
    assert record["usage"]["input_tokens"] == record["estimate"]["input_tokens"]


async def test_a_budget_refuses_as_the_provider_would(kind, governance_with, provider, speaker_on) -> None:
    governance = governance_with(limits=[MONTH | {"hard": 0.0001}])
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT), max_retries=3)
    with pytest.raises(openai.RateLimitError, match="'month'") as refused:
        await speaker.say()
    assert (refused.value.status_code, refused.value.code) == (429, "insufficient_quota")
    assert refused.value.type == "insufficient_quota"
    assert provider.exchanges == []
    [record] = await read_books(governance)
    assert (record["kind"], record["outcome"], record["holds"]) == ("refusal", "insufficient_quota", {})


async def test_a_rate_limit_refuses_as_the_provider_would(
    kind, governance_with, provider, speaker_on
) -> None:
    governance = governance_with(limits=[MINUTE])
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    for _ in range(2):
        await speaker.say()
    with pytest.raises(openai.RateLimitError) as refused:
        await speaker.say(stream=True)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["x-ratelimit-limit-requests"] == "2"
    assert int(refused.value.response.headers["retry-after"]) > 30
    assert len(provider.exchanges) == 2
    assert len(await read_books(governance)) == 3


async def test_what_is_wrong_with_a_request_is_said_as_the_provider_would(
    kind, governance_with, speaker_on
) -> None:
    speaker = speaker_on(kind, governance_with().transport(principal=SCRIPT))
    with pytest.raises(openai.BadRequestError, match="'unheard-of' has no price"):
        await speaker.say(model="unheard-of")
    with pytest.raises(openai.BadRequestError, match="x-gov-user must be printable"):
        await speaker.say(extra_headers={"x-gov-user": "a" * 999})


async def test_errors_of_the_provider_arrive_and_cost_nothing(
    kind, governance_with, provider, speaker_on
) -> None:
    governance = governance_with()
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT), api_key="wrong")
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        await speaker.say()
    [record] = await read_books(governance)
    assert (record["status"], record["outcome"], record["cost_usd"]) == (401, "upstream_error", "0.000000000")


async def test_a_redirect_is_followed_and_costs_nothing(governance_with, provider, provider_url) -> None:
    elsewhere = (b"location", f"{provider_url}/v2/chat/completions".encode())
    provider.next(Script(status=307, headers=(elsewhere,), body=b""))
    governance = governance_with()
    transport = governance.transport(principal=SCRIPT)
    key = {"authorization": "Bearer sk-provider"}
    async with httpx2.AsyncClient(transport=transport, headers=key, follow_redirects=True) as http:
        answer = await http.post(f"{provider_url}/v1/chat/completions", json=SAY)
    assert answer.status_code == 200
    records = await read_books(governance)
    assert [(record["status"], record["cost_usd"]) for record in records] == [
        (307, "0.000000000"),
        (200, "0.000020000"),
    ]


async def test_a_store_that_is_down_refuses_what_could_cost(provider, speaker_on) -> None:
    governance = Governance(Settings(redis_url="redis://127.0.0.1:9", **settings()))
    async with governance:
        speaker = speaker_on("httpx2, asynchronous", governance.transport(principal=SCRIPT))
        with pytest.raises(openai.InternalServerError) as refused:
            await speaker.say()
    assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
    assert provider.exchanges == []


async def test_a_provider_that_cannot_be_reached_costs_nothing(kind, governance_with, speaker_on) -> None:
    governance = governance_with(limits=[MONTH, MINUTE])
    nowhere = {"base_url": "http://127.0.0.1:9/v1"}
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT), **nowhere)
    with pytest.raises(openai.APIConnectionError):
        await speaker.say()
    [record] = await read_books(governance)
    assert (record["status"], record["outcome"], record["cost_usd"]) == (None, "aborted", "0.000000000")
    assert sorted(record["holds"].values()) == [0, 1], "the request counts"


async def test_a_connection_that_breaks_before_the_answer_is_charged_as_reserved(
    kind, governance_with, provider, speaker_on
) -> None:
    provider.script = Script(breaks_after=0)
    governance = governance_with()
    with pytest.raises(openai.APIConnectionError):
        await speaker_on(kind, governance.transport(principal=SCRIPT)).say()
    [record] = await read_books(governance)
    assert (record["settlement"], record["cost_usd"]) == ("aborted", record["bound"]["cost_usd"])


async def test_a_stream_that_breaks_off_breaks_off_and_is_charged_what_was_delivered(
    kind, governance_with, provider, speaker_on
) -> None:
    provider.script = Script(breaks_after=3)
    governance = governance_with()
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    stream = await speaker.say(stream=True)
    with pytest.raises(openai.APIConnectionError):
        _ = [piece async for piece in speaker.chunks(stream)]
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"]) == ("aborted", "aborted")
    assert record["cost_usd"] < record["bound"]["cost_usd"]


async def test_what_no_protocol_recognises_passes_untouched(
    kind, governance_with, provider, speaker_on
) -> None:
    governance = governance_with()
    speaker = speaker_on(kind, governance.transport())
    models = await speaker.do(speaker.client.models.list)
    assert [model.id for model in models.data] == list(provider.models)
    assert not governance._is_open


async def test_without_a_caller_a_call_says_what_to_do(kind, governance_with, provider, speaker_on) -> None:
    with pytest.raises(NoCaller, match=r"principal=Principal\(workspace=\.\.\., api_token=\.\.\.\)"):
        await speaker_on(kind, governance_with().transport()).say()
    assert provider.exchanges == []


async def test_a_stream_that_outruns_its_budget_ends_as_if_the_model_had_reached_its_limit(
    kind, governance_with, provider, speaker_on
) -> None:
    """The whole bound does not fit, a slice does; then the provider says more than there is room for."""
    provider.script = Script(text="word " * 5000, pieces=500, interval=0.002)
    tokens = {"name": "tokens", "scope": "workspace", "meter": "output_tokens", "window": "day", "hard": 1000}
    model = {"model": "gpt-4o-mini", "same_as": "gpt-4o-mini", "max_output_tokens": 100_000}
    governance = governance_with(limits=[tokens], prices=[model], slice_output_tokens=500)
    speaker = speaker_on(kind, governance.transport(principal=SCRIPT))
    stream = await speaker.say(model="gpt-4o-mini", max_tokens=None, stream=True)
    last = [chunk async for chunk in speaker.chunks(stream)][-1]
    assert last.choices[0].finish_reason == "length"
    await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    [record] = await read_books(governance)
    assert (record["outcome"], record["settlement"]) == ("cut", "aborted")
    assert 300 < record["usage"]["output_tokens"] <= 1000
