"""Batches through the sidecar: refused, or reserved where their requests are in the call; the official SDKs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar

from govmiddleware.testing import Script

Run = Callable[..., RunningSidecar]

SUBMITTED = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-22T12:00:00Z",
    "expires_at": "2026-11-23T12:00:00Z",
    "ended_at": None,
    "results_url": None,
}
OPENAI_BATCH: Any = {
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


def one(model: str = "claude-sonnet-4-5", **fields: Any) -> Any:
    said = [{"role": "user", "content": "Say hello"}]
    return {"custom_id": "one", "params": {"model": model, "max_tokens": 100, "messages": said, **fields}}


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


@pytest.fixture
def reserving(run_sidecar: Run) -> RunningSidecar:
    return run_sidecar(batches="reserve")


def claude(sidecar: RunningSidecar) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sidecar.url, api_key=SECRET, max_retries=0)


def google(sidecar: RunningSidecar) -> genai.Client:
    return genai.Client(api_key=SECRET, http_options=types.HttpOptions(base_url=sidecar.url))


def test_batches_are_refused_as_each_sdk_understands(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    with sidecar.client() as client, pytest.raises(openai.PermissionDeniedError, match="reserve") as theirs:
        client.batches.create(**OPENAI_BATCH)
    assert theirs.value.code == "route_not_metered"
    with claude(sidecar) as messages, pytest.raises(anthropic.PermissionDeniedError, match="reserve"):
        messages.messages.batches.create(requests=[one()])
    with google(sidecar) as gemini, pytest.raises(errors.ClientError, match="reserve"):
        gemini.batches.create(model="gemini-2.5-flash", src=[{"contents": "Hello"}])
    assert sidecar.provider.exchanges == []


def test_a_batch_of_messages_is_charged_what_its_requests_may_cost(
    reserving: RunningSidecar, books: Books
) -> None:
    reserving.provider.next(Script(body=json.dumps(SUBMITTED).encode()))
    with claude(reserving) as client:
        batch = client.messages.batches.create(requests=[one(), one(max_tokens=50)])
    assert batch.processing_status == "in_progress"
    [exchange], [record] = reserving.provider.exchanges, books.records()
    assert exchange.body == {"requests": [one(), one(max_tokens=50)]}
    assert (record.protocol, record.settlement) == ("anthropic.batches", "estimated")
    assert record.usage is not None
    assert record.bound is not None
    assert record.usage.output_tokens == 150
    dearest = (
        record.usage.input_tokens * 1.875 + 150 * 7.5
    )  # half of $3, at most x 1.25 for the cache; half of $15
    assert record.cost_usd == record.bound["cost_usd"] == f"{dearest / 1_000_000:.9f}"


def test_a_batch_that_the_provider_refuses_costs_nothing(reserving: RunningSidecar, books: Books) -> None:
    reserving.provider.next(Script(status=400))
    with claude(reserving) as client, pytest.raises(anthropic.BadRequestError):
        client.messages.batches.create(requests=[one()])
    assert [record.cost_usd for record in books.records()] == ["0.000000000"]


def test_a_batch_that_cannot_be_reserved_is_refused(reserving: RunningSidecar) -> None:
    cases: list[tuple[Any, str]] = [
        ([], "no requests"),
        ([one(), one("claude-haiku-4-5")], "one model"),
        ([{"custom_id": "one"}], "'params'"),
        ([one(max_tokens="many")], "max_tokens"),
        ([one(speed="fast")], "tier"),
    ]
    with claude(reserving) as client:
        for requests, problem in cases:
            with pytest.raises(anthropic.BadRequestError, match=problem):
                client.messages.batches.create(requests=requests)
    assert reserving.provider.exchanges == []


def test_a_batch_of_files_is_refused_whatever_the_setting(reserving: RunningSidecar) -> None:
    with reserving.client() as client, pytest.raises(openai.PermissionDeniedError, match="in a file"):
        client.batches.create(**OPENAI_BATCH)
    with google(reserving) as gemini, pytest.raises(errors.ClientError, match="in a file"):
        gemini.batches.create(model="gemini-2.5-flash", src="files/1")


def test_a_batch_of_contents_is_charged_the_most_that_the_model_says(
    reserving: RunningSidecar, books: Books
) -> None:
    answer = {"name": "batches/1", "metadata": {"state": "BATCH_STATE_PENDING"}}
    reserving.provider.next(Script(body=json.dumps(answer).encode()))
    limited = {"contents": "Hello", "config": {"max_output_tokens": 10}}
    with google(reserving) as client:
        client.batches.create(model="gemini-2.5-flash", src=[limited, {"contents": "Hello"}])
    [record] = books.records()
    assert (record.protocol, record.settlement) == ("gemini.batches", "estimated")
    assert record.usage is not None
    assert record.usage.output_tokens == 2 * 65_535  # each as the one that nothing limits


def test_batches_are_listed_fetched_and_cancelled(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(body=json.dumps({**SUBMITTED, "data": []}).encode())
    with claude(sidecar) as client:
        client.messages.batches.list()
        client.messages.batches.retrieve("msgbatch_1")
        client.messages.batches.cancel("msgbatch_1")
        client.messages.batches.delete("msgbatch_1")
    with sidecar.client() as client_of_openai:
        client_of_openai.batches.cancel("batch_1")
        with pytest.raises(openai.PermissionDeniedError):
            client_of_openai.post("/batches/batch_1/resubmit", cast_to=object)
    with google(sidecar) as gemini:
        gemini.batches.cancel(name="batches/1")
        gemini.batches.delete(name="batches/1")
    assert len(sidecar.provider.exchanges) == 7
