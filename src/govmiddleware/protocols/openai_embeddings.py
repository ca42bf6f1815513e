"""OpenAI's embeddings. POST …/embeddings. Source: platform.openai.com/docs/api-reference/embeddings."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.fields import LONGEST_CALLER, read_name
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_texts import read_texts

JUDGED = frozenset({"model", "input", "user", *OTHER_MODELS})


class OpenAIEmbeddings(OpenAIRoute):
    """The WireProtocol `openai.embeddings`: no output, no streams."""

    name = "openai.embeddings"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/embeddings")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        texts, tokens, _ = read_texts(body, "input")
        return RequestInfo(
            model=read_model(body, path, query),
            generates=False,
            input_tokens=tokens,
            texts=texts,
            user=read_name(body, "user", LONGEST_CALLER),
            reach=Reach(media=False, cache_1h=False),
        )
