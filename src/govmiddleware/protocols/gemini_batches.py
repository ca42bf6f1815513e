"""Gemini's batches. POST …/models/MODEL:batchGenerateContent.

Source: ai.google.dev/api/batch-api, and what google-genai 3.4 sends (`batches.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest, RouteNotMetered
from govmiddleware.protocols.batch import Accepted, added_up, refuse_fields_but
from govmiddleware.protocols.fields import Object, read
from govmiddleware.protocols.gemini_base import GeminiRoute
from govmiddleware.protocols.gemini_generate import GeminiGenerate
from govmiddleware.protocols.proto_json import elements, members

_REQUESTS = "batch.inputConfig.requests.requests"


class GeminiBatches(GeminiRoute):
    """The WireProtocol `gemini.batches`, of requests that are in the call. Those in a file are refused."""

    name = "gemini.batches"
    methods = ("batchgeneratecontent",)
    is_batch = True

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        refuse_fields_but(body, "batch")
        model = self.read_address(body, path, query)
        batch = read(body, "batch", Object) or {}
        if str(_member(batch, "model") or model).rpartition("models/")[2] != model:
            raise InvalidRequest("A batch has the one model of its address.", param="batch.model")
        inputs = _object(batch, "inputConfig")
        if _member(inputs, "fileName"):
            raise RouteNotMetered(
                "The requests of this batch are in a file, so that nothing says what it may cost. Send them in"
                f" '{_REQUESTS}'."
            )
        single = f"{path.rpartition(':')[0]}:generateContent"
        requests = [
            GeminiGenerate().read_request(
                RequestBody(msgspec.json.encode(_object(request, "request"))), path=single, query=query
            )
            for request in elements(_member(_object(inputs, "requests"), "requests"))
        ]
        body.set("batch", batch)  # as it was judged, each field once
        return added_up(requests, _REQUESTS)

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """Raises InvalidRequest: what is not limited, nor by the model, cannot be reserved."""
        raise InvalidRequest(
            "Nothing bounds what this model may generate: give each request a 'maxOutputTokens'.",
            param="batch",
        )

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return Accepted()


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidRequest("What a batch is made of must be objects.", param="batch")
    return members(value, "batch").get(name)


def _object(value: Any, name: str) -> dict[str, Any]:
    found = _member(value, name)
    return found if isinstance(found, dict) else {}
