"""OpenAI's error envelope: shared by its protocols, and the one that unrecognised routes answer in.

    {"error": {"message", "type", "param", "code", "limits": [...]}}

Sources: platform.openai.com/docs/guides/error-codes and /rate-limits; what openai-python's
`_base_client.py` does with `x-should-retry`, `retry-after-ms` and `retry-after` (at most 120 s).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from govmiddleware.core.limits import Meter
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import Headers, RefusalResponse
from govmiddleware.core.refusals import BudgetExhausted, Evaluation, LimitRefusal, RateLimited, Refusal

LONGEST_RETRY_AFTER_MS = 120_000
"""What openai-python waits at most. A longer wait is not worth holding a connection's caller."""

_TOKEN_METERS = frozenset({Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.TOTAL_TOKENS})


def refusal_response(refusal: Refusal, request_id: str) -> RefusalResponse:
    """The whole answer. Headers carry no content-length: who sends it adds that."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode("ascii", "replace")),
        *_retry_headers(refusal),
    ]
    if isinstance(refusal, RateLimited):
        headers += _rate_limit_headers(refusal)
    return RefusalResponse(refusal.status, headers, error_body(refusal))


def error_body(refusal: Refusal) -> bytes:
    """The envelope as JSON."""
    error: dict[str, Any] = {
        "message": str(refusal),
        "type": _type_of(refusal),
        "param": refusal.param,
        "code": refusal.code,
    }
    if isinstance(refusal, LimitRefusal):
        now = time.time()
        error["limits"] = [_limit(failure, now) for failure in refusal.failures]
    return msgspec.json.encode({"error": error})


def stream_error(refusal: Refusal) -> bytes:
    """An error in mid-stream: openai-python raises APIError on it. No `[DONE]` follows, which would
    tell other clients that the answer is whole."""
    return b"data: " + error_body(refusal) + b"\n\n"


def _type_of(refusal: Refusal) -> str:
    if isinstance(refusal, BudgetExhausted):
        return "insufficient_quota"
    if isinstance(refusal, RateLimited):
        first = refusal.failures[0].limit.meter if refusal.failures else Meter.REQUESTS
        return _kind(first)
    if refusal.status == 429:
        return "requests"
    if refusal.status == 503:
        return "server_error"
    return "api_error" if refusal.status >= 500 else "invalid_request_error"


def _kind(meter: Meter) -> str:
    return "tokens" if meter in _TOKEN_METERS else "requests"


def _limit(failure: Evaluation, now: float) -> dict[str, Any]:
    limit = failure.limit
    return {
        "name": limit.name,
        "scope": str(limit.scope),
        "value": failure.value,
        "meter": str(limit.meter),
        "used": _amount(limit.meter, failure.consumed),
        "reserved": _amount(limit.meter, failure.reserved),
        "requested": _amount(limit.meter, failure.asked),
        "maximum": _amount(limit.meter, limit.hard),
        "resets_at": _resets_at(failure.frees_in_ms, now),
    }


def _amount(meter: Meter, amount: int) -> int | str:
    return usd_text(amount) if meter is Meter.COST_USD else amount


def _resets_at(frees_in_ms: int | None, now: float) -> str | None:
    if frees_in_ms is None:
        return None
    moment = datetime.fromtimestamp(now + frees_in_ms / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _retry_headers(refusal: Refusal) -> Headers:
    wait_ms = refusal.retry_after_ms
    too_long = wait_ms is not None and wait_ms > LONGEST_RETRY_AFTER_MS
    if refusal.retryable is False or too_long:
        # No wait beside a "do not": SDKs that know only retry-after would sleep through it.
        return [(b"x-should-retry", b"false")]
    headers: Headers = []
    if refusal.retryable:
        headers.append((b"x-should-retry", b"true"))
    if wait_ms is not None:
        wait_ms = max(wait_ms, 1)
        headers.append((b"retry-after", b"%d" % -(-wait_ms // 1000)))
        headers.append((b"retry-after-ms", b"%d" % wait_ms))
    return headers


def _rate_limit_headers(refusal: RateLimited) -> Headers:
    """One triple for requests and one for tokens, each of the first limit of its kind that failed."""
    headers: Headers = []
    told: set[str] = set()
    for failure in refusal.failures:
        kind = _kind(failure.limit.meter)
        if kind in told or failure.limit.meter is Meter.COST_USD:
            continue
        told.add(kind)
        remaining = max(0, failure.limit.hard - failure.consumed - failure.reserved)
        headers.append((f"x-ratelimit-limit-{kind}".encode(), b"%d" % failure.limit.hard))
        headers.append((f"x-ratelimit-remaining-{kind}".encode(), b"%d" % remaining))
        if failure.frees_in_ms is not None:
            reset = duration_text(failure.frees_in_ms).encode()
            headers.append((f"x-ratelimit-reset-{kind}".encode(), reset))
    return headers


def duration_text(milliseconds: int) -> str:
    """A wait as OpenAI writes it, whole seconds rounded up.

    >>> duration_text(1), duration_text(360_000), duration_text(3_661_000)
    ('1s', '6m0s', '1h1m1s')
    """
    minutes, seconds = divmod(-(-milliseconds // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
