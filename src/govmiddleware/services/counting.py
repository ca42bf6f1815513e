"""Counting a prompt's tokens: what came before from memory, what is large without holding up the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from govmiddleware.core.count_memory import CountMemory
from govmiddleware.core.tokens import count_each, count_tokens, encoding_for, is_loaded
from govmiddleware.metrics import Metrics
from govmiddleware.services.turns import compute

_INLINE_CHARACTERS = 8_192
_INLINE_TEXTS = 500
"""Up to here counting takes about a millisecond; handing it to a thread would cost more than it saves."""

_LEAST_REMEMBERED = 256
"""Characters. To count a shorter text costs little more than to look it up."""


class TokenCounter:
    """Counts for the requests of one Governance.

    Args:
        metrics: told how many characters were counted, and how many were not for they were known.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._memory = CountMemory()
        self._counted = self._known = None
        if metrics is not None:
            self._counted, self._known = map(metrics.counted_characters.labels, ("counter", "memory"))

    async def count(self, texts: Sequence[str], model: str, *, workspace: str = "") -> int:
        """The tokens of `texts` in the encoding of `model`; long ones are remembered for the workspace."""
        if not texts:
            return 0
        encoding = encoding_for(model)
        is_short = sum(map(len, texts)) <= _INLINE_CHARACTERS and len(texts) <= _INLINE_TEXTS
        if is_short and is_loaded(encoding):
            return self._count(texts, encoding, workspace)
        return await compute(partial(self._count, texts, encoding, workspace))

    def _count(self, texts: Sequence[str], encoding: str, workspace: str) -> int:
        long = [text for text in texts if len(text) >= _LEAST_REMEMBERED]
        if not long:
            return count_tokens(texts, encoding=encoding)
        short = [text for text in texts if len(text) < _LEAST_REMEMBERED]
        keys = self._memory.keys(long, encoding)
        known = self._memory.recall(workspace, keys)
        new = {key: text for key, text, count in zip(keys, long, known, strict=True) if count is None}
        counts = dict(zip(new, count_each(list(new.values()), encoding=encoding), strict=True))
        self._memory.remember(workspace, counts.items())
        self._tell(sum(map(len, long)), sum(map(len, new.values())))
        total = sum(counts[key] if count is None else count for key, count in zip(keys, known, strict=True))
        return total + count_tokens(short, encoding=encoding)

    def _tell(self, seen: int, counted: int) -> None:
        if self._counted is not None and self._known is not None:
            self._counted.inc(counted)
            self._known.inc(seen - counted)
