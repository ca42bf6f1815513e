"""The audit log: who decided what. Append-only, and chained, so that whoever changes or removes an entry is found
out; and the port for it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from typing import Protocol, Self

import msgspec
from msgspec.structs import replace

FIRST_MAC = "0" * 64
"""What stands for the entry before the first."""


class Action(msgspec.Struct, frozen=True):
    """What somebody did, or what time did.

    Attributes:
        workspace: `*` for what concerns the whole deployment.
        actor: `api_token:NAME`, `admin`, `cli` for who has the command line, `code` for a host app's own code, or
            `system` for what time alone did.
        action: such as `override.approved`.
        subject: what it was done to, such as `usage-budget:LIMIT:VALUE`.
        details: of types that JSON has.
    """

    workspace: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, object] = {}


class Head(msgspec.Struct, frozen=True):
    """The last entry that somebody saw. Who keeps it outside the log sees that the log was cut short.

    >>> str(Head(12, "5f…"))
    '12:5f…'
    """

    sequence: int
    mac: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.mac}"

    @classmethod
    def read(cls, text: str) -> Self:
        """The inverse of `str`. Raises ValueError."""
        if not re.fullmatch("[1-9][0-9]{0,17}:[0-9a-f]{64}", text):
            raise ValueError("NUMBER:MAC, as the log has it at `audit log head`")
        sequence, _, mac = text.partition(":")
        return cls(int(sequence), mac)


class Entry(msgspec.Struct, frozen=True):
    """One entry of the log.

    Attributes:
        sequence: 1, 2, 3 and so on, over all workspaces.
        at_ms: Unix milliseconds.
        written: the action's details as they are kept: JSON.
        mac: HMAC-SHA256 over the entry and the `mac` of the one before it, in hexadecimal.
    """

    sequence: int
    at_ms: int
    action: Action
    written: str
    mac: str

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.mac)

    def follows(self, before: str, key: bytes) -> bool:
        """Whether it was written with this key after the entry whose mac is `before`, and is as it was written."""
        return self.mac == _mac(key, before, self)


def chained(key: bytes, before: str, sequence: int, at_ms: int, action: Action) -> Entry:
    """The entry that follows the one whose mac is `before`."""
    written = msgspec.json.encode(action.details, order="sorted").decode()
    entry = Entry(sequence, at_ms, action, written, mac="")
    return replace(entry, mac=_mac(key, before, entry))


def _mac(key: bytes, before: str, entry: Entry) -> str:
    """Over the details as they are written: two texts may be read as the same details, or one in two ways."""
    action = entry.action
    said = [
        before,
        entry.sequence,
        entry.at_ms,
        action.workspace,
        action.actor,
        action.action,
        action.subject,
        entry.written,
    ]
    return hmac.new(key, msgspec.json.encode(said), hashlib.sha256).hexdigest()


class AuditLog(Protocol):
    """Every call raises HistoryUnavailable."""

    async def append(self, action: Action) -> Entry: ...

    def entries(self, *, after: int | None = None) -> AsyncIterator[Entry]:
        """In order, those after number `after`; whatever is there, be it nonsense."""
        ...


class AuditHeads(Protocol):
    """Keeps the last entry of the log elsewhere than the log. Every call raises StoreUnavailable."""

    async def read(self) -> Head | None: ...

    async def replace(self, kept: Head | None, head: Head) -> bool:
        """Keep `head` in place of `kept`; False where another one is kept by now."""
        ...
