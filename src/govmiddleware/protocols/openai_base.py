"""What OpenAI's routes have in common: its envelope for refusals. By itself, a route without output or streams."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import Refusal
from govmiddleware.protocols import openai_errors
from govmiddleware.protocols.openai_chat_reader import JsonReader


class OpenAIRoute:
    """Most of a WireProtocol, for those that add their name, what they recognise and how they are read."""

    streams_json = False
    takes_forms = False
    is_batch = False
    key_in_query = False

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """There is no output to bound."""

    def request_usage(self, body: RequestBody) -> bool:
        return False

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return openai_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return openai_errors.stream_error(refusal)
