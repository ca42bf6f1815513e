"""Server-sent events come out of any bytes whole and unchanged."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.protocols.sse import EventSplitter, data_of

END = st.sampled_from(["\n", "\r\n", "\r"])
LINE = st.sampled_from(
    ["data: {}", "data:x", "data", "event: e", ": comment", "id: 1", "data: ü", "data: a: b"]
)


@st.composite
def event_streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Events in one style of line ends, and what is left of one that was cut."""
    end = draw(END)
    events = draw(st.lists(st.lists(LINE, min_size=1, max_size=4), max_size=6))
    rest = draw(st.sampled_from(["", "data: cut", f"data: cut{end}"]))
    return [("".join(line + end for line in lines) + end).encode() for lines in events], rest.encode()


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:end] for start, end in pairwise(bounds)]


@given(event_streams(), st.lists(st.integers(0, 10_000), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    stream: tuple[list[bytes], bytes], places: list[int]
) -> None:
    events, rest = stream
    splitter = EventSplitter()
    pieces = [piece for chunk in cut(b"".join(events) + rest, places) for piece in splitter.feed(chunk)]
    last, whole = splitter.close()
    assert whole
    found = [raw for raw, _ in pieces] + ([last] if last else [])
    assert all(whole for _, whole in pieces)
    assert found == events + ([rest] if rest else [])


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n\n", b"\r", b"\n", b"\r\n\r\n"]), max_size=30))
def test_no_byte_is_lost_or_added_even_of_an_event_too_large_to_keep(chunks: list[bytes]) -> None:
    splitter = EventSplitter(largest_event=16)
    passed = b"".join(piece for chunk in chunks for piece, _ in splitter.feed(chunk))
    assert passed + splitter.close()[0] == b"".join(chunks)


def test_an_event_too_large_to_keep_passes_unread_and_the_next_is_whole_again() -> None:
    splitter = EventSplitter(largest_event=100)
    pieces = [piece for _ in range(50) for piece in splitter.feed(b"data: " + b"x" * 20)]
    assert pieces
    assert not any(whole for _, whole in pieces)
    assert len(splitter.held) <= 100
    *tail, last = splitter.feed(b"\n\ndata: 1\n\n")
    assert not any(whole for _, whole in tail)
    assert last == (b"data: 1\n\n", True)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_given_out_with_its_last_byte(end: bytes) -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1" + end) == []
    given_out = splitter.feed(end)
    if end == b"\r":  # may still be half of a CRLF
        given_out = [splitter.close()]
    assert given_out == [(b"data: 1" + end + end, True)]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"data: x", b"x"),
        (b"data: 1\ndata: 2\n\n", b"1\n2"),
        (b"event: e\ndata: 1\nid: 7\n\n", b"1"),
        (b": comment\ndata: 1\n\n", b"1"),
        (b"data\n\n", b""),
        (b": ping\n\n", None),
        (b"database: 1\n\n", None),
        (b"\n\n", None),
    ],
)
def test_data_is_read_as_the_standard_says(event: bytes, data: bytes | None) -> None:
    assert data_of(event) == data
