"""Which protocol a request speaks."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_embeddings import OpenAIEmbeddings


class Unrecognised(OpenAIRoute):
    """The protocol of every other route: its refusals wear OpenAI's envelope; it reads no requests."""

    name = "unrecognised"

    def recognises(self, method: str, path: str) -> bool:
        return False

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        raise InvalidRequest("This route is not one of a model call that can be metered.")


PROTOCOLS: tuple[WireProtocol, ...] = (OpenAIChat(), OpenAIEmbeddings())
UNRECOGNISED: WireProtocol = Unrecognised()


def recognise(method: str, path: str) -> WireProtocol | None:
    """The protocol of a request by its method and decoded path, whatever the prefix; None where no
    protocol reads it (`UNRECOGNISED` then shapes the refusals).

    Letter case does not count, nor what `folded` takes off: some apps and upstreams do not mind it.
    """
    method, path = method.upper(), folded(path)
    for protocol in PROTOCOLS:
        if protocol.recognises(method, path):
            return protocol
    return None
