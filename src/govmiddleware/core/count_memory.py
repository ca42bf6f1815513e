"""What was counted before, by its hash: agents send their whole conversation again at every turn."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_TEXTS = 65_536
"""Remembered by one process: of counts about 12 MB, of which a conversation of a thousand messages takes a fifth of one."""

_KEY_BYTES = 16


class CountMemory(Generic[T]):
    """A bounded memory of counts, a share of it for each workspace.

    Texts are known by a keyed hash whose key no one outside this process has, so that no two of them can be made to
    meet. What one workspace sends is never looked up for another: it learns nothing of what others send. When
    the memory is full, whoever has more than its part loses what it used longest ago; so who sends ever new
    texts pushes out its own.

    Safe in threads.
    """

    def __init__(self, most: int = MOST_TEXTS) -> None:
        self._most = most
        self._secret = secrets.token_bytes(64)
        self._shares: dict[str, OrderedDict[bytes, T]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def keys(self, texts: Iterable[str | bytes], context: str) -> list[bytes]:
        """What texts are known by, counted in a context: with an encoding, or for a model."""
        begun = self._secret + sha256(context.encode("utf-8", "surrogatepass")).digest()
        keys = []
        for text in texts:
            raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
            keys.append(sha256(begun + raw).digest()[:_KEY_BYTES])
        return keys

    def recall(self, workspace: str, keys: Sequence[bytes]) -> list[T | None]:
        """The counts, None for each text that is not known."""
        with self._lock:
            share = self._shares.get(workspace)
            if share is None:
                return [None] * len(keys)
            for key in keys:
                if key in share:
                    share.move_to_end(key)
            return list(map(share.get, keys))

    def remember(self, workspace: str, counts: Iterable[tuple[bytes, T]]) -> None:
        """Keep counts, and forget what there is no room for."""
        with self._lock:
            for key, count in counts:
                share = self._shares.setdefault(workspace, OrderedDict())
                self._size += key not in share
                share[key] = count
                if self._size > self._most:
                    self._forget_one(workspace)

    def _forget_one(self, workspace: str) -> None:
        """Of the one that comes, if it has its part; else of who has most, which is then more than its part."""
        if len(self._shares[workspace]) * len(self._shares) <= self._most:
            workspace = max(self._shares, key=lambda name: len(self._shares[name]))
        share = self._shares[workspace]
        share.popitem(last=False)
        self._size -= 1
        if not share:
            del self._shares[workspace]
