"""Signatures of webhook messages, as Standard Webhooks 1.0.0 has them
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)."""

from __future__ import annotations

import base64
import hashlib
import hmac

_PREFIX = "whsec_"

SECRET_FORM = "whsec_ and the base64 of 24 to 64 random bytes, as `openssl rand -base64 32` makes it"


def read_secret(text: str) -> bytes:
    """The key of a secret: `whsec_` and the base64 of 24 to 64 bytes. Raises ValueError."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:  # also for what is not ASCII
        key = b""
    if not text.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(SECRET_FORM)
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of one attempt, made at `timestamp` (Unix seconds)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
