"""Identifiers that we mint: requests and API tokens."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import zlib

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = "gov_"
_RANDOM_CHARACTERS = 30
_CHECKSUM_CHARACTERS = 6


def new_request_id() -> str:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, then 80 random bits (as in UUIDv7,
    RFC 9562), so that ids sort by time. It is the reservation's id too."""
    milliseconds = time.time_ns() // 1_000_000
    return f"req_{milliseconds:012x}{os.urandom(10).hex()}"


def new_api_token() -> str:
    """A secret: `gov_`, 30 random base62 characters (178 bits), 6 characters of CRC-32."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS))
    return _PREFIX + body + _checksum(body)


def is_well_formed_api_token(secret: str) -> bool:
    """Whether a secret has our format and checksum: a typo is told apart without asking the store."""
    body, checksum = secret[len(_PREFIX) : -_CHECKSUM_CHARACTERS], secret[-_CHECKSUM_CHARACTERS:]
    return (
        secret.startswith(_PREFIX)
        and len(body) == _RANDOM_CHARACTERS
        and secret.isascii()
        and checksum == _checksum(body)
    )


def looks_like_api_token(secret: str) -> bool:
    """Whether a secret is meant as one of ours, whatever its checksum says."""
    return secret.startswith(_PREFIX)


def hash_api_token(secret: str) -> str:
    """SHA-256 in lower-case hex: the only form in which a secret is stored or configured."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_override_id() -> str:
    """`ovr_` and 32 hex digits, which nobody guesses."""
    return f"ovr_{secrets.token_hex(16)}"


def new_api_token_id() -> str:
    """The public name of a stored API token: `tok_` and 16 hex digits."""
    return f"tok_{secrets.token_hex(8)}"


def new_epoch() -> str:
    """Names a life of a workspace's counters: `epo_` and 16 hex digits."""
    return f"epo_{secrets.token_hex(8)}"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii", "replace"))
    digits = []
    for _ in range(_CHECKSUM_CHARACTERS):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
