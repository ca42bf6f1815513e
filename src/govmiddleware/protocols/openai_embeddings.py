"""OpenAI's embeddings. POST …/embeddings. Source: platform.openai.com/docs/api-reference/embeddings."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.fields import LONGEST_CALLER, read, read_name
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute

JUDGED = frozenset({"model", "input", "user", *OTHER_MODELS})


class OpenAIEmbeddings(OpenAIRoute):
    """The WireProtocol `openai.embeddings`: no output, no streams."""

    name = "openai.embeddings"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/embeddings")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        texts, tokens = _read_input(body)
        return RequestInfo(
            model=read_model(body, path, query),
            generates=False,
            input_tokens=tokens,
            texts=texts,
            user=read_name(body, "user", LONGEST_CALLER),
            reach=Reach(media=False, cache_1h=False),
        )


def _read_input(body: RequestBody) -> tuple[list[str], int]:
    """The texts to count, and the tokens that come counted: the input is a string, a list of strings,
    a list of token ids, or a list of such lists. Raises InvalidRequest."""
    given = read(body, "input", object)
    texts: list[str] = []
    tokens = 0
    for item in given if isinstance(given, list) else [given]:
        match item:
            case str():
                texts.append(item)
            case bool():
                raise _wrong_input()
            case int() if isinstance(given, list):
                tokens += 1
            case list() if all(type(token) is int for token in item):
                tokens += len(item)
            case _:
                raise _wrong_input()
    return texts, tokens


def _wrong_input() -> InvalidRequest:
    return InvalidRequest(
        "'input' must be a string, a list of strings, or lists of token ids.", param="input"
    )
