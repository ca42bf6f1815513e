"""Streams that are ended before their time, as tests do it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.protocols.exchanges import EXCHANGES, answered

from govmiddleware.core.ports import UsageReader
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import recognise

USED = Usage(input_tokens=11, output_tokens=7)


def recordings(protocol: str) -> pytest.MarkDecorator:
    missing = not (EXCHANGES / f"{protocol}.jsonl.gz").exists()
    return pytest.mark.skipif(missing, reason=f"no recorded exchanges in {EXCHANGES}")


def reader_of(path: str, *, usage_was_injected: bool = False) -> UsageReader:
    protocol = recognise("POST", path)
    assert protocol is not None
    return protocol.usage_reader(stream=True, usage_was_injected=usage_was_injected, may_be_cut=True)


def cut_after(reader: UsageReader, raw: bytes, places: list[int]) -> bytes:
    """What the client gets of `raw`, which arrives in chunks that end at `places`, the last of them before
    the cut."""
    passed = [reader.feed(raw[start:end]) for start, end in pairwise([0, *sorted(places)])]
    return b"".join(passed) + reader.cut(USED, model="asked-for", request_id="req_1")


def recorded_streams(protocol: str) -> list[bytes]:
    return [raw for _, raw, stream in answered(protocol) if stream]


def ends_of_events(raw: bytes) -> list[int]:
    places = [0]
    while (end := raw.find(b"\n\n", places[-1])) >= 0:
        places.append(end + 2)
    return places
