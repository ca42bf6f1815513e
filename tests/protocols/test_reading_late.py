"""Most of a stream's chunks are read later, several at a time: what a reader tells and passes on is as if at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.test_plain_chunks import CHUNKS

from govmiddleware.protocols import anthropic_reader, openai_chat_reader
from govmiddleware.protocols.readers import StreamReader

Make = Callable[[], StreamReader]


def data(value: object, **form: Any) -> bytes:
    return b"data: " + json.dumps(value, **form).encode() + b"\n\n"


def typed(kind: str, **members: object) -> bytes:
    return f"event: {kind}\n".encode() + data({"type": kind, **members}, separators=(",", ":"))


ODD = [
    b": ping\n\n",
    b"data: {\n\n",
    b"data: [DONE]\n\n",
    b"\n",
    b"data: {}\r\n\r\n",
    b"event: x\ndata: {}\n\n",
]
CHAT = [
    *ODD,
    *(data(chunk, separators=(",", ":")) for chunk in CHUNKS.values()),
    *(data(chunk) for chunk in CHUNKS.values()),
    data({"choices": [{"delta": {"content": "a", "usage": None}}]}, separators=(",", ":")),
    data({"choices": [], "usage": {"prompt_tokens": 9}}).replace(b"usage", b"\\u0075sage"),
]
TEXT = typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
MESSAGES = [
    *ODD,
    typed("message_start", message={"model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}),
    typed("content_block_start", index=0, content_block={"type": "tool_use", "name": "look", "input": {}}),
    typed("content_block_stop", index=0),
    typed("message_delta", usage={"output_tokens": 5}),
    typed("message_stop"),
    TEXT,
    TEXT + typed("message_stop"),
    TEXT.replace(b"event: content_block_delta\n", b""),
]
DIALECTS: dict[str, tuple[list[bytes], Make]] = {
    "chat": (CHAT, lambda: openai_chat_reader.StreamReader(strip_usage=False)),
    "chat, its usage stripped": (CHAT, lambda: openai_chat_reader.StreamReader(strip_usage=True)),
    "messages": (MESSAGES, lambda: anthropic_reader.StreamReader(may_be_cut=False)),
}


def tell_the_same(make: Make, chunks: Iterable[bytes], take: Callable[[], bool] = lambda: False) -> None:
    """A reader that reads late, and one that reads at once. Their texts are asked for behind a chunk where `take` says."""
    late, at_once = make(), make()
    at_once._reads_late = False
    for chunk in chunks:
        assert late.feed(chunk) == at_once.feed(chunk)
        assert (late.usage, late.finished) == (at_once.usage, at_once.finished)
        if take():
            assert late.take_delivered() == at_once.take_delivered()
    assert late.close() == at_once.close()
    assert late.take_delivered() == at_once.take_delivered()
    for name in ("usage", "model", "service_tier", "finished"):
        assert getattr(late, name) == getattr(at_once, name)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_told_and_passed_on_is_as_if_read_at_once(dialect: str, choose: st.DataObject) -> None:
    events, make = DIALECTS[dialect]
    stream = b"".join(choose.draw(st.lists(st.sampled_from(events), max_size=12)))
    ends = [place + 2 for place in range(len(stream)) if stream.startswith(b"\n\n", place)]
    cuts = st.lists(st.sampled_from([*ends, *range(0, len(stream), 37), 0]), max_size=12)
    places = sorted({0, *ends, *choose.draw(cuts)} - set(choose.draw(cuts)))
    chunks = [stream[start:end] for start, end in pairwise([0, *places, len(stream)])]
    tell_the_same(make, chunks, lambda: choose.draw(st.booleans()))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_two_events_in_one_chunk_neither_is_overlooked(dialect: str) -> None:
    events, make = DIALECTS[dialect]
    for first, second in product(events, repeat=2):
        tell_the_same(make, [first + second])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_words_wait_until_their_texts_are_asked_for(dialect: str) -> None:
    events, make = DIALECTS[dialect]
    words = TEXT if events is MESSAGES else data(CHUNKS["a word"], separators=(",", ":"))
    reader = make()
    for _ in range(3):
        reader.feed(words)
    assert reader._delivered == []
    assert len(reader.take_delivered()) == 3
