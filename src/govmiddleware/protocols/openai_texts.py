"""Texts as embeddings and legacy completions take them: each as itself or as the ids of its tokens."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import read


def read_texts(body: RequestBody, name: str) -> tuple[list[str], int, int]:
    """The texts to count, the tokens that come counted, and how many texts both are: the field is a string, a list
    of strings, a list of token ids, or a list of such lists. Raises InvalidRequest."""
    given = read(body, name, object)
    texts: list[str] = []
    tokens = lists = 0
    ids_alone = False
    for item in given if isinstance(given, list) else [given]:
        match item:
            case str():
                texts.append(item)
            case bool():
                raise _wrong(name)
            case int() if isinstance(given, list):
                tokens += 1
                ids_alone = True
            case list() if all(type(token) is int for token in item):
                tokens += len(item)
                lists += 1
            case _:
                raise _wrong(name)
    return texts, tokens, len(texts) + lists + ids_alone


def _wrong(name: str) -> InvalidRequest:
    problem = f"'{name}' must be a string, a list of strings, or lists of token ids."
    return InvalidRequest(problem, param=name)
