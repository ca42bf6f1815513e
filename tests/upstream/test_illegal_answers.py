"""Answers that are not valid HTTP: none is passed on as if it were whole, and none spoils the next."""

from __future__ import annotations

import pytest

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
START = b"HTTP/1.1 200 OK\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

ILLEGAL = {
    "a length and chunks": START
    + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": START + b"content-length: 2\r\ncontent-length: 4\r\n\r\nhihi",
    "a negative length": START + b"content-length: -2\r\n\r\nhi",
    "a length with a plus": START + b"content-length: +2\r\n\r\nhi",
    "a hexadecimal length": START + b"content-length: 0x2\r\n\r\nhi",
    "a length that is no number": START + b"content-length: two\r\n\r\nhi",
    "a length without a number": START + b"content-length:\r\n\r\nhi",
    "a length past every number": START + b"content-length: 99999999999999999999\r\n\r\nhi",
    "a chunk of no size": CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n",
    "a chunk of a negative size": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "a chunk with 0x": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "a chunk of a size past every number": CHUNKED + b"fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"2\r\nhiXX\r\n0\r\n\r\n",
    "chunks in bare line feeds": CHUNKED + b"2\nhi\n0\n\n",
    "an unknown coding": START + b"transfer-encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "compressed chunks": START + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a coding that is none": START + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\nhi",
    "chunks twice": START
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a space before a colon": START + b"transfer-encoding : chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a header without a colon": START + b"x-a\r\ncontent-length: 2\r\n\r\nhi",
    "odd letters in a header's name": START + b"x(a): 1\r\ncontent-length: 2\r\n\r\nhi",
    "a NUL in a header": START + b"x-a: 1\x002\r\ncontent-length: 2\r\n\r\nhi",
    "a bare carriage return": START + b"x-a: 1\r2\r\ncontent-length: 2\r\n\r\nhi",
    "a head of a megabyte": START + b"x-a: " + b"a" * 2**20 + b"\r\ncontent-length: 2\r\n\r\nhi",
    "a status of two digits": b"HTTP/1.1 99 X\r\ncontent-length: 2\r\n\r\nhi",
    "a status of four digits": b"HTTP/1.1 0200 X\r\ncontent-length: 2\r\n\r\nhi",
    "a status past 599": b"HTTP/1.1 600 X\r\ncontent-length: 2\r\n\r\nhi",
    "a status that is no number": b"HTTP/1.1 abc X\r\ncontent-length: 2\r\n\r\nhi",
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n" + OK,
    "a switch to nothing": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
}  # fmt: skip

ODD = {
    "a length with zeros": START + b"content-length: 002\r\n\r\nhi",
    "a length between spaces": START + b"content-length: \t2 \r\n\r\nhi",
    "a chunk with an extension": CHUNKED + b"2;a=b\r\nhi\r\n0;c\r\n\r\n",
    "a folded header": START + b"x-a: 1\r\n 2\r\ncontent-length: 2\r\n\r\nhi",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
    "a control character in a header": START + b"x-a: 1\x012\r\ncontent-length: 2\r\n\r\nhi",
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi",
    "a reason of its own": b"HTTP/1.1 200 All \xe9 right\r\ncontent-length: 2\r\n\r\nhi",
}


@pytest.fixture
def misbehaves_once(raw_upstream):
    """An upstream whose first answer is given, and whose others are `ok`."""

    def make(first: bytes):
        answers = [first]

        async def answer(reader, writer) -> None:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answers.pop() if answers else OK)
                await writer.drain()

        return raw_upstream(answer)

    return make


def is_whole(answer: bytes) -> bool:
    """Whether an answer ended as it says that it does."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n") and body != b"9\r\nhi\r\n0\r\n\r\n"
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(length) == len(body)


@pytest.mark.parametrize("name", ILLEGAL)
async def test_an_illegal_answer_is_a_502_or_breaks_off(gateway, misbehaves_once, name: str) -> None:
    async with misbehaves_once(ILLEGAL[name]) as upstream:
        gateway.forward_to(upstream.url, first_byte_timeout=1, idle_timeout=0.2)
        answer = await gateway.exchange(POST)
        following = await gateway.exchange(POST)
    assert answer.startswith(b"HTTP/1.1 502 ") or not is_whole(answer)
    assert following.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_is_passed_on_in_order(gateway, misbehaves_once, name: str) -> None:
    async with misbehaves_once(ODD[name]) as upstream:
        gateway.forward_to(upstream.url, first_byte_timeout=1, idle_timeout=0.2)
        answer = await gateway.exchange(POST)
        following = await gateway.exchange(POST)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"hi" in answer
    assert is_whole(answer)
    assert b"\x01" not in answer
    assert following.endswith(b"\r\n\r\nok")
