"""What is read of an encoded answer is what was encoded, however it comes, and it is never much at a time."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator
from contextlib import suppress

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.encoding import CODINGS, encoded, zstd
from tests.protocols.exchanges import EXCHANGES, answered

from govmiddleware.core.usage import Usage
from govmiddleware.middleware._codings import PIECE, Decoder, Undecodable, can_decode, codings_of
from govmiddleware.protocols.registry import recognise

PROTOCOLS = ("openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages", "gemini")


def decoder(*codings: str, most: int = 10_000_000) -> Decoder:
    return Decoder([coding.encode() for coding in codings], most=most)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    ends = [*sorted(place % (len(data) + 1) for place in places), len(data)]
    start = 0
    for end in ends:
        yield data[start:end]
        start = end


def read(path: str, stream: bool, pieces: Iterator[bytes]) -> tuple[Usage | None, bool]:
    protocol = recognise("POST", path)
    assert protocol is not None
    reader = protocol.usage_reader(stream=stream, usage_was_injected=False)
    for piece in pieces:
        reader.feed(piece)
    reader.close()
    return reader.usage, reader.finished


@pytest.mark.skipif(not EXCHANGES.exists(), reason=f"no recorded exchanges in {EXCHANGES}")
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_usage_of_every_recording_is_the_same_when_it_is_encoded(protocol: str, coding: str) -> None:
    compared = 0
    cuts = random.Random(protocol + coding)
    for exchange, raw, stream in answered(protocol):
        path = exchange["path"]
        if recognise("POST", path) is None:
            continue
        sent = b"".join(encoded(cut(raw, cuts.choices(range(1 << 20), k=5)), [coding]))
        undone = decoder(coding)
        chunks = cut(sent, cuts.choices(range(1 << 20), k=9))
        got = read(path, stream, (piece for chunk in chunks for piece in undone.feed(chunk)))
        assert got == read(path, stream, iter([raw])), exchange["id"]
        compared += 1
    assert compared > 2


@settings(max_examples=40)
@given(
    st.lists(st.binary(max_size=20) | st.integers(1, 3 * PIECE).map(bytes), max_size=6),
    st.lists(st.sampled_from(CODINGS), min_size=1, max_size=4),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)
def test_whatever_was_encoded_comes_out_in_small_pieces(
    pieces: list[bytes], codings: list[str], places: list[int]
) -> None:
    """However many codings, flushes and chunks: and what was flushed can be read before the next comes."""
    sent = encoded(pieces, codings)
    undone = decoder(*codings)
    for piece, chunk in zip(pieces, sent, strict=False):
        assert b"".join(undone.feed(chunk)) == piece
    undone = decoder(*codings)
    out = [piece for chunk in cut(b"".join(sent), places) for piece in undone.feed(chunk)]
    assert b"".join(out) == b"".join(pieces)
    assert max(map(len, out), default=0) <= 4 * PIECE


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_given_up_where_it_is_larger_than_any_answer(coding: str) -> None:
    bomb = b"".join(encoded([bytes(20_000_000)], [coding]))
    assert len(bomb) < 100_000
    with pytest.raises(Undecodable, match="too large"):
        list(decoder(coding, most=1_000_000).feed(bomb))


def test_a_bomb_inside_a_bomb_is_given_up_too() -> None:
    bomb = b"".join(encoded([bytes(20_000_000)], ["gzip", "br", "zstd"]))
    assert len(bomb) < 2_000
    with pytest.raises(Undecodable, match="too large"):
        list(decoder("gzip", "br", "zstd", most=1_000_000).feed(bomb))


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_not_what_it_says_is_an_error(coding: str) -> None:
    with pytest.raises(Undecodable):
        list(decoder(coding).feed(b'{"usage": null}' + b"\xff" * 300))


@given(st.lists(st.sampled_from(CODINGS), min_size=1, max_size=3), st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_raise_anything_else(codings: list[str], raw: bytes, kept: int) -> None:
    """Neither bytes that are nothing, nor what began well."""
    undone = decoder(*codings)
    with suppress(Undecodable):
        for chunk in (encoded([b"well begun"], codings)[0][:kept], raw, raw):
            list(undone.feed(chunk))


def test_members_and_frames_one_after_the_other_are_one_body() -> None:
    assert b"".join(decoder("gzip").feed(gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0")) == b"ab"
    assert b"".join(decoder("zstd").feed(zstd.compress(b"a") + zstd.compress(b"b"))) == b"ab"


def test_deflate_is_read_as_zlib_and_bare() -> None:
    bare = zlib.compressobj(wbits=-15)
    for sent in (zlib.compress(b"hello"), bare.compress(b"hello") + bare.flush()):
        assert b"".join(decoder("deflate").feed(sent + b"behind its end")) == b"hello"


def test_a_window_that_no_browser_would_hold_is_an_error() -> None:
    """RFC 9659: at most 8 MiB with HTTP."""
    large = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    with pytest.raises(Undecodable):
        list(decoder("zstd").feed(large.compress(b"x") + large.flush()))


@pytest.mark.parametrize(
    ("values", "codings", "known"),
    [
        ([], [], True),
        ([b"identity"], [], True),
        ([b"GZip"], [b"gzip"], True),
        ([b"gzip, br", b"zstd"], [b"gzip", b"br", b"zstd"], True),
        ([b"compress"], [b"compress"], False),
        ([b"gzip,gzip,gzip,gzip,gzip"], [b"gzip"] * 5, False),
    ],
)
def test_codings_are_told_by_the_header(values: list[bytes], codings: list[bytes], known: bool) -> None:
    assert (codings_of(values), can_decode(codings_of(values))) == (codings, known)


def test_what_brotli_holds_back_when_a_piece_is_full_is_not_lost() -> None:
    """It may take all of a chunk and say that it accepts more, with output of it still to come."""
    raw = b"".join(b'data: {"n":%d}\n\n' % number for number in range(20_000))
    undone = decoder("br")
    assert (
        b"".join(
            piece for chunk in cut(brotli.compress(raw, quality=5), [5_000]) for piece in undone.feed(chunk)
        )
        == raw
    )
