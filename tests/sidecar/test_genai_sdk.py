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
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script
from govmiddleware.testing.gemini_answers import counted_usage

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
    answer = client.models.generate_content(**HELLO)
    assert answer.text == SAID
    assert answer.usage_metadata is not None
    assert (answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count) == (2, 9)
    assert answer.sdk_http_response is not None
    headers: Any = answer.sdk_http_response.headers
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
    answer = client.models.generate_content(**HELLO, config=config)
    [chunk] = client.models.generate_content_stream(**HELLO, config=config)
    for whole in (answer, chunk):
        [call] = whole.function_calls or []
        assert (call.name, call.args) == ("get_weather", {"city": "Berlin"})


@pytest.mark.anyio
async def test_the_asynchronous_client_streams_too(sidecar: RunningSidecar, books: Books) -> None:
    # Its default, aiohttp, warns of how the SDK uses it.
    http_client = httpx.AsyncClient()
    options = types.HttpOptions(base_url=sidecar.url, httpx_async_client=http_client)
    async with genai.Client(api_key=SECRET, http_options=options).aio as client:
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


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {SECRET}"}, {"x-goog-api-key": SECRET}, {}],
    ids=["bearer", "header", "query"],
)
def test_a_token_is_taken_wherever_google_takes_keys(
    sidecar: RunningSidecar, headers: dict[str, str]
) -> None:
    query = "" if headers else f"?prettyPrint=false&key={SECRET}"
    assert post(sidecar, "generateContent", query, headers=headers).status_code == 200
    [exchange] = sidecar.provider.exchanges
    assert exchange.query == (b"" if headers else b"prettyPrint=false")
    assert exchange.header(b"x-goog-api-key") == b"sk-upstream"
    assert exchange.header(b"authorization") is None


def test_a_key_in_the_query_is_no_credential_elsewhere(sidecar: RunningSidecar) -> None:
    answer = httpx.get(f"{sidecar.url}/v1/models?key={SECRET}")
    assert answer.status_code == 401
    models = httpx.get(f"{sidecar.url}/v1beta/models?key={SECRET}")
    assert models.status_code == 200


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


def test_what_hosted_search_was_asked_is_in_the_books(
    sidecar: RunningSidecar, client: genai.Client, books: Books
) -> None:
    usage = counted_usage(2, 9) | {"toolUsePromptTokenCount": 100, "thoughtsTokenCount": 30}
    sidecar.provider.script = Script(usage=usage)
    client.models.generate_content(**HELLO)
    [record] = until(books.records)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (102, 39)
    assert record.usage.reasoning_tokens == 30
