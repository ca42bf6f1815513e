"""What LiteLLM's proxy says in the headers of its answers, whatever protocol they speak.

Source: litellm/proxy/common_request_processing.py, 1.106.
"""

from __future__ import annotations

from collections.abc import Iterable

_MODEL_NAME = b"x-litellm-model-name"


def model_served(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The model behind the deployment that answered (`openai/gpt-4o`), where LiteLLM names it: the body
    repeats the name of the model group. Names of headers in lower case."""
    return next((value.decode("latin-1") for name, value in headers if name == _MODEL_NAME and value), None)


REPEATS = ("num_retries", "timeout", "request_timeout", "stream_timeout")
"""Fields of the body by which a client has LiteLLM cut a call and make it again: each is paid for, and only the last
is answered. Refused, as the headers of the same meaning are dropped (`upstream.headers`)."""
