"""OpenAI's error envelope: shared by its protocols, and the one that unrecognised routes answer in.

    {"error": {"message", "type", "param", "code", "limits": [...], "override_url"}}

Sources: platform.openai.com/docs/guides/error-codes and /rate-limits; what openai-python's
`_base_client.py` does with `x-should-retry`, `retry-after-ms` and `retry-after` (at most 120 s).
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.limits import Meter
from govmiddleware.core.ports import Headers, RefusalResponse
from govmiddleware.core.refusals import BudgetExhausted, LimitRefusal, RateLimited, Refusal
from govmiddleware.protocols.refusal_parts import (
    failed_limits,
    message,
    rate_limits,
    remaining,
    retry_headers,
)

_KINDS = {
    Meter.REQUESTS: "requests",
    Meter.CONCURRENCY: "requests",
    Meter.INPUT_TOKENS: "tokens",
    Meter.OUTPUT_TOKENS: "tokens",
    Meter.TOTAL_TOKENS: "tokens",
}
"""OpenAI counts requests and tokens; what is neither has no headers."""


def refusal_response(refusal: Refusal, request_id: str) -> RefusalResponse:
    """The whole answer. Headers carry no content-length: who sends it adds that."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode("ascii", "replace")),
        *retry_headers(refusal),
    ]
    if isinstance(refusal, RateLimited):
        headers += _rate_limit_headers(refusal)
    return RefusalResponse(refusal.status, headers, error_body(refusal))


def error_body(refusal: Refusal) -> bytes:
    """The envelope as JSON."""
    error: dict[str, Any] = {
        "message": message(refusal),
        "type": _type_of(refusal),
        "param": refusal.param,
        "code": refusal.code,
    }
    if isinstance(refusal, LimitRefusal):
        error["limits"] = failed_limits(refusal)
        error["override_url"] = refusal.link
    return msgspec.json.encode({"error": error})


def stream_error(refusal: Refusal) -> bytes:
    """An error in mid-stream: openai-python raises APIError on it. No `[DONE]` follows, which would
    tell other clients that the answer is whole."""
    return b"data: " + error_body(refusal) + b"\n\n"


def stream_error_event(refusal: Refusal) -> bytes:
    """The same in a stream of typed events: the flat `error` event of the responses API, and in it the envelope's
    `error`, without which openai-python would pass it on as an event like any other."""
    envelope = msgspec.json.decode(error_body(refusal))
    flat = {"code": refusal.code, "message": str(refusal), "param": refusal.param, "sequence_number": 0}
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", **flat, **envelope}) + b"\n\n"


def _type_of(refusal: Refusal) -> str:
    if isinstance(refusal, BudgetExhausted):
        return "insufficient_quota"
    if isinstance(refusal, RateLimited):
        first = refusal.failures[0].limit.meter if refusal.failures else Meter.REQUESTS
        return _KINDS.get(first, "requests")
    if refusal.status == 429:
        return "requests"
    if refusal.status == 503:
        return "server_error"
    return "api_error" if refusal.status >= 500 else "invalid_request_error"


def _rate_limit_headers(refusal: RateLimited) -> Headers:
    headers: Headers = []
    for kind, failure in rate_limits(refusal, _KINDS):
        headers.append((f"x-ratelimit-limit-{kind}".encode(), b"%d" % failure.limit.hard))
        headers.append((f"x-ratelimit-remaining-{kind}".encode(), b"%d" % remaining(failure)))
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
