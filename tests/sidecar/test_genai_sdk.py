"""The official google-genai SDK through the sidecar: it must feel at home."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from tests.protocols.failures import evaluation, rate_limited
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.core.limits import Meter
from govmiddleware.core.ports import WireProtocol
from govmiddleware.core.refusals import UpstreamFailed
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import recognise
from govmiddleware.testing import Script
from govmiddleware.testing.gemini_answers import answer

MODEL = "gemini-2.5-flash"
HELLO: Any = {"model": MODEL, "contents": "Hello there"}
SAID = "The quick brown fox jumps over the lazy dog."
Run = Callable[..., RunningSidecar]


@pytest.fixture
def sidecar(run_sidecar: Run) -> RunningSidecar:
    sidecar = run_sidecar()
    sidecar.provider.api_key = "sk-upstream"  # the provider takes it in x-goog-api-key alone
    return sidecar


def client_of(sidecar: RunningSidecar, **options: Any) -> genai.Client:
    given = {"api_key": SECRET, **options}
    return genai.Client(http_options=types.HttpOptions(base_url=sidecar.url), **given)


@pytest.fixture
def client(sidecar: RunningSidecar) -> Iterator[genai.Client]:
    with client_of(sidecar) as client:
        yield client


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_an_answer_comes_back_with_its_usage_and_our_headers(
    sidecar: RunningSidecar, client: genai.Client, books: Books
) -> None:
    said = client.models.generate_content(**HELLO)
    assert said.text == SAID
    assert said.usage_metadata is not None
    assert (said.usage_metadata.prompt_token_count, said.usage_metadata.candidates_token_count) == (2, 9)
    assert said.sdk_http_response is not None
    headers: Any = said.sdk_http_response.headers
    assert headers["x-gov-request-id"].startswith("req_")
    assert re.fullmatch(r"\d\.\d{9}", headers["x-gov-estimated-cost-usd"])
    [exchange] = sidecar.provider.exchanges
    assert exchange.header(b"x-goog-api-key") == b"sk-upstream"
    [record] = until(books.records)
    assert (record.protocol, record.model_requested, record.settlement) == ("gemini", MODEL, "exact")
    # $0.30 and $2.50 a million tokens
    assert record.cost_usd == "0.000023100"


def test_a_stream_comes_piece_by_piece_and_is_metered_exactly(client: genai.Client, books: Books) -> None:
    chunks = list(client.models.generate_content_stream(**HELLO))
    assert "".join(chunk.text or "" for chunk in chunks) == SAID
    assert len(chunks) == 5
    [record] = until(books.records)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 9)
    assert (record.settlement, record.cost_usd) == ("exact", "0.000023100")


def test_a_tool_call_arrives_whole_streamed_or_not(sidecar: RunningSidecar, client: genai.Client) -> None:
    sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
    function = types.FunctionDeclaration(name="get_weather", parameters_json_schema={"type": "object"})
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    said = client.models.generate_content(**HELLO, config=config)
    [chunk] = client.models.generate_content_stream(**HELLO, config=config)
    for whole in (said, chunk):
        [call] = whole.function_calls or []
        assert (call.name, call.args) == ("get_weather", {"city": "Berlin"})


@pytest.mark.anyio
async def test_the_asynchronous_client_streams_too(sidecar: RunningSidecar, books: Books) -> None:
    async with httpx.AsyncClient() as http_client:  # its default, aiohttp, warns of how the SDK uses it
        options = types.HttpOptions(base_url=sidecar.url, httpx_async_client=http_client)
        client = genai.Client(api_key=SECRET, http_options=options).aio
        stream = await client.models.generate_content_stream(**HELLO)
        assert "".join([chunk.text or "" async for chunk in stream]) == SAID


def test_counting_tokens_is_free_and_asks_for_no_price(client: genai.Client, books: Books) -> None:
    assert client.models.count_tokens(model="gemini-unpriced", contents="Hello there").total_tokens == 2
    [record] = until(books.records)
    assert (record.protocol, record.cost_usd, record.settlement) == (
        "gemini.count_tokens",
        "0.000000000",
        "exact",
    )
    assert books.audit().differences == []


def test_embeddings_that_do_not_say_what_they_used_are_settled_from_the_estimate(
    client: genai.Client, books: Books
) -> None:
    embedded = client.models.embed_content(model="gemini-embedding-001", contents=["Hello there", "you"])
    assert len(embedded.embeddings or ()) == 2
    [record] = until(books.records)
    assert (record.protocol, record.settlement) == ("gemini.embeddings", "estimated")
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (3, 0)


def test_other_routes_get_googles_credential_and_answers(
    sidecar: RunningSidecar, client: genai.Client
) -> None:
    assert f"models/{MODEL}" in [model.name for model in client.models.list()]
    assert sidecar.provider.exchanges[0].header(b"x-goog-api-key") == b"sk-upstream"


# Without the SDK -----------------------------------------------------------------------------------

BODY = {"contents": [{"parts": [{"text": "Hello there"}]}]}


def post(sidecar: RunningSidecar, method: str, query: str = "", **options: Any) -> httpx.Response:
    headers = options.pop("headers", {"x-goog-api-key": SECRET})
    url = f"{sidecar.url}/v1beta/models/{MODEL}:{method}{query}"
    return httpx.post(url, **{"json": BODY, "headers": headers, **options})


def test_a_streamed_array_is_metered_exactly(sidecar: RunningSidecar, books: Books) -> None:
    chunks = post(sidecar, "streamGenerateContent").json()
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert ("".join(texts), len(texts)) == (SAID, 5)
    [record] = until(books.records)
    assert (record.settlement, record.cost_usd) == ("exact", "0.000023100")


def test_a_token_is_taken_wherever_google_takes_keys(sidecar: RunningSidecar) -> None:
    by_query = f"?prettyPrint=false&key={SECRET}"
    for headers, query in (
        ({"authorization": f"Bearer {SECRET}"}, ""),
        ({"x-goog-api-key": SECRET}, "?key=another"),
        ({}, by_query),
    ):
        assert post(sidecar, "generateContent", query, headers=headers).status_code == 200
        exchange = sidecar.provider.exchanges[-1]
        assert exchange.query == (b"prettyPrint=false" if query == by_query else b"")
        assert exchange.header(b"x-goog-api-key") == b"sk-upstream"
        assert exchange.header(b"authorization") is None
    # A key in the query is none elsewhere.
    assert httpx.get(f"{sidecar.url}/v1beta/models?key={SECRET}").status_code == 200
    assert httpx.get(f"{sidecar.url}/v1/models?key={SECRET}").status_code == 401


def test_where_credentials_are_forwarded_a_key_goes_too_but_never_one_of_ours(run_sidecar: Run) -> None:
    sidecar = run_sidecar(upstream_auth="forward")
    for key in ("theirs", "gov_" + "a" * 36):
        headers = {"authorization": f"Bearer {SECRET}", "x-goog-api-key": "theirs"}
        post(sidecar, "generateContent", f"?key={key}", headers=headers)
    assert [exchange.query for exchange in sidecar.provider.exchanges] == [b"key=theirs", b""]


# Refusals ------------------------------------------------------------------------------------------


def refused_by(client: genai.Client, **more: Any) -> errors.APIError:
    with pytest.raises(errors.APIError) as refused:
        client.models.generate_content(**{**HELLO, **more})
    return refused.value


def test_a_budget_refusal_is_an_exhausted_resource(run_sidecar: Run) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    sidecar = run_sidecar(limits=[limit])
    with client_of(sidecar) as client:
        error = refused_by(client)
        with pytest.raises(errors.ClientError):
            list(client.models.generate_content_stream(**HELLO))
    assert isinstance(error, errors.ClientError)
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
    details: Any = error.details
    [failed] = details["error"]["limits"]
    assert (failed["name"], failed["maximum"]) == ("poor", "0.000010000")
    assert details["error"]["details"][0]["reason"] == "INSUFFICIENT_QUOTA"
    assert sidecar.provider.exchanges == []


def test_a_rate_refusal_is_retried_by_an_sdk_that_retries_and_then_succeeds(run_sidecar: Run) -> None:
    limit = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "1/second"}
    sidecar = run_sidecar(limits=[limit])
    patience = types.HttpRetryOptions(attempts=6, initial_delay=0.4, max_delay=0.5)
    options = types.HttpOptions(base_url=sidecar.url, retry_options=patience)
    with client_of(sidecar) as hasty, genai.Client(api_key=SECRET, http_options=options) as patient:
        hasty.models.generate_content(**HELLO)
        error = refused_by(hasty)
        assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
        assert patient.models.generate_content(**HELLO).text == SAID
    assert len(sidecar.provider.exchanges) == 2


def test_each_refusal_is_the_error_that_google_would_answer(run_sidecar: Run) -> None:
    sidecar = run_sidecar(max_body_bytes=2000, connect_timeout=0.2, first_byte_timeout=0.3)
    with client_of(sidecar) as client, client_of(sidecar, api_key="nobody") as nobody:
        sidecar.provider.next(Script(never_answers=True))
        cases = [
            (refused_by(client), 504, "DEADLINE_EXCEEDED"),
            (refused_by(nobody), 401, "UNAUTHENTICATED"),
            (refused_by(client, model="unpriced"), 400, "INVALID_ARGUMENT"),
            (refused_by(client, contents="word " * 1000), 413, "INVALID_ARGUMENT"),
        ]
        with pytest.raises(errors.ClientError) as forbidden:
            client.batches.create(model=MODEL, src=[{"contents": "Hello"}])
        cases.append((forbidden.value, 403, "PERMISSION_DENIED"))
    for error, code, status in cases:
        assert (error.code, error.status) == (code, status)


def test_an_upstream_error_arrives_as_it_was(sidecar: RunningSidecar, client: genai.Client) -> None:
    body = b'{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}'
    sidecar.provider.next(Script(status=503, body=body))
    error = refused_by(client)
    assert isinstance(error, errors.ServerError)
    assert (error.status, error.message) == ("UNAVAILABLE", "The model is overloaded.")


def test_a_stream_that_breaks_off_raises_in_the_sdk_and_is_charged_for_what_came(
    sidecar: RunningSidecar, client: genai.Client, books: Books
) -> None:
    sidecar.provider.next(Script(breaks_after=3))
    with pytest.raises(errors.ServerError) as broken:
        list(client.models.generate_content_stream(**HELLO))
    assert broken.value.status == "UNAVAILABLE"
    [record] = until(books.records)
    assert record.settlement == "aborted"
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 6)


@pytest.mark.parametrize("query", ["?alt=sse", ""], ids=["events", "array"])
def test_a_stream_past_its_budget_ends_as_if_at_its_output_limit(
    run_sidecar: Run, books: Books, query: str
) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "output_tokens", "window": "month", "hard": 400}
    sidecar = run_sidecar(limits=[limit], slice_output_tokens=64)
    sidecar.provider.script = Script(text="word " * 2000, pieces=400)
    body = BODY | {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "maxOutputTokens": 8000}}
    raw = post(sidecar, "streamGenerateContent", query, json=body).text
    chunks = (
        [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: ")]
        if query
        else json.loads(raw)
    )
    assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    [record] = until(books.records)
    assert record.usage is not None
    assert 200 < record.usage.output_tokens <= 400
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] <= record.usage.output_tokens
    assert books.audit().differences == []


# Streams that are ended before their time, and errors in them, as the SDK reads them --------------------


class Reading:
    """The SDK, which reads what it is told that a server has sent."""

    def __init__(self) -> None:
        self.sent = b""
        http_client = httpx.Client(transport=httpx.MockTransport(self._answer))
        options = types.HttpOptions(httpx_client=http_client)
        self.sdk = genai.Client(api_key="x", http_options=options)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=self.sent)

    def chunks(self, sent: bytes) -> list[types.GenerateContentResponse]:
        self.sent = sent
        return list(self.sdk.models.generate_content_stream(**HELLO))


@pytest.fixture(scope="module")
def reading() -> Iterator[Reading]:
    reading = Reading()
    with reading.sdk:
        yield reading


def protocol_of(method: str) -> WireProtocol:
    protocol = recognise("POST", f"/v1/models/{MODEL}:{method}")
    assert protocol is not None
    return protocol


@pytest.mark.parametrize("tool", [None, "get_weather"], ids=["text", "tool call"])
def test_a_stream_ends_validly_after_any_of_its_chunks_in_either_form(
    reading: Reading, tool: str | None
) -> None:
    text = SAID if tool is None else '{"city": "Berlin"}'
    body = {"contents": [{"parts": [{"text": "Hello"}]}]}
    whole = answer(body, asked=MODEL, text=text, tool=tool, model=None, usage=None)
    used = Usage(input_tokens=11, output_tokens=7)
    for form in (whole.as_events, whole.as_array):
        raw = [*form(pieces=5)]
        for cut in range(len(raw)):
            reader = protocol_of("streamGenerateContent").usage_reader(
                stream=True, usage_was_injected=False, may_be_cut=True
            )
            begun = b"".join(raw[:cut]) + (b"" if cut else b"\n") + raw[cut][:3]  # and a part of the next
            sent = reader.feed(begun) + reader.cut(used, model="asked-for", request_id="req_1")
            if form == whole.as_events:
                chunks = reading.chunks(sent)
            else:
                chunks = [types.GenerateContentResponse.model_validate(each) for each in json.loads(sent)]
            [candidate] = chunks[-1].candidates or []
            said_why = cut and b"finishReason" in raw[cut - 1]
            assert candidate.finish_reason == ("STOP" if said_why else "MAX_TOKENS")
            if tool is None:
                assert SAID.startswith("".join(chunk.text or "" for chunk in chunks))
            if not said_why:
                assert chunks[-1].usage_metadata is not None
                assert chunks[-1].usage_metadata.candidates_token_count == 7
                assert chunks[-1].model_version == (MODEL if cut else "asked-for")


def test_an_error_in_mid_stream_is_raised_by_the_sdk(reading: Reading) -> None:
    broken = protocol_of("streamGenerateContent").stream_error(UpstreamFailed("It broke off."), "req-1")
    with pytest.raises(errors.ServerError, match="It broke off") as caught:
        reading.chunks(b'data: {"candidates": []}\r\n\r\n' + broken)
    assert (caught.value.code, caught.value.status) == (502, "UNAVAILABLE")


def test_a_rate_refusal_says_how_long_to_wait_and_what_failed() -> None:
    refusal = rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1), retry_after_ms=1_500)
    response = protocol_of("generateContent").refusal(refusal, "req-1")
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"], error["status"]) == (429, 429, "RESOURCE_EXHAUSTED")
    info, retry = error["details"]
    assert (info["reason"], retry["retryDelay"]) == ("RATE_LIMIT_EXCEEDED", "2s")
    assert error["limits"][0]["maximum"] == 60
    assert (b"retry-after", b"2") in response.headers
