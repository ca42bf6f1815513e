"""What OpenAI's routes have in common: its envelope for refusals. By itself, a route without output or streams."""

from __future__ import annotations

from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import Refusal
from govmiddleware.protocols import openai_errors
from govmiddleware.protocols.openai_chat_reader import JsonReader
from govmiddleware.protocols.route import Route


class OpenAIRoute(Route):
    """Most of a WireProtocol, for those that add their name, what they recognise and how they are read."""

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return openai_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return openai_errors.stream_error(refusal)
