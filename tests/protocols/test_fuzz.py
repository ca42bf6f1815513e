"""Whatever bytes clients and providers send, every protocol of the registry reads them or refuses them, and no
exception escapes. `tools/fuzz.py` looks further, for minutes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.exchanges import EXCHANGES

import fuzz_targets
from fuzz_inputs import Choices, cut, hostile, recordings
from govmiddleware.protocols.registry import PROTOCOLS

RECORDED = tuple(recordings(EXCHANGES, longest=3_000))[::5]
READERS = tuple(fuzz_targets.kinds_of_readers())
CHOICES = st.binary(min_size=100, max_size=400).map(Choices)


@settings(max_examples=100, deadline=None)
@given(CHOICES)
def test_any_request_is_read_or_refused_by_every_protocol(choices: Choices) -> None:
    path, raw = choices.of(fuzz_targets.PATHS), hostile(choices, RECORDED)
    for protocol in PROTOCOLS:
        fuzz_targets.read_request(protocol, raw, path)


@settings(max_examples=100, deadline=None)
@given(CHOICES)
def test_any_answer_passes_every_reader_and_says_the_same_however_it_is_cut(choices: Choices) -> None:
    raw = hostile(choices, RECORDED)
    chunks = cut(choices, raw)
    for protocol, keywords in READERS:
        in_chunks = fuzz_targets.read_answer(protocol, chunks, **keywords)
        assert in_chunks == fuzz_targets.read_answer(protocol, [raw], **keywords)


@settings(max_examples=100, deadline=None)
@given(CHOICES)
def test_any_stream_can_be_ended_anywhere(choices: Choices) -> None:
    raw = hostile(choices, RECORDED)
    *begun, _ = cut(choices, raw)
    for protocol in PROTOCOLS:
        fuzz_targets.end_stream(protocol, begun)
