"""Anthropic's error envelope.

    {"type": "error", "error": {"type", "message", "code", "param", "limits": [...], "override_url"}, "request_id"}

Sources: platform.claude.com/docs/en/api/errors and /rate-limits; what anthropic-sdk-python 2.12 makes of it
(`_client.py`, `_streaming.py`).
"""

from __future__ import annotations

import time
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
    resets_at,
    retry_headers,
)

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_KINDS = {
    Meter.REQUESTS: "requests",
    Meter.CONCURRENCY: "requests",
    Meter.INPUT_TOKENS: "input-tokens",
    Meter.OUTPUT_TOKENS: "output-tokens",
    Meter.TOTAL_TOKENS: "tokens",
}


def refusal_response(refusal: Refusal, request_id: str) -> RefusalResponse:
    """The whole answer. Headers carry no content-length: who sends it adds that."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"request-id", request_id.encode("ascii", "replace")),
        *retry_headers(refusal),
    ]
    if isinstance(refusal, RateLimited):
        headers += _rate_limit_headers(refusal)
    return RefusalResponse(_status(refusal), headers, error_body(refusal, request_id))


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """The envelope as JSON."""
    status = _status(refusal)
    error: dict[str, Any] = {
        "type": _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error"),
        "message": message(refusal),
        "code": refusal.code,
        "param": refusal.param,
    }
    if isinstance(refusal, LimitRefusal):
        error["limits"] = failed_limits(refusal)
        error["override_url"] = refusal.link
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def stream_error(refusal: Refusal, request_id: str) -> bytes:
    """An error in mid-stream. Without the line that names the event, the SDK would pass over it."""
    return b"event: error\ndata: " + error_body(refusal, request_id) + b"\n\n"


def _status(refusal: Refusal) -> int:
    return 402 if isinstance(refusal, BudgetExhausted) else refusal.status


def _rate_limit_headers(refusal: RateLimited) -> Headers:
    headers: Headers = []
    now = time.time()
    for kind, failure in rate_limits(refusal, _KINDS):
        prefix = f"anthropic-ratelimit-{kind}".encode()
        headers.append((prefix + b"-limit", b"%d" % failure.limit.hard))
        headers.append((prefix + b"-remaining", b"%d" % remaining(failure)))
        reset = resets_at(failure, now)
        if reset is not None:
            headers.append((prefix + b"-reset", reset.encode()))
    return headers
