"""Anthropic's batches of messages. POST …/v1/messages/batches.

Source: platform.claude.com/docs/en/api/creating-message-batches.
"""

from __future__ import annotations

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.anthropic_base import AnthropicRoute
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.batch import Accepted, added_up, refuse_fields_but
from govmiddleware.protocols.fields import Objects, read


class AnthropicBatches(AnthropicRoute):
    """The WireProtocol `anthropic.batches`: its requests are in the call."""

    name = "anthropic.batches"
    is_batch = True

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/messages/batches")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        refuse_fields_but(body, "requests")
        requests = read(body, "requests", Objects) or []
        read_requests = []
        for index, request in enumerate(requests):
            params = request.get("params")
            if not isinstance(params, dict):
                problem = "A request of a batch has 'params', which must be an object."
                raise InvalidRequest(problem, param=f"requests[{index}].params")
            one = RequestBody(msgspec.json.encode(params))
            read_requests.append(AnthropicMessages().read_request(one, query=query))
        body.set("requests", requests)  # as it was judged, each field once
        return added_up(read_requests, "requests")

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return Accepted()
