"""Gemini's embeddings.

POST …/models/MODEL:embedContent and `:batchEmbedContents`. Source: ai.google.dev/api/embeddings.
"""

from __future__ import annotations

from typing import Any

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.fields import read
from govmiddleware.protocols.gemini_base import GeminiRoute
from govmiddleware.protocols.gemini_prompt import GeminiParts
from govmiddleware.protocols.proto_json import elements, members, spellings

JUDGED = ("content", "requests", "model")


class GeminiEmbeddings(GeminiRoute):
    """The WireProtocol `gemini.embeddings`: no output, no streams. Where the answer does not say what was used (that
    of the Gemini API does not for most models) it is settled from the estimate."""

    name = "gemini.embeddings"
    methods = ("embedcontent", "batchembedcontents")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        spelt = spellings(body.names(), JUDGED)
        model = self.read_address(body, path, query)
        prompt = GeminiParts(model, path)
        prompt.add(read(body, spelt["content"], object))
        for index, request in enumerate(elements(read(body, spelt["requests"], object))):
            prompt.add(_content(request, model, f"requests[{index}]"))
        return RequestInfo(
            model=model,
            generates=False,
            overhead_tokens=prompt.all_overhead_tokens,
            texts=prompt.texts,
            unknown_parts=prompt.unknown_parts,
            reach=Reach(media=prompt.has_media),
        )


def _content(request: object, model: str, param: str) -> Any:
    """What one request of a batch has embedded. Raises InvalidRequest where it names another model."""
    if not isinstance(request, dict):
        raise InvalidRequest("A request must be an object.", param=param)
    fields = members(request, param)
    if str(fields.get("model") or model).rpartition("models/")[2] != model:
        raise InvalidRequest("A batch has the one model of its address.", param=f"{param}.model")
    return [fields.get("content"), fields.get("title")]
