"""The official AWS SDK (boto3) through the sidecar: it must feel at home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import recognise
from govmiddleware.testing import Script
from govmiddleware.testing.bedrock_answers import answer

MODEL = "us.amazon.nova-micro-v1:0"
HELLO: Any = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "Hello there"}]}]}
SAID = "The quick brown fox jumps over the lazy dog."
ARN = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{MODEL}"
Run = Callable[..., RunningSidecar]


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="nobody", aws_secret_access_key="x", region_name="us-east-1")


@pytest.fixture
def client_of(session: boto3.Session) -> Iterator[Callable[..., Any]]:
    """Clients of a sidecar; the id of their key is the API token. They close with the test."""
    clients = []

    def client_of(sidecar: RunningSidecar, key: str = SECRET, **options: Any) -> Any:
        given = {"retries": {"total_max_attempts": 1}, **options}
        client = session.client(
            "bedrock-runtime", endpoint_url=sidecar.url, aws_access_key_id=key, aws_secret_access_key="x",
            config=Config(**given),
        )  # fmt: skip
        clients.append(client)
        return client

    yield client_of
    for client in clients:
        client.close()


@pytest.fixture
def sidecar(run_sidecar: Run) -> RunningSidecar:
    sidecar = run_sidecar()
    sidecar.provider.api_key = "sk-upstream"  # the provider takes it as a Bearer token alone
    return sidecar


@pytest.fixture
def client(sidecar: RunningSidecar, client_of: Callable[..., Any]) -> Any:
    return client_of(sidecar)


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def events_of(answer: Any) -> list[dict[str, Any]]:
    with closing(answer["stream"]) as stream:
        return list(stream)


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(
        event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event
    )


def test_an_answer_comes_back_with_its_usage_and_our_headers(
    sidecar: RunningSidecar, client: Any, books: Books
) -> None:
    said = client.converse(**HELLO)
    assert said["output"]["message"]["content"] == [{"text": SAID}]
    assert said["usage"] == {"inputTokens": 2, "outputTokens": 9, "totalTokens": 11}
    assert said["ResponseMetadata"]["HTTPHeaders"]["x-gov-request-id"].startswith("req_")
    [exchange] = sidecar.provider.exchanges
    assert exchange.header(b"authorization") == b"Bearer sk-upstream"
    [record] = until(books.records)
    assert (record.protocol, record.model_requested, record.settlement) == ("bedrock", MODEL, "exact")
    # $0.035 and $0.14 a million tokens
    assert record.cost_usd == "0.000001330"


def test_a_stream_comes_piece_by_piece_and_is_metered_exactly(client: Any, books: Books) -> None:
    events = events_of(client.converse_stream(**HELLO))
    assert text_of(events) == SAID
    assert [*events[-1]] == ["metadata"]
    assert sum("contentBlockDelta" in event for event in events) == 5
    [record] = until(books.records)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 9)
    assert (record.settlement, record.cost_usd) == ("exact", "0.000001330")


def test_a_tool_call_arrives_whole_streamed_or_not(sidecar: RunningSidecar, client: Any) -> None:
    sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
    tool = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": {"type": "object"}}}}
    config = {"toolConfig": {"tools": [tool]}}
    [block] = client.converse(**HELLO, **config)["output"]["message"]["content"]
    assert (block["toolUse"]["name"], block["toolUse"]["input"]) == ("get_weather", {"city": "Berlin"})
    events = events_of(client.converse_stream(**HELLO, **config))
    started = [event["contentBlockStart"]["start"] for event in events if "contentBlockStart" in event]
    assert started == [{"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather"}}]
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["toolUse"]["input"] for delta in deltas) == '{"city": "Berlin"}'


def test_a_profile_named_by_its_arn_is_the_model_and_reaches_the_upstream_as_it_was_written(
    sidecar: RunningSidecar, client: Any, books: Books
) -> None:
    client.converse(**HELLO | {"modelId": ARN})
    assert sidecar.provider.exchanges[-1].path == f"/model/{ARN}/converse"
    [record] = until(books.records)
    assert record.model_requested == MODEL


def test_counting_tokens_is_free_and_asks_for_no_price(client: Any, books: Books) -> None:
    asked = {"converse": {"messages": HELLO["messages"]}}
    assert client.count_tokens(modelId="unpriced", input=asked)["inputTokens"] == 2
    [record] = until(books.records)
    assert (record.protocol, record.cost_usd) == ("bedrock.count_tokens", "0.000000000")
    assert books.audit().differences == []


def test_a_token_is_taken_wherever_clients_can_put_it(sidecar: RunningSidecar) -> None:
    url = f"{sidecar.url}/model/{MODEL}/converse"
    signed = "AWS4-HMAC-SHA256 Credential={}/20261122/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0"
    for headers in (
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": signed.format("AKIA0"), "x-api-key": SECRET},
        {"authorization": signed.format(SECRET), "x-amz-security-token": "a session's"},
    ):
        assert httpx.post(url, json=HELLO | {"modelId": None}, headers=headers).status_code == 200
        exchange = sidecar.provider.exchanges[-1]
        assert exchange.header(b"authorization") == b"Bearer sk-upstream"
        assert exchange.header(b"x-api-key") is exchange.header(b"x-amz-security-token") is None
    unknown = httpx.post(url, json=HELLO, headers={"authorization": signed.format("AKIA0")})
    assert (unknown.status_code, unknown.headers["x-amzn-errortype"]) == (401, "UnrecognizedClientException")


# Refusals ------------------------------------------------------------------------------------------


def refused_by(call: Callable[..., Any], **more: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as refused:
        call(**{**HELLO, **more})
    response: Any = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_budget_refusal_is_throttling_that_says_which_limit(run_sidecar: Run, client_of: Any) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0.00000001}
    sidecar = run_sidecar(limits=[limit])
    client = client_of(sidecar)
    with pytest.raises(client.exceptions.ThrottlingException, match="poor"):
        client.converse(**HELLO)
    assert refused_by(client.converse_stream) == (429, "ThrottlingException")
    assert sidecar.provider.exchanges == []


def test_a_rate_refusal_is_retried_by_the_sdk_after_the_time_that_it_is_told(
    run_sidecar: Run, client_of: Any
) -> None:
    limit = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "1/second"}
    sidecar = run_sidecar(limits=[limit])
    patient = client_of(sidecar, retries={"mode": "standard", "total_max_attempts": 6})
    patient.converse(**HELLO)
    said = patient.converse(**HELLO)
    assert said["ResponseMetadata"]["RetryAttempts"] == 1
    assert len(sidecar.provider.exchanges) == 2


def test_each_refusal_is_the_error_that_aws_would_answer(run_sidecar: Run, client_of: Any) -> None:
    sidecar = run_sidecar(max_body_bytes=2000, connect_timeout=0.2, first_byte_timeout=0.3)
    client, nobody = client_of(sidecar), client_of(sidecar, key="nobody")
    sidecar.provider.next(Script(never_answers=True))
    long = [{"role": "user", "content": [{"text": "word " * 1000}]}]
    assert refused_by(client.converse) == (504, "ModelTimeoutException")
    assert refused_by(nobody.converse) == (401, "UnrecognizedClientException")
    assert refused_by(client.converse, modelId="unpriced") == (400, "ValidationException")
    assert refused_by(client.converse, messages=long) == (413, "ValidationException")
    with pytest.raises(ClientError) as forbidden:
        client.invoke_model(modelId=MODEL, body=b'{"messages": []}')
    error: Any = forbidden.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert "no protocol here can meter it" in error["Message"]


def test_an_upstream_error_arrives_as_it_was(sidecar: RunningSidecar, client: Any) -> None:
    kind = ((b"x-amzn-errortype", b"ModelNotReadyException"),)
    sidecar.provider.next(Script(status=429, headers=kind, body=b'{"message": "Not ready."}'))
    with pytest.raises(client.exceptions.ModelNotReadyException, match="Not ready"):
        client.converse(**HELLO)


def test_a_stream_that_breaks_off_raises_in_the_sdk_and_is_charged_for_what_came(
    sidecar: RunningSidecar, client: Any, books: Books
) -> None:
    sidecar.provider.next(Script(breaks_after=4))
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        events_of(client.converse_stream(**HELLO))
    [record] = until(books.records)
    assert record.settlement == "aborted"
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 6)


def test_a_stream_past_its_budget_ends_as_if_at_its_output_limit(
    run_sidecar: Run, client_of: Any, books: Books
) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "output_tokens", "window": "month", "hard": 400}
    sidecar = run_sidecar(limits=[limit], slice_output_tokens=64)
    sidecar.provider.script = Script(text="word " * 2000, pieces=400)
    asked = HELLO | {"inferenceConfig": {"maxTokens": 8000}}
    events = events_of(client_of(sidecar).converse_stream(**asked))
    assert [event["messageStop"] for event in events if "messageStop" in event] == [
        {"stopReason": "max_tokens"}
    ]
    [record] = until(books.records)
    assert record.usage is not None
    assert 200 < record.usage.output_tokens <= 400
    assert events[-1]["metadata"]["usage"]["outputTokens"] <= record.usage.output_tokens
    assert books.audit().differences == []


# Streams that are ended before their time, as the SDK reads them ----------------------------------------


@pytest.mark.parametrize("tool", [None, "get_weather"], ids=["text", "tool call"])
def test_a_stream_ends_validly_after_any_of_its_frames(tool: str | None) -> None:
    text = SAID if tool is None else '{"city": "Berlin"}'
    whole = answer({"messages": []}, text=text, tool=tool, usage=None)
    frames = [*whole.as_frames(pieces=5)]
    protocol = recognise("POST", f"/model/{MODEL}/converse-stream")
    assert protocol is not None
    for cut in range(len(frames)):
        reader = protocol.usage_reader(stream=True, usage_was_injected=False, may_be_cut=True)
        begun = b"".join(frames[:cut]) + frames[cut][:20]  # and a part of the next
        used = Usage(input_tokens=11, output_tokens=7)
        sent = EventStreamBuffer()  # checks every checksum
        sent.add_data(reader.feed(begun) + reader.cut(used, model="asked-for", request_id="req_1"))
        kinds = [event.to_response_dict()["headers"][":event-type"] for event in sent]
        assert kinds[0] == "messageStart"
        assert kinds[-2:] == ["messageStop", "metadata"]
        assert kinds.count("messageStart") == kinds.count("messageStop") == 1
        begun_blocks = "contentBlockDelta" in kinds or "contentBlockStart" in kinds
        assert kinds.count("contentBlockStop") == begun_blocks
