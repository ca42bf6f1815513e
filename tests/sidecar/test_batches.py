"""Batches through the sidecar: refused, or reserved where their requests are in the call; the official SDKs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
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
AS_GOOGLE = {"x-goog-api-key": SECRET}
OPENAI_BATCH: Any = {
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}


def one(model: str = "claude-sonnet-4-5", **fields: Any) -> Any:
    said = [{"role": "user", "content": "Say hello"}]
    return {"custom_id": "one", "params": {"model": model, "max_tokens": 100, "messages": said, **fields}}


def claude(sidecar: RunningSidecar) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sidecar.url, api_key=SECRET, max_retries=0)


def test_batches_are_refused_but_listed_fetched_and_cancelled(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(body=json.dumps({**SUBMITTED, "data": []}).encode())
    with sidecar.client() as client:
        with pytest.raises(openai.PermissionDeniedError, match="reserve") as refused:
            client.batches.create(**OPENAI_BATCH)
        assert refused.value.code == "route_not_metered"
        assert sidecar.provider.exchanges == []
        client.batches.cancel("batch_1")
        with pytest.raises(openai.PermissionDeniedError):
            client.post("/batches/batch_1/resubmit", cast_to=object)
    with claude(sidecar) as messages:
        messages.messages.batches.list()
        messages.messages.batches.retrieve("msgbatch_1")
        messages.messages.batches.cancel("msgbatch_1")
        with pytest.raises(anthropic.PermissionDeniedError):
            messages.messages.batches.delete("msgbatch_1")
    assert httpx.post(f"{sidecar.url}/v1beta/batches/1:cancel", headers=AS_GOOGLE, json={}).is_success
    assert len(sidecar.provider.exchanges) == 5


def test_a_batch_is_charged_what_its_requests_may_cost_once_it_is_accepted(
    run_sidecar: Run, gov_store: str
) -> None:
    reserving = run_sidecar(batches="reserve")
    reserving.provider.next(Script(body=json.dumps(SUBMITTED).encode()))
    reserving.provider.next(Script(status=400))
    with claude(reserving) as client:
        batch = client.messages.batches.create(requests=[one(), one(max_tokens=50)])
        assert batch.processing_status == "in_progress"
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.create(requests=[one()])
    with reserving.client() as other, pytest.raises(openai.PermissionDeniedError, match="in a file"):
        other.batches.create(**OPENAI_BATCH)
    accepted, _ = reserving.provider.exchanges
    assert accepted.body == {"requests": [one(), one(max_tokens=50)]}
    record, nothing = Books(gov_store).records()
    assert (record.protocol, record.settlement) == ("anthropic.batches", "estimated")
    assert record.usage is not None
    assert record.bound is not None
    assert record.usage.output_tokens == 150
    dearest = (
        record.usage.input_tokens * 1.875 + 150 * 7.5
    )  # half of $3, at most x 1.25 for the cache; half of $15
    assert record.cost_usd == record.bound["cost_usd"] == f"{dearest / 1_000_000:.9f}"
    assert nothing.cost_usd == "0.000000000"
