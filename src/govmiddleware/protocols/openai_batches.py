"""OpenAI's batches. POST …/v1/batches. Source: platform.openai.com/docs/api-reference/batch."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import RouteNotMetered
from govmiddleware.protocols.openai_base import OpenAIRoute


class OpenAIBatches(OpenAIRoute):
    """The WireProtocol `openai.batches`: its requests are in a file that was uploaded before, so that it is refused
    whatever the setting."""

    name = "openai.batches"
    is_batch = True

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/batches")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        raise RouteNotMetered(
            "The requests of this batch are in a file, so that nothing says what it may cost: it cannot be reserved."
        )
