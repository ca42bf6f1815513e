"""Bedrock's counting of a prompt's tokens, which costs nothing.

POST …/model/MODEL/count-tokens. Source: docs.aws.amazon.com/bedrock/latest/userguide/count-tokens.html.
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.bedrock_base import BedrockRoute
from govmiddleware.protocols.bedrock_model import read_address


class BedrockCountTokens(BedrockRoute):
    """The WireProtocol `bedrock.count_tokens`: a request in limits on requests, no tokens and no cost."""

    name = "bedrock.count_tokens"
    operations = ("count-tokens",)

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        return RequestInfo(model=read_address(body, path, query), generates=False, free=True)
