"""Refusals in Anthropic's envelope, as Anthropic's own SDK reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx2
import pytest
from tests.protocols.failures import budget_exhausted, evaluation, rate_limited

from govmiddleware.core import refusals
from govmiddleware.core.limits import Meter
from govmiddleware.core.refusals import Refusal, Unavailable
from govmiddleware.protocols.registry import recognise, unrecognised

ROUTES = ["/v1/messages", "/v1/messages/count_tokens"]
ASK: Any = {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}


def headers_of(refusal: Refusal) -> dict[str, str]:
    response = unrecognised([(b"anthropic-version", b"2023-06-01")]).refusal(refusal, "req-1")
    return {name.decode(): value.decode() for name, value in response.headers}


def ask(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> tuple[anthropic.APIStatusError, int, list[float]]:
    """What the SDK raises, after how many attempts, and the waits between them in seconds."""
    attempts = 0
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)

    def serve(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        protocol = recognise("POST", request.url.path)
        assert protocol is not None
        response = protocol.refusal(refusal, "req-1")
        return httpx2.Response(response.status, headers=response.headers, content=response.body)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as http:
        client = anthropic.Anthropic(api_key="x", http_client=http, max_retries=2)
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(**ASK)
    return caught.value, attempts, waits


CASES: list[tuple[str, Callable[[], Refusal], type[anthropic.APIStatusError], int, str, int]] = [
    ("bad", lambda: refusals.InvalidRequest("m", param="n"), anthropic.BadRequestError, 400, "invalid_request_error", 1),
    ("unpriced", lambda: refusals.ModelNotPriced("m"), anthropic.BadRequestError, 400, "invalid_request_error", 1),
    ("unknown", lambda: refusals.Unauthenticated("m"), anthropic.AuthenticationError, 401, "authentication_error", 1),
    ("budget", budget_exhausted, anthropic.PaymentRequiredError, 402, "billing_error", 1),
    ("forbidden", lambda: refusals.RouteNotMetered("m"), anthropic.PermissionDeniedError, 403, "permission_error", 1),
    ("nowhere", lambda: refusals.ModelNotFound("m"), anthropic.NotFoundError, 404, "not_found_error", 1),
    ("slow body", lambda: refusals.BodyTooSlow("m"), anthropic.RequestTimeoutError, 408, "timeout_error", 3),
    ("large", lambda: refusals.BodyTooLarge("m"), anthropic.ContentTooLargeError, 413, "request_too_large", 1),
    ("encoded", lambda: refusals.UnsupportedEncoding("m"), anthropic.APIStatusError, 415, "invalid_request_error", 1),
    ("logins", lambda: refusals.TooManyFailedLogins("m"), anthropic.RateLimitError, 429, "rate_limit_error", 3),
    ("rate", lambda: rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1)), anthropic.RateLimitError, 429, "rate_limit_error", 3),
    ("never fits", lambda: rate_limited(evaluation(Meter.TOTAL_TOKENS, 60, 0, 61)), anthropic.RateLimitError, 429, "rate_limit_error", 1),
    ("upstream", lambda: refusals.UpstreamFailed("m"), anthropic.InternalServerError, 502, "api_error", 3),
    ("draining", lambda: Unavailable("m", code="draining"), anthropic.ServiceUnavailableError, 503, "overloaded_error", 3),
    ("slow", lambda: refusals.UpstreamTooSlow("m"), anthropic.GatewayTimeoutError, 504, "timeout_error", 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("refusal", "kind", "status", "error_type", "attempts"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_the_sdk_raises_what_it_raises_for_anthropic_and_retries_what_is_worth_it(
    refusal: Callable[[], Refusal],
    kind: type[anthropic.APIStatusError],
    status: int,
    error_type: str,
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, made, _ = ask(refusal(), monkeypatch)
    assert isinstance(error, kind)
    assert (error.status_code, made, error.request_id) == (status, attempts, "req-1")
    body: Any = error.body
    assert (body["type"], body["request_id"]) == ("error", "req-1")
    details = body["error"]
    assert (details["type"], details["message"]) == (error_type, str(refusal()))
    assert (details["code"], details["param"]) == (refusal().code, refusal().param)


def test_a_wait_is_waited_for_and_a_long_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = evaluation(Meter.REQUESTS, 60, 58, 1)
    assert ask(rate_limited(failure, retry_after_ms=1_500), monkeypatch)[1:] == (3, [1.5, 1.5])
    assert ask(rate_limited(failure, retry_after_ms=120_001), monkeypatch)[1:] == (1, [])
    headers = headers_of(rate_limited(failure, retry_after_ms=120_001))
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


def test_rate_limit_headers_are_those_of_anthropic() -> None:
    failures = (
        evaluation(Meter.REQUESTS, 60, 58, 1, 90_000),
        evaluation(Meter.CONCURRENCY, 5, 3, 1),
        evaluation(Meter.INPUT_TOKENS, 500, 100, 600),
        evaluation(Meter.OUTPUT_TOKENS, 1_000, 1_500, 10, 1),
        evaluation(Meter.TOTAL_TOKENS, 2_000, 8, 2_000),
    )
    now = datetime.now(UTC)
    headers = headers_of(rate_limited(*failures))
    resets = datetime.fromisoformat(headers.pop("anthropic-ratelimit-requests-reset"))
    assert timedelta(seconds=88) < resets - now <= timedelta(seconds=91)
    assert headers.pop("anthropic-ratelimit-output-tokens-reset").endswith("Z")
    assert {name: value for name, value in headers.items() if name.startswith("anthropic")} == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-input-tokens-limit": "500",
        "anthropic-ratelimit-input-tokens-remaining": "398",
        "anthropic-ratelimit-output-tokens-limit": "1000",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-limit": "2000",
        "anthropic-ratelimit-tokens-remaining": "1990",
    }


def test_a_limit_refusal_names_every_limit_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    error, _, _ = ask(budget_exhausted(), monkeypatch)
    body: Any = error.body
    [limit] = body["error"]["limits"]
    assert (limit["name"], limit["value"], limit["maximum"]) == ("cost_usd-limit", "ann", "10.000000000")
    assert "retry-after" not in error.response.headers


@pytest.mark.parametrize("path", ROUTES)
def test_an_error_in_mid_stream_is_raised_by_the_sdk(path: str) -> None:
    protocol = recognise("POST", path)
    assert protocol is not None
    broken = protocol.stream_error(refusals.UpstreamFailed("The upstream broke off."), "req-1")
    message = {"id": "1", "type": "message", "role": "assistant", "content": [], "model": "m"}
    started = {"type": "message_start", "message": {**message, "usage": {}}}
    start = b"event: message_start\ndata: " + json.dumps(started).encode() + b"\n\n"

    def serve(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=start + broken)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as http:
        client = anthropic.Anthropic(api_key="x", http_client=http, max_retries=0)
        stream = client.messages.create(**ASK, stream=True)
        assert next(stream).type == "message_start"
        with pytest.raises(anthropic.APIStatusError, match=r"The upstream broke off\.") as caught:
            next(stream)
    body: Any = caught.value.body
    assert body["error"]["code"] == "upstream_unreachable"


def test_who_does_not_speak_to_anthropic_is_refused_in_openais_envelope() -> None:
    response = unrecognised([(b"content-type", b"application/json")]).refusal(refusals.Forbidden("m"), "r")
    assert "type" not in json.loads(response.body)


def test_a_budgets_refusal_ends_with_its_link_and_has_it_beside_the_limits() -> None:
    refusal = budget_exhausted()
    refusal.link = "https://gov.example/gov/refusals/abc"
    envelope = unrecognised([(b"anthropic-version", b"2023-06-01")])
    error = json.loads(envelope.refusal(refusal, "req-1").body)["error"]
    assert error["override_url"] == refusal.link
    assert error["message"].endswith(refusal.link)
