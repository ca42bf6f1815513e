"""Which protocol a request speaks."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RefusalResponse, RequestInfo, UsageReader, WireProtocol
from govmiddleware.core.refusals import InvalidRequest, Refusal
from govmiddleware.protocols import openai_errors
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_chat_reader import JsonReader
from govmiddleware.protocols.openai_embeddings import OpenAIEmbeddings


class Unrecognised:
    """The protocol of every other route: its refusals wear OpenAI's envelope; it reads no requests."""

    name = "unrecognised"

    def recognises(self, method: str, path: str) -> bool:
        return False

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        raise InvalidRequest("This route is not one of a model call that can be metered.")

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """Nothing is known of such a body."""

    def request_usage(self, body: RequestBody) -> bool:
        return False

    def usage_reader(self, *, stream: bool, usage_was_injected: bool) -> UsageReader:
        return JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return openai_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return openai_errors.stream_error(refusal)


PROTOCOLS: tuple[WireProtocol, ...] = (OpenAIChat(), OpenAIEmbeddings())
UNRECOGNISED: WireProtocol = Unrecognised()


def recognise(method: str, path: str) -> WireProtocol | None:
    """The protocol of a request by its method and decoded path, whatever the prefix; None where no
    protocol reads it (`UNRECOGNISED` then shapes the refusals)."""
    for protocol in PROTOCOLS:
        if protocol.recognises(method, path):
            return protocol
    return None
