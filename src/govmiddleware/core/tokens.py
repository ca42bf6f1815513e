"""Counting tokens with OpenAI's vocabularies, by tiktoken or what counts as it does, only faster."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

from govmiddleware.core import fast_counter
from govmiddleware.core.fast_counter import FastCounter
from govmiddleware.core.reference_counter import CL100K, O200K, ReferenceCounter

_CL100K_MODEL = re.compile(r"(?:^|[/:])(?:ft:)?(?:gpt-3\.5|gpt-35|gpt-4(?![.o\d])|text-embedding-)")
_lock = threading.Lock()
_counters: dict[str, Callable[[Sequence[str]], list[int]]] = {}


@lru_cache(maxsize=1024)
def encoding_for(model: str) -> str:
    """The encoding to count a model's tokens with: cl100k for GPT-3.5, GPT-4 and embeddings, else o200k,
    which is near for the models of other makers too."""
    return CL100K if _CL100K_MODEL.search(model.lower()) else O200K


def count_tokens(texts: Sequence[str], *, encoding: str = O200K) -> int:
    """The tokens of all texts together. See `count_each`."""
    return sum(count_each(texts, encoding=encoding))


def count_each(texts: Sequence[str], *, encoding: str = O200K) -> list[int]:
    """The tokens of each text; special tokens count as the text that they are.

    Never too few, and of a long text at most about one in a thousand too many. The GIL is free for most of the time,
    so that this can run in a thread; the first call for an encoding reads its vocabulary. Raises KeyError for an
    unknown one.
    """
    return load(encoding)(texts)


def is_loaded(encoding: str) -> bool:
    """Whether counting in it takes no time but its own."""
    return encoding in _counters


def load(encoding: str) -> Callable[[Sequence[str]], list[int]]:
    """The counter of an encoding, made at the first call in a process. Safe in threads. Raises KeyError."""
    loaded = _counters.get(encoding)
    if loaded is None:
        with _lock:
            loaded = _counters.get(encoding)
            if loaded is None:
                make = FastCounter if fast_counter.is_installed else ReferenceCounter
                loaded = _counters[encoding] = make(encoding)
    return loaded
