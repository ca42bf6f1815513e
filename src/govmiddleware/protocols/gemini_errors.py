"""Google's error envelope.

    {"error": {"code", "message", "status", "details": [ErrorInfo, RetryInfo?], "limits": [...]}}

Sources: google.aip.dev/193, google/rpc/code.proto and error_details.proto; what google-genai 3.4 makes of it
(`errors.py`, `_api_client.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.ports import Headers, RefusalResponse
from govmiddleware.core.refusals import LimitRefusal, Refusal
from govmiddleware.protocols.refusal_parts import failed_limits, retry_headers

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_DOMAIN = "govmiddleware"
_TYPES = "type.googleapis.com/google.rpc."


def refusal_response(refusal: Refusal, request_id: str) -> RefusalResponse:
    """The whole answer. Headers carry no content-length: who sends it adds that."""
    headers: Headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"x-request-id", request_id.encode("ascii", "replace")),
        *retry_headers(refusal),
    ]
    return RefusalResponse(refusal.status, headers, error_body(refusal))


def error_body(refusal: Refusal) -> bytes:
    """The envelope as JSON."""
    metadata = {"param": refusal.param} if refusal.param else {}
    details: list[dict[str, Any]] = [
        {
            "@type": _TYPES + "ErrorInfo",
            "reason": refusal.code.upper(),
            "domain": _DOMAIN,
            "metadata": metadata,
        }
    ]
    waits = [value.decode() for name, value in retry_headers(refusal) if name == b"retry-after"]
    details += [{"@type": _TYPES + "RetryInfo", "retryDelay": f"{seconds}s"} for seconds in waits]
    error: dict[str, Any] = {
        "code": refusal.status,
        "message": str(refusal),
        "status": _STATUSES.get(refusal.status, "INTERNAL"),
        "details": details,
    }
    if isinstance(refusal, LimitRefusal):
        error["limits"] = failed_limits(refusal)
    return msgspec.json.encode({"error": error})


def stream_error(refusal: Refusal) -> bytes:
    """An error in mid-stream."""
    return b"data: " + error_body(refusal) + b"\n\n"
