"""OpenAI's counting of a response's input tokens, which costs nothing.

POST …/responses/input_tokens. Source: openai-python 3.54, `resources/responses/input_tokens.py`.
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute

JUDGED = frozenset({"model", *OTHER_MODELS})


class OpenAIInputTokens(OpenAIRoute):
    """The WireProtocol `openai.input_tokens`: a request in limits on requests, no tokens and no cost. Its body is
    read for the model, which decides the provider."""

    name = "openai.input_tokens"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/responses/input_tokens")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        return RequestInfo(model=read_model(body, path, query), generates=False, free=True)
