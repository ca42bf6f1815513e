"""Bedrock's errors: `{"message": …}`, their kind in the header `x-amzn-ErrorType`.

Sources: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors; what
botocore 1.44 makes of them (`parsers.py`, `eventstream.py`, `retries/standard.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.ports import Headers, RefusalResponse
from govmiddleware.core.refusals import LimitRefusal, Refusal
from govmiddleware.protocols.aws_frames import write_frame
from govmiddleware.protocols.refusal_parts import failed_limits, message, retry_headers

_KINDS = {
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "RequestTimeoutException",
    429: "ThrottlingException",
    502: "ServiceUnavailableException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}

_KINDS_IN_STREAM = {
    429: "throttlingException",
    502: "modelStreamErrorException",
    503: "serviceUnavailableException",
    504: "modelStreamErrorException",
}
"""Of those that the operation's stream has."""


def refusal_response(refusal: Refusal, request_id: str) -> RefusalResponse:
    """The whole answer. Headers carry no content-length: who sends it adds that."""
    unknown = "InternalServerException" if refusal.status >= 500 else "ValidationException"
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-requestid", request_id.encode("ascii", "replace")),
        (b"x-amzn-errortype", _KINDS.get(refusal.status, unknown).encode()),
        *_retry_headers(refusal),
    ]
    return RefusalResponse(refusal.status, headers, error_body(refusal))


def error_body(refusal: Refusal) -> bytes:
    """The envelope as JSON. What is beside the message has no name in which botocore would look for the kind."""
    error: dict[str, Any] = {"message": message(refusal), "reason": refusal.code}
    if refusal.param:
        error["param"] = refusal.param
    if isinstance(refusal, LimitRefusal):
        error["limits"] = failed_limits(refusal)
        error["override_url"] = refusal.link
    return msgspec.json.encode(error)


def stream_error(refusal: Refusal) -> bytes:
    """An error in mid-stream, at which SDKs raise."""
    unknown = "internalServerException" if refusal.status >= 500 else "validationException"
    headers = {
        ":exception-type": _KINDS_IN_STREAM.get(refusal.status, unknown),
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return write_frame(headers, error_body(refusal))


def _retry_headers(refusal: Refusal) -> Headers:
    """With the one that AWS's SDKs heed, in milliseconds; whether to retry they know by the kind alone."""
    headers = retry_headers(refusal)
    return headers + [(b"x-amz-retry-after", wait) for name, wait in headers if name == b"retry-after-ms"]
