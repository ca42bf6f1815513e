"""What LiteLLM's proxy says in the headers of its answers, whatever protocol they speak.

Source: litellm/proxy/common_request_processing.py, 1.106.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from govmiddleware.core.money import nano_usd

_MODEL_NAME = b"x-litellm-model-name"
RESPONSE_COST = "x-litellm-response-cost"

_DEAREST = Decimal(1_000_000)
"""USD. What is said to cost more is a fault: it would put every counter out of order."""


def model_served(headers: Mapping[bytes, bytes]) -> str | None:
    """The model behind the deployment that answered (`openai/gpt-4o`), where LiteLLM names it: the body
    repeats the name of the model group. Names of headers in lower case."""
    return headers[_MODEL_NAME].decode("latin-1") or None if _MODEL_NAME in headers else None


def response_cost(headers: Mapping[bytes, bytes]) -> int | None:
    """nano-USD: what LiteLLM says that an answer cost; None where it does not, or says what cannot be. A stream
    has none, since its headers are sent before it is generated."""
    try:
        usd = Decimal(headers[RESPONSE_COST.encode()].decode("ascii"))
    except (KeyError, UnicodeDecodeError, InvalidOperation):
        return None
    if not (usd.is_finite() and 0 <= usd <= _DEAREST):
        return None
    return nano_usd(usd)


REPEATS = ("num_retries", "timeout", "request_timeout", "stream_timeout")
"""Fields of the body by which a client has LiteLLM cut a call and make it again: each is paid for, and only the last
is answered. Refused, as the headers of the same meaning are dropped (`upstream.headers`)."""
