"""Anthropic's counting of a prompt's tokens, which costs nothing.

POST …/v1/messages/count_tokens. Source: platform.claude.com/docs/en/api/messages-count-tokens.
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.protocols.anthropic_base import AnthropicRoute
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.readers import NothingUsed

JUDGED = frozenset({"model", *OTHER_MODELS})


class AnthropicCountTokens(AnthropicRoute):
    """The WireProtocol `anthropic.count_tokens`: a request in limits on requests, no tokens and no cost. Its
    body is read for the model, which decides the provider."""

    name = "anthropic.count_tokens"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/messages/count_tokens")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        return RequestInfo(model=read_model(body, path, query), generates=False, free=True)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return NothingUsed()
