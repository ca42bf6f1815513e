"""OpenAI's compaction of a conversation.

POST …/responses/compact. Source: openai-python 3.54, `types/responses/response_compact_params.py`.
"""

from __future__ import annotations

from msgspec.structs import replace

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.openai_responses import OpenAIResponses


class OpenAICompact(OpenAIResponses):
    """The WireProtocol `openai.compact`: a response that is no stream, and whose output nothing limits."""

    name = "openai.compact"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/responses/compact")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        info = super().read_request(body, path=path, query=query)
        return replace(info, stream=False, output_tokens=None, can_be_limited=False, runs_on=False)

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """The API takes no limit."""
