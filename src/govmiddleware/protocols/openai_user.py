"""Whom an OpenAI request says it is made for."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.protocols.fields import LONGEST_CALLER, Object, bounded_name, read, read_name


def read_user(body: RequestBody) -> str | None:
    """The end user: OpenAI's names for it first, then LiteLLM's."""
    named = read_name(body, "safety_identifier", LONGEST_CALLER) or read_name(body, "user", LONGEST_CALLER)
    if named is not None:
        return named
    metadata = read(body, "metadata", Object) or {}
    user = metadata.get("user_id")
    return bounded_name(user, "metadata.user_id", LONGEST_CALLER) if isinstance(user, str) else None
