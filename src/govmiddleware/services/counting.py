"""Counting a prompt's tokens without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from govmiddleware.core.tokens import count_tokens, encoding_for

_INLINE_CHARACTERS = 8_192
"""Up to here counting takes about a millisecond; handing it to a thread would cost more than it saves."""


async def count(texts: Sequence[str], model: str) -> int:
    """The tokens of `texts` in the encoding of `model`. tiktoken releases the GIL, so that the loop goes
    on while a thread counts what is large."""
    encoding = encoding_for(model)
    if sum(map(len, texts)) <= _INLINE_CHARACTERS and len(texts) < 1000:
        return count_tokens(texts, encoding=encoding)
    return await asyncio.to_thread(count_tokens, texts, encoding=encoding)
