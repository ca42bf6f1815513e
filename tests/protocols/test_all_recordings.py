"""Every recorded exchange, of whichever protocol: what is read of its answer does not depend on how it arrives."""

from __future__ import annotations

from random import Random
from urllib.parse import unquote

import pytest
from tests.protocols.exchanges import EXCHANGES, answered

import fuzz_inputs
import fuzz_targets
from govmiddleware.protocols.registry import PROTOCOLS, recognise

RECORDED = [protocol.name for protocol in PROTOCOLS if (EXCHANGES / f"{protocol.name}.jsonl.gz").exists()]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_answer_says_in_pieces_what_it_says_as_a_whole(name: str) -> None:
    """And that is what its provider reports, as the tests of each protocol show."""
    read = 0
    for exchange, raw, stream in answered(name):
        protocol = recognise("POST", unquote(exchange["path"]))
        if protocol is None:
            continue  # another route, such as Cohere's embeddings
        places = Random(exchange["id"]).choices(range(len(raw) + 1), k=40)
        whole = fuzz_targets.read_answer(protocol, [raw], stream=stream)
        assert fuzz_targets.read_answer(protocol, fuzz_inputs.pieces(raw, places), stream=stream) == whole
        read += 1
    assert read
