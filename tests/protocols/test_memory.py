"""What a reader keeps of an answer is bounded, whatever the answer and its chunks."""

from __future__ import annotations

import tracemalloc

import pytest

import fuzz_targets
from govmiddleware.core.ports import UsageReader

MIB = 1024 * 1024


def ways_to_read() -> dict[object, UsageReader]:
    """A reader for each way in which a part of an answer is kept until it is whole."""
    made = [protocol.usage_reader(**keywords) for protocol, keywords in fuzz_targets.kinds_of_readers()]
    return {type(getattr(each, "_events", None)): each for each in made}


def kept(reader: UsageReader, size: int, chunk: int) -> int:
    """The most bytes that a reader holds while `size` bytes pass in which nothing ends."""
    tracemalloc.start()
    try:
        for _ in range(size // chunk):
            reader.feed(b"x" * chunk)
            reader.take_delivered()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", ways_to_read().values(), ids=lambda reader: type(reader).__module__)
def test_what_never_ends_is_kept_up_to_a_limit(reader: UsageReader) -> None:
    assert kept(reader, size=50 * MIB, chunk=65_536) < 40 * MIB


@pytest.mark.parametrize("reader", ways_to_read().values(), ids=lambda reader: type(reader).__module__)
def test_tiny_chunks_take_no_more_room_than_large_ones(reader: UsageReader) -> None:
    assert kept(reader, size=MIB // 64, chunk=2) < MIB // 16
