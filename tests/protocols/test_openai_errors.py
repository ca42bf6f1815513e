"""Refusals in OpenAI's envelope, as OpenAI's own SDK reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import openai
import pytest
from tests.protocols.failures import budget_exhausted, evaluation, rate_limited

from govmiddleware.core import refusals
from govmiddleware.core.limits import Meter
from govmiddleware.core.refusals import Refusal, Unavailable
from govmiddleware.protocols.openai_errors import duration_text
from govmiddleware.protocols.registry import UNRECOGNISED, recognise


def answer(refusal: Refusal) -> tuple[dict[str, str], dict[str, Any]]:
    response = UNRECOGNISED.refusal(refusal, "req-1")
    assert response.status == refusal.status
    return {name.decode(): value.decode() for name, value in response.headers}, json.loads(response.body)[
        "error"
    ]


def ask(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> tuple[openai.APIStatusError, int, list[float]]:
    """What the SDK raises, after how many attempts, and the waits between them in seconds."""
    attempts = 0
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)

    def serve(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        chat = recognise("POST", request.url.path)
        assert chat is not None
        response = chat.refusal(refusal, "req-1")
        return httpx2.Response(response.status, headers=response.headers, content=response.body)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as http:
        client = openai.OpenAI(api_key="x", base_url="http://gov.test/v1", http_client=http, max_retries=2)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    return caught.value, attempts, waits


CASES: list[tuple[Callable[[], Refusal], type[openai.APIStatusError], str, str, int]] = [
    (lambda: refusals.InvalidRequest("m", param="n"), openai.BadRequestError, "invalid_request_error", "invalid_request", 1),
    (lambda: refusals.ModelNotPriced("m"), openai.BadRequestError, "invalid_request_error", "model_not_priced", 1),
    (lambda: refusals.Unauthenticated("m"), openai.AuthenticationError, "invalid_request_error", "invalid_api_key", 1),
    (lambda: refusals.Forbidden("m"), openai.PermissionDeniedError, "invalid_request_error", "forbidden", 1),
    (lambda: refusals.BodyTooLarge("m"), openai.APIStatusError, "invalid_request_error", "request_too_large", 1),
    (lambda: refusals.TooManyFailedLogins("m"), openai.RateLimitError, "requests", "too_many_failed_logins", 3),
    (lambda: rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1)), openai.RateLimitError, "requests", "rate_limit_exceeded", 3),
    (lambda: rate_limited(evaluation(Meter.TOTAL_TOKENS, 60, 58, 1)), openai.RateLimitError, "tokens", "rate_limit_exceeded", 3),
    (lambda: rate_limited(evaluation(Meter.CONCURRENCY, 60, 58, 1)), openai.RateLimitError, "requests", "rate_limit_exceeded", 3),
    (lambda: rate_limited(evaluation(Meter.TOTAL_TOKENS, 60, 0, 61)), openai.RateLimitError, "tokens", "rate_limit_exceeded", 1),
    (budget_exhausted, openai.RateLimitError, "insufficient_quota", "insufficient_quota", 1),
    (lambda: refusals.UpstreamFailed("m"), openai.InternalServerError, "api_error", "upstream_unreachable", 3),
    (lambda: refusals.UpstreamTooSlow("m"), openai.InternalServerError, "api_error", "upstream_timeout", 3),
    (lambda: Unavailable("m", code="draining"), openai.InternalServerError, "server_error", "draining", 3),
]  # fmt: skip


@pytest.mark.parametrize(("refusal", "kind", "error_type", "code", "attempts"), CASES)
def test_the_sdk_raises_what_it_raises_for_openai_and_retries_what_is_worth_it(
    refusal: Callable[[], Refusal],
    kind: type[openai.APIStatusError],
    error_type: str,
    code: str,
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, made, _ = ask(refusal(), monkeypatch)
    assert isinstance(error, kind)
    assert (error.type, error.code, made) == (error_type, code, attempts)
    assert error.request_id == "req-1"
    assert str(refusal()) in error.message


def test_the_sdk_waits_as_long_as_we_say(monkeypatch: pytest.MonkeyPatch) -> None:
    _, attempts, waits = ask(
        rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1), retry_after_ms=1_500), monkeypatch
    )
    assert (attempts, waits) == (3, [1.5, 1.5])


def test_a_long_wait_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1), retry_after_ms=120_001)
    headers, _ = answer(refusal)
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert ask(refusal, monkeypatch)[1:] == (1, [])


@pytest.mark.parametrize(
    ("wait", "seconds"), [(1, "1"), (1_000, "1"), (1_001, "2"), (120_000, "120"), (0, "1")]
)
def test_retry_after_is_in_whole_seconds_rounded_up(wait: int, seconds: str) -> None:
    headers, _ = answer(rate_limited(retry_after_ms=wait))
    assert headers["retry-after"] == seconds
    assert headers["retry-after-ms"] == str(max(wait, 1))


def test_without_a_known_wait_there_is_no_retry_after() -> None:
    assert not [name for name in answer(rate_limited(retry_after_ms=None))[0] if "retry" in name]


def test_rate_limit_headers_are_those_of_openai() -> None:
    failures = (
        evaluation(Meter.REQUESTS, 60, 58, 1, 1),
        evaluation(Meter.CONCURRENCY, 5, 3, 1),
        evaluation(Meter.OUTPUT_TOKENS, 1_000, 1_500, 10, 360_000),
    )
    headers, _ = answer(rate_limited(*failures))
    assert {name: value for name, value in headers.items() if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (59_000, "59s"),
        (59_001, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (90_061_000, "25h1m1s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: str) -> None:
    assert duration_text(milliseconds) == text


def test_a_limit_refusal_names_every_limit_that_failed() -> None:
    headers, error = answer(budget_exhausted())
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    (limit,) = error["limits"]
    resets_at = datetime.fromisoformat(limit.pop("resets_at"))
    assert timedelta(hours=23) < resets_at - datetime.now(UTC) <= timedelta(hours=24, seconds=1)
    assert limit == {
        "name": "cost_usd-limit",
        "scope": "user",
        "value": "ann",
        "meter": "cost_usd",
        "used": "9.999999000",
        "reserved": "0.000000002",
        "requested": "0.000001500",
        "maximum": "10.000000000",
    }
    counted = answer(rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1)))[1]["limits"][0]
    assert (counted["used"], counted["maximum"], counted["resets_at"]) == (58, 60, None)


def test_a_wrong_field_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error, _, _ = ask(refusals.InvalidRequest("m", param="messages[0]"), monkeypatch)
    assert error.param == "messages[0]"
    assert answer(refusals.Forbidden("m"))[1]["param"] is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_an_error_in_mid_stream_is_raised_by_the_sdk(path: str) -> None:
    protocol = recognise("POST", path)
    assert protocol is not None
    broken = protocol.stream_error(refusals.UpstreamFailed("The upstream broke off."), "req-1")
    start = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'

    def serve(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=start + broken)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as http:
        client = openai.OpenAI(api_key="x", base_url="http://gov.test/v1", http_client=http, max_retries=0)
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        assert next(stream).id == "1"
        with pytest.raises(openai.APIError, match=r"The upstream broke off\.") as caught:
            next(stream)
    assert caught.value.code == "upstream_unreachable"


def test_a_budgets_refusal_ends_with_its_link_and_has_it_beside_the_limits() -> None:
    refusal = budget_exhausted()
    assert answer(refusal)[1]["override_url"] is None
    refusal.link = "https://gov.example/gov/refusals/abc"
    error = answer(refusal)[1]
    assert error["override_url"] == refusal.link
    assert error["message"] == f"The budget is spent. To ask for more: {refusal.link}"
    assert refusal.link not in str(refusal), "which logs show"


def test_a_rates_refusal_has_its_link_beside_the_limits_alone() -> None:
    refusal = rate_limited(evaluation(Meter.TOTAL_TOKENS, 60, 0, 61))
    refusal.link = "https://gov.example/gov/refusals/abc"
    error = answer(refusal)[1]
    assert (error["message"], error["override_url"]) == ("Too many.", refusal.link)
