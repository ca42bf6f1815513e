"""The keys that the audit log and links are signed with: derived from one secret, which is `audit_key` or a file."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from govmiddleware.errors import ConfigurationError

SHORTEST_SECRET = 32
"""Characters. What `openssl rand -base64 32` makes has 44."""


class SigningKeys:
    """Two keys, each for one purpose, so that nothing signed for one passes for the other.

    Args:
        secret: `audit_key`, or None for the one in `file`, which is made at its first use.
        file: read by all processes of the host, which agree on what is in it however many of them make it at once.

    The properties raise ConfigurationError where the file cannot be read or made.
    """

    def __init__(self, secret: str | None, file: Path) -> None:
        self._given = secret
        self._file = file

    @cached_property
    def audit_log(self) -> bytes:
        return self._derived(b"govmiddleware audit log")

    @cached_property
    def links(self) -> bytes:
        return self._derived(b"govmiddleware links")

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.digest(self._secret.encode(), purpose, hashlib.sha256)

    @cached_property
    def _secret(self) -> str:
        if self._given is not None:
            return self._given
        try:
            secret = _read(self._file)
            if secret is None:
                secret = _made(self._file)
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not text"
            expected = f"a secret, or a file that can be read and made at {self._file} ({problem})"
            raise ConfigurationError("audit_key", None, expected) from error
        if len(secret) < SHORTEST_SECRET:
            expected = f"at least {SHORTEST_SECRET} characters in {self._file}; put back what was there"
            raise ConfigurationError("audit_key", None, expected)
        return secret


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return None


def _made(file: Path) -> str:
    """The secret in `file`, which is there whole or not at all: of processes that make it at once, one does."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_urlsafe(32) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
    return file.read_text().strip()
