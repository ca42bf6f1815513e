"""The official anthropic SDK through the sidecar: it must feel at home."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from starlette.types import Receive, Scope, Send
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script, serve_in_thread
from govmiddleware.testing.anthropic_answers import Answer, counted_usage

HELLO: Any = {
    "model": "claude-sonnet-5",
    "messages": [{"role": "user", "content": "Hello there"}],
    "max_tokens": 50,
}
THINKING: Any = {**HELLO, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
SAID = "The quick brown fox jumps over the lazy dog."
Run = Callable[..., RunningSidecar]


@pytest.fixture
def sidecar(run_sidecar: Run) -> RunningSidecar:
    sidecar = run_sidecar()
    sidecar.provider.api_key = "sk-upstream"  # the provider takes it in x-api-key alone
    return sidecar


def client_of(sidecar: RunningSidecar, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sidecar.url, **{"api_key": SECRET, **options})


@pytest.fixture
def client(sidecar: RunningSidecar) -> Iterator[anthropic.Anthropic]:
    with client_of(sidecar) as client:
        yield client


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_an_answer_comes_back_with_its_usage_and_our_headers(
    sidecar: RunningSidecar, client: anthropic.Anthropic, books: Books
) -> None:
    raw = client.messages.with_raw_response.create(**HELLO)
    answer = raw.parse()
    assert answer.content[0].text == SAID
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 9)
    assert raw.headers["x-gov-request-id"].startswith("req_")
    assert re.fullmatch(r"0\.00\d{7}", raw.headers["x-gov-estimated-cost-usd"])
    [exchange] = sidecar.provider.exchanges
    assert exchange.header(b"x-api-key") == b"sk-upstream"
    assert exchange.header(b"authorization") is None
    assert exchange.header(b"anthropic-version") is not None
    [record] = until(books.records)
    assert (record.protocol, record.settlement) == ("anthropic.messages", "exact")
    # $2 and $10 a million tokens
    assert record.cost_usd == "0.000094000"


def test_a_stream_comes_piece_by_piece_and_is_metered_exactly(
    client: anthropic.Anthropic, books: Books
) -> None:
    with client.messages.stream(**HELLO) as stream:
        texts = list(stream.text_stream)
        answer = stream.get_final_message()
    assert "".join(texts) == SAID
    assert len(texts) == 5
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 9)
    [record] = until(books.records)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 9)
    assert (record.settlement, record.cost_usd) == ("exact", "0.000094000")


def test_thinking_and_a_tool_call_arrive_whole_streamed_or_not(
    sidecar: RunningSidecar, client: anthropic.Anthropic
) -> None:
    sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
    tool: Any = {"name": "get_weather", "input_schema": {"type": "object"}}
    answer = client.messages.create(**THINKING, tools=[tool])
    with client.messages.stream(**THINKING, tools=[tool]) as stream:
        streamed = stream.get_final_message()
    for message in (answer, streamed):
        thought, call = message.content
        assert (thought.type, call.type) == ("thinking", "tool_use")
        assert thought.thinking == "Let me think about it."
        assert thought.signature.startswith("signed-")
        assert call.input == {"city": "Berlin"}
        assert message.stop_reason == "tool_use"


def test_what_the_cache_had_a_part_in_is_input_at_its_own_price(
    sidecar: RunningSidecar, client: anthropic.Anthropic, books: Books
) -> None:
    usage = counted_usage(3, 9) | {"cache_read_input_tokens": 1000, "cache_creation_input_tokens": 100}
    sidecar.provider.script = Script(usage=usage)
    client.messages.create(**HELLO)
    with client.messages.stream(**HELLO) as stream:
        stream.until_done()
    for record in until(lambda: found if len(found := books.records()) == 2 else None):
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.cached_tokens) == (1103, 1000)
        assert record.usage.cache_write_tokens == 100
        assert record.cost_usd == "0.000546000"  # 3 x 2000 + 1000 x 200 + 100 x 2500 + 9 x 10000 nano-USD


def test_counting_tokens_is_free_and_asks_for_no_price(
    sidecar: RunningSidecar, client: anthropic.Anthropic, books: Books
) -> None:
    counted = client.messages.count_tokens(model="claude-unpriced", messages=HELLO["messages"])
    assert counted.input_tokens == 2
    [record] = until(books.records)
    assert (record.protocol, record.cost_usd, record.settlement) == (
        "anthropic.count_tokens",
        "0.000000000",
        "exact",
    )
    assert record.usage is not None
    assert record.usage.input_tokens == 0
    assert books.audit().differences == []


def test_a_free_call_passes_a_budget_that_has_nothing_left(run_sidecar: Run) -> None:
    limit = {"name": "none", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0.000001}
    with client_of(run_sidecar(limits=[limit])) as client:
        with pytest.raises(anthropic.PaymentRequiredError):
            client.messages.create(**HELLO)
        assert client.messages.count_tokens(model=HELLO["model"], messages=HELLO["messages"]).input_tokens


def test_other_routes_get_anthropics_credential_and_answers(
    sidecar: RunningSidecar, client: anthropic.Anthropic
) -> None:
    assert "claude-sonnet-5" in [model.id for model in client.models.list()]
    assert sidecar.provider.exchanges[0].header(b"x-api-key") == b"sk-upstream"


def test_a_token_is_taken_as_bearer_too(sidecar: RunningSidecar) -> None:
    with client_of(sidecar, api_key=None, auth_token=SECRET) as client:
        assert client.messages.create(**HELLO).stop_reason == "end_turn"
    [exchange] = sidecar.provider.exchanges
    assert exchange.header(b"x-api-key") == b"sk-upstream"
    assert exchange.header(b"authorization") is None


def test_the_beta_address_is_the_same_route(client: anthropic.Anthropic, books: Books) -> None:
    answer = client.beta.messages.create(**HELLO, metadata={"user_id": "ann"})
    assert answer.usage.output_tokens == 9
    [record] = until(books.records)
    assert (record.protocol, record.user) == ("anthropic.messages", "ann")


# Refusals -----------------------------------------------------------------------------------------


def refused_by(client: anthropic.Anthropic, **more: Any) -> anthropic.APIStatusError:
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(**{**HELLO, **more})
    return refused.value


@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "stream"])
def test_a_budget_refusal_is_a_payment_error_that_is_not_retried(run_sidecar: Run, streams: bool) -> None:
    limit = {"name": "poor", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    sidecar = run_sidecar(limits=[limit])
    started = time.monotonic()
    with client_of(sidecar, max_retries=5) as client:
        error = refused_by(client, metadata={"user_id": "ann"}, stream=streams)
    assert time.monotonic() - started < 2
    assert isinstance(error, anthropic.PaymentRequiredError)
    assert (error.status_code, error.type) == (402, "billing_error")
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers
    assert error.request_id == error.response.headers["x-gov-request-id"]
    body: Any = error.body
    assert body["request_id"] == error.request_id
    [failed] = body["error"]["limits"]
    assert (failed["name"], failed["value"], failed["maximum"]) == ("poor", "ann", "0.000010000")
    assert sidecar.provider.exchanges == []


def test_a_rate_refusal_is_retried_by_the_sdk_and_then_succeeds(run_sidecar: Run) -> None:
    limit = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "1/second"}
    sidecar = run_sidecar(limits=[limit])
    with client_of(sidecar, max_retries=0) as hasty, client_of(sidecar, max_retries=2) as patient:
        hasty.messages.create(**HELLO)
        error = refused_by(hasty)
        headers = error.response.headers
        assert isinstance(error, anthropic.RateLimitError)
        assert error.type == "rate_limit_error"
        assert 0 < int(headers["retry-after-ms"]) <= 1100
        assert headers["anthropic-ratelimit-requests-limit"] == "1"
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers["anthropic-ratelimit-requests-reset"])
        assert patient.messages.create(**HELLO).stop_reason == "end_turn"
    assert len(sidecar.provider.exchanges) == 2


def test_each_refusal_is_the_exception_that_anthropic_would_raise(run_sidecar: Run) -> None:
    sidecar = run_sidecar(max_body_bytes=2000, connect_timeout=0.2, first_byte_timeout=0.3)
    with client_of(sidecar, max_retries=0) as client:
        nobody = client.with_options(api_key="nobody")
        long = [{"role": "user", "content": "word " * 1000}]
        sidecar.provider.next(Script(never_answers=True))
        cases: list[tuple[anthropic.APIStatusError, type[anthropic.APIStatusError], str]] = [
            (refused_by(client), anthropic.GatewayTimeoutError, "timeout_error"),
            (refused_by(nobody), anthropic.AuthenticationError, "authentication_error"),
            (refused_by(client, model="unpriced"), anthropic.BadRequestError, "invalid_request_error"),
            (refused_by(client, messages=long), anthropic.ContentTooLargeError, "request_too_large"),
        ]
        with pytest.raises(anthropic.PermissionDeniedError) as forbidden:
            client.messages.batches.create(requests=[])
        cases.append((forbidden.value, anthropic.PermissionDeniedError, "permission_error"))
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            nobody.models.list()
        cases.append((unknown.value, anthropic.AuthenticationError, "authentication_error"))
    for error, kind, error_type in cases:
        assert isinstance(error, kind)
        body: Any = error.body
        assert (body["type"], body["error"]["type"]) == ("error", error_type)
        assert error.request_id == body["request_id"] == error.response.headers["x-gov-request-id"]


def test_a_model_that_nobody_takes_is_not_found(run_sidecar: Run, gov_provider: Any) -> None:
    _, url = gov_provider
    upstreams = [{"name": "openai", "url": url, "models": ["gpt-*"]}]
    with client_of(run_sidecar(upstream=None, upstreams=upstreams, upstream_api_key=None)) as client:
        error = refused_by(client)
    assert isinstance(error, anthropic.NotFoundError)
    assert error.type == "not_found_error"


def test_an_upstream_error_arrives_as_it_was(sidecar: RunningSidecar, client: anthropic.Anthropic) -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_x"}'
    sidecar.provider.next(Script(status=529, body=body, headers=((b"x-should-retry", b"false"),)))
    error = refused_by(client)
    assert isinstance(error, anthropic.OverloadedError)
    assert error.type == "overloaded_error"


def test_a_stream_that_breaks_off_raises_in_the_sdk_and_is_charged_for_what_came(
    sidecar: RunningSidecar, client: anthropic.Anthropic, books: Books
) -> None:
    usage = counted_usage(700, 900)
    sidecar.provider.next(Script(breaks_after=5, usage=usage))
    with (
        pytest.raises(anthropic.APIStatusError) as broken,
        client.messages.stream(**HELLO) as stream,
    ):
        stream.until_done()
    assert "api_error" in str(broken.value.body)
    [record] = until(books.records)
    assert record.settlement == "aborted"
    assert record.usage is not None
    # The input as reported at the start; the output as counted, for the report of it never came.
    assert record.usage.input_tokens == 700
    assert 3 <= record.usage.output_tokens <= 6


class Endless:
    """An upstream that minds no output limit, says nothing about usage, and ends when its client has left."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        begun = b"".join(Answer("msg_1", "m", "word", None, "", "end_turn", {}).as_events(pieces=1))
        said = begun.index(b"event: content_block_delta")
        delta = begun[said : begun.index(b"event: content_block_stop")]
        await send({"type": "http.response.body", "body": begun[:said], "more_body": True})
        departure = asyncio.create_task(receive())
        while not departure.done():
            await send({"type": "http.response.body", "body": delta, "more_body": True})
            await asyncio.sleep(0)
        self.left.set()


def test_a_message_without_end_is_ended_where_the_budget_is(run_sidecar: Run, books: Books) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0.005}
    endless = Endless()
    with serve_in_thread(endless) as upstream:
        sidecar = run_sidecar(limits=[limit], upstream=upstream.url, slice_output_tokens=64)
        asked: Any = {**HELLO, "max_tokens": 100_000, "thinking": {"type": "disabled"}}
        with client_of(sidecar) as client, client.messages.stream(**asked) as stream:
            answer = stream.get_final_message()
        assert endless.left.wait(5)
    assert answer.stop_reason == "max_tokens"
    [text] = answer.content
    assert text.type == "text"
    assert set(text.text.split("word")) == {""}
    assert 0 < answer.usage.output_tokens <= 500  # of $10 a million tokens, $0.005 buys 500
    [record] = until(books.records)
    assert record.usage is not None
    assert record.usage.output_tokens == answer.usage.output_tokens
    assert record.cost_usd is not None
    assert Decimal(record.cost_usd) <= Decimal("0.005")
    assert books.audit().differences == []
