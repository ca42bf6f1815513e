"""What Anthropic's routes have in common: its envelope for refusals, and answers that are not streams."""

from __future__ import annotations

from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import Refusal
from govmiddleware.protocols import anthropic_errors
from govmiddleware.protocols.anthropic_reader import JsonReader
from govmiddleware.protocols.route import Route


class AnthropicRoute(Route):
    """Most of a WireProtocol, for those that add their name, what they recognise and how they are read."""

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return anthropic_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return anthropic_errors.stream_error(refusal, request_id)
