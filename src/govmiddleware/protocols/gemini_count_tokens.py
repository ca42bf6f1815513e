"""Gemini's counting of a prompt's tokens, which costs nothing.

POST …/models/MODEL:countTokens, and Vertex AI's `:computeTokens`. Source: ai.google.dev/api/tokens.
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.protocols.gemini_base import GeminiRoute
from govmiddleware.protocols.readers import NothingUsed


class GeminiCountTokens(GeminiRoute):
    """The WireProtocol `gemini.count_tokens`: a request in limits on requests, no tokens and no cost."""

    name = "gemini.count_tokens"
    methods = ("counttokens", "computetokens")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        return RequestInfo(model=self.read_address(body, path, query), generates=False, free=True)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return NothingUsed()
