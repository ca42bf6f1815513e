"""The audit log: who decided what. Append-only, and chained, so that whoever changes or removes an entry is found
out; and the port for it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

FIRST_MAC = "0" * 64
"""What stands for the entry before the first."""


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody did, or what time did.

    Attributes:
        workspace: `*` for what concerns the whole deployment.
        actor: `api_token:NAME`, `admin`, or `system` for what time alone did.
        action: such as `override.approved`.
        subject: what it was done to, such as `usage-budget:LIMIT:VALUE`.
        details: of types that JSON has.
    """

    workspace: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log.

    Attributes:
        sequence: 1, 2, 3 and so on, over all workspaces.
        at_ms: Unix milliseconds.
        mac: HMAC-SHA256 over the entry and the `mac` of the one before it, in hexadecimal.
    """

    sequence: int
    at_ms: int
    action: Action
    mac: str


def chained(key: bytes, before: str, sequence: int, at_ms: int, action: Action) -> Entry:
    """The entry that follows the one whose mac is `before`."""
    said = [
        before,
        sequence,
        at_ms,
        action.workspace,
        action.actor,
        action.action,
        action.subject,
        dict(action.details),
    ]
    text = msgspec.json.encode(said, order="sorted")
    return Entry(sequence, at_ms, action, hmac.new(key, text, hashlib.sha256).hexdigest())


class AuditLog(Protocol):
    """Every call raises HistoryUnavailable."""

    async def append(self, action: Action) -> Entry: ...
