"""What Ollama's routes have in common: its envelope for refusals, and readers of its answers.

Source: github.com/ollama/ollama, docs/api.md; what its `server/routes.go` and ollama-python make of errors.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import LimitRefusal, Refusal
from govmiddleware.protocols.ollama_reader import JsonReader, StreamReader
from govmiddleware.protocols.refusal_parts import failed_limits, retry_headers
from govmiddleware.protocols.route import Route


class OllamaRoute(Route):
    """Most of a WireProtocol, for those that add their name, their path and how they are read."""

    paths: tuple[str, ...] = ()
    """Ends of paths, in lower case, that are this protocol's."""

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(self.paths)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"x-request-id", request_id.encode("ascii", "replace")),
            *retry_headers(refusal),
        ]
        return RefusalResponse(refusal.status, headers, _error(refusal))

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return _error(refusal) + b"\n"


def _error(refusal: Refusal) -> bytes:
    """`{"error": MESSAGE}`, and beside it what programs read."""
    error: dict[str, Any] = {"error": str(refusal), "code": refusal.code, "param": refusal.param}
    if isinstance(refusal, LimitRefusal):
        error["limits"] = failed_limits(refusal)
    return msgspec.json.encode(error)
