"""AWS's frames: cut out of streams as they were sent, whatever the chunks and whatever is broken in them."""

from __future__ import annotations

import json
import struct
import zlib
from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.aws_frames import FrameSplitter, read_frame, write_frame
from govmiddleware.protocols.bedrock_ending import event
from govmiddleware.protocols.bedrock_reader import StreamReader

FRAMES = [
    event("messageStart", {"role": "assistant"}),
    event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": 'Grüße, "Welt"! \x07:event-type'}}),
    write_frame({}, b""),
    event("metadata", {"usage": {"inputTokens": 3, "outputTokens": 200, "totalTokens": 203}}),
]
STREAM = b"".join(FRAMES)


def split(raw: bytes, places: list[int], splitter: FrameSplitter) -> list[tuple[bytes, bool]]:
    chunks = [raw[start:end] for start, end in pairwise([0, *sorted(places), len(raw)])]
    return [piece for chunk in chunks for piece in splitter.feed(chunk)]


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_frames_come_out_as_they_were_sent_however_the_stream_is_cut(places: list[int]) -> None:
    splitter = FrameSplitter()
    assert split(STREAM, places, splitter) == [(frame, True) for frame in FRAMES]
    assert splitter.between_frames
    splitter.feed(b"\0")
    assert not splitter.between_frames


def test_a_frame_is_what_botocore_takes_for_one_and_says_what_was_written() -> None:
    theirs = EventStreamBuffer()
    theirs.add_data(STREAM)
    for message, frame in zip(theirs, FRAMES, strict=True):
        ours = read_frame(frame)
        assert ours is not None
        assert (message.headers, message.payload) == (ours.headers, ours.payload)


def test_headers_of_every_type_are_read_over() -> None:
    kinds = [
        b"\0",
        b"\1",
        b"\2a",
        b"\3ab",
        b"\4abcd",
        b"\x05abcdefgh",
        b"\6\0\2ab",
        b"\x08abcdefgh",
        b"\x09" + b"u" * 16,
    ]
    headers = b"".join(b"\1%c" % (97 + place) + value for place, value in enumerate(kinds))
    headers += b"\x02:m\x07\0\5event"
    lengths = struct.pack(">II", 16 + len(headers) + 2, len(headers))
    frame = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + b"{}"
    frame += struct.pack(">I", zlib.crc32(frame))
    assert read_frame(frame) == ({":m": "event"}, b"{}")


def test_a_frame_that_is_too_large_to_keep_passes_in_pieces_that_nobody_reads() -> None:
    large = event("contentBlockDelta", {"delta": {"text": "x" * 500}})
    splitter = FrameSplitter(largest_frame=300)
    raw = FRAMES[0] + large + FRAMES[0]
    pieces = split(raw, [*range(0, len(raw), 100)], splitter)
    assert b"".join(piece for piece, _ in pieces) == raw
    assert [piece for piece, whole in pieces if whole] == [FRAMES[0], FRAMES[0]]
    assert max(len(piece) for piece, _ in pieces) <= 300
    splitter.feed(large[:400])
    assert splitter.inside_a_frame


def test_a_stream_is_not_ended_within_a_frame_that_is_too_large() -> None:
    reader = StreamReader(may_be_cut=True)
    huge = struct.pack(">II", 2**30, 0)
    passed = reader.feed(huge + struct.pack(">I", zlib.crc32(huge)) + b"x" * 50)
    assert len(passed) == 62
    assert reader.cut(Usage(), model="m", request_id="req_1") == b""


def as_text(raw: bytes) -> bytes:
    """As recordings keep it that take it for a text."""
    return raw.decode("utf-8", "replace").encode()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 700), max_size=10))
def test_what_a_stream_says_whose_lengths_are_lost_is_still_read(places: list[int]) -> None:
    damaged = as_text(STREAM)
    assert damaged != STREAM
    reader = StreamReader(may_be_cut=True)
    chunks = [damaged[start:end] for start, end in pairwise([0, *sorted(places), len(damaged)])]
    assert b"".join(map(reader.feed, chunks)) + reader.close() == damaged
    assert reader.usage == Usage(input_tokens=3, output_tokens=200)
    assert reader.take_delivered() == ['Grüße, "Welt"! \x07:event-type']


@settings(max_examples=60)
@given(st.data())
def test_nothing_that_an_upstream_sends_is_changed_or_raises(data: st.DataObject) -> None:
    raw = bytearray(STREAM)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    sent = data.draw(st.sampled_from([bytes(raw), as_text(bytes(raw))])) + data.draw(st.binary(max_size=40))
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    reader = StreamReader(may_be_cut=data.draw(st.booleans()))
    chunks = [sent[start:end] for start, end in pairwise([0, *places, len(sent)])]
    assert b"".join(map(reader.feed, chunks)) + reader.close() == sent


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_a_stream_in_small_pieces_is_read_once(damaged: bool) -> None:
    text = json.dumps({"delta": {"text": "x" * 50_000}}).encode()
    frame = write_frame({":event-type": "contentBlockDelta", ":message-type": "event"}, text)
    raw = as_text(b"\xff" + frame) if damaged else frame
    reader = StreamReader(may_be_cut=False)
    for place in range(0, len(raw), 4):
        reader.feed(raw[place : place + 4])
    reader.close()
    assert [len(said) for said in reader.take_delivered()] == [50_000]
