"""The ids by which others know a request: W3C Trace Context, and `x-request-id`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_LONGEST_ID = 128
"""Characters: an id from outside is kept as far as that."""

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context, 3.2; a later version may add to it."""

_ANSWERS_ID = (b"x-litellm-call-id", b"x-request-id", b"request-id", b"x-amzn-requestid")
"""LiteLLM, OpenAI and vLLM, Anthropic, AWS. LiteLLM's first: its `x-request-id` may be its provider's."""


def traceparent_in(headers: Mapping[bytes, bytes]) -> str | None:
    """What a request says of the trace that it is part of; None where it says nothing that is valid."""
    given = headers.get(b"traceparent")
    return given.decode("latin-1") if given and _TRACEPARENT.fullmatch(given) else None


def request_id_in(headers: Mapping[bytes, bytes]) -> str | None:
    """The id that a client gives its request."""
    given = headers.get(b"x-request-id")
    return given[:_LONGEST_ID].decode("latin-1") if given else None


def answers_id_in(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The id that an upstream gives a request, in the headers of its answer."""
    given = dict(headers)
    for name in _ANSWERS_ID:
        if found := given.get(name):
            return found[:_LONGEST_ID].decode("latin-1")
    return None
