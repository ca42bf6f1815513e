"""What goes through the gateway arrives as it was sent."""

from __future__ import annotations

import gzip

import pytest

from govmiddleware.core.call import Progress
from govmiddleware.core.ids import new_api_token
from govmiddleware.testing.provider import Script, ScriptedProvider

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_a_call_reaches_the_provider_and_its_answer_the_client(
    gateway, http, provider: ScriptedProvider
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there"}]}
    answer = await http.post("/v1/chat/completions?a=1", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == provider.script.text
    seen = provider.exchanges[0]
    assert (seen.method, seen.path, seen.query, seen.body) == ("POST", "/v1/chat/completions", b"a=1", body)
    call = await gateway.last_call()
    assert (call.progress, call.status, call.refusal) == (Progress.COMPLETE, 200, None)
    assert seen.header(b"x-request-id") == call.request_id.encode()


async def test_an_error_of_the_provider_is_passed_on(gateway, http, provider: ScriptedProvider) -> None:
    provider.next(Script(status=429, headers=((b"retry-after", b"7"),), body=b'{"error": {}}'))
    answer = await http.post("/v1/chat/completions", json={})
    assert (answer.status_code, answer.headers["retry-after"], answer.content) == (429, "7", b'{"error": {}}')
    call = await gateway.last_call()
    assert (call.progress, call.status, call.refusal) == (Progress.COMPLETE, 429, None)


@pytest.mark.parametrize("prefix", ["", "/prefix", "/prefix/"])
async def test_path_and_query_are_appended_verbatim(gateway, raw_upstream, prefix: str) -> None:
    target = b"/a%2Fb/../c;x//d%20%7e?y=%20&z&&q=a/b?c=%C3%A9"
    async with raw_upstream(OK) as upstream:
        gateway.forward_to(upstream.url + prefix)
        await gateway.exchange(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    request_line = upstream.heads[0].split(b"\r\n")[0]
    assert request_line == b"GET " + prefix.rstrip("/").encode() + target + b" HTTP/1.1"


async def test_no_header_is_added_but_host_and_request_id(gateway, raw_upstream) -> None:
    async with raw_upstream(OK) as upstream:
        gateway.forward_to(upstream.url)
        await gateway.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head = upstream.heads[0].lower().split(b"\r\n")[1:-2]
    assert [line.partition(b":")[0] for line in head] == [b"host", b"x-request-id"]
    assert head[0] == b"host: " + upstream.url.removeprefix("http://").encode()


async def test_request_headers_keep_order_duplicates_and_bytes(gateway, raw_upstream) -> None:
    given = [b"b: 1", b"a: 2", b"b: 3", b"accept-encoding: x", b"c: caf\xc3\xa9", b"x-request-id: mine"]
    async with raw_upstream(OK) as upstream:
        gateway.forward_to(upstream.url)
        head = b"\r\n".join([b"GET / HTTP/1.1", b"host: x", b"connection: close", *given])
        await gateway.exchange(head + b"\r\n\r\n")
    assert upstream.heads[0].split(b"\r\n")[2:-2] == given


async def test_response_headers_keep_order_duplicates_and_bytes(gateway, raw_upstream) -> None:
    given = [
        b"set-cookie: b=1",
        b"x-a: 2",
        b"set-cookie: a=3",
        b"content-length: 0",
        b"x-b: caf\xe9\xc3\xa9",
        b"x-a: ",
    ]
    async with raw_upstream(
        b"\r\n".join([b"HTTP/1.1 200 OK", b"Keep-Alive: 5", *given]) + b"\r\n\r\n"
    ) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.split(b"\r\n")[1:-3] == given
    assert answer.split(b"\r\n")[-3] == b"connection: close"


async def test_a_head_of_64_kib_passes(gateway, raw_upstream) -> None:
    value = b"v" * 65536
    async with raw_upstream(
        b"HTTP/1.1 200 OK\r\nx-long: " + value + b"\r\ncontent-length: 0\r\n\r\n"
    ) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"x-long: " + value in answer


async def test_a_compressed_answer_is_not_touched(gateway, raw_upstream) -> None:
    packed = gzip.compress(b"hello " * 100)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with raw_upstream(head + packed) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    received_head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in received_head
    assert body == packed


async def test_a_redirect_is_passed_on_and_not_followed(gateway, http, raw_upstream) -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with raw_upstream(redirect) as upstream:
        gateway.forward_to(upstream.url)
        answer = await http.post("/x", content=b"{}")
    assert (answer.status_code, answer.headers["location"]) == (307, "/elsewhere")
    assert len(upstream.heads) == 1


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request(gateway, raw_upstream) -> None:
    async with raw_upstream(
        b"HTTP/1.1 200 OK\r\nset-cookie: a=1; Path=/\r\ncontent-length: 0\r\n\r\n"
    ) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")  # aiohttp keeps no cookies of addresses
        gateway.forward_to(url, upstream_auth="forward")
        for _ in range(2):
            await gateway.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert len(upstream.heads) == 2
    assert b"cookie" not in upstream.heads[1].lower()


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        (
            b"HEAD",
            b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n",
        ),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n"),
        (
            b"GET",
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\netag: x\r\n",
        ),
    ],
)
async def test_answers_without_a_body_have_none(gateway, raw_upstream, method, answer, expected) -> None:
    async with raw_upstream(answer) as upstream:
        gateway.forward_to(upstream.url)
        received = await gateway.exchange(method + b" / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert received == expected + b"connection: close\r\n\r\n"
    assert (await gateway.last_call()).progress is Progress.COMPLETE


async def test_an_answer_that_ends_with_its_connection_is_whole(gateway, http, raw_upstream) -> None:
    async with raw_upstream(b"HTTP/1.1 200 OK\r\n\r\nuntil the end") as upstream:
        gateway.forward_to(upstream.url)
        assert (await http.get("/")).content == b"until the end"


@pytest.mark.parametrize(
    ("framing", "body", "expected"),
    [
        (b"content-length: 5", b"hello", [b"content-length: 5"]),
        (b"content-length: 0", b"", [b"content-length: 0"]),
        (
            b"transfer-encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
            [b"content-length: 5", b"transfer-encoding: chunked"],
        ),
        (b"x-none: 1", b"", [b"content-length: 0"]),
    ],
)
async def test_a_request_body_is_framed_as_its_length_is_known(
    gateway, raw_upstream, framing, body, expected
) -> None:
    received = b""

    async def upstream_app(reader, writer) -> None:
        nonlocal received
        head = await reader.readuntil(b"\r\n\r\n")
        framed = [line.lower() for line in head.split(b"\r\n") if line.lower() in expected]
        assert len(framed) == 1
        if framed == [b"transfer-encoding: chunked"]:
            received = await reader.readuntil(b"0\r\n\r\n")
        elif framed == [b"content-length: 5"]:
            received = await reader.readexactly(5)
        writer.write(OK)

    async with raw_upstream(upstream_app) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + framing + b"\r\n\r\n" + body
        )
    assert answer.startswith(b"HTTP/1.1 200")
    assert received in (body, b"hello")


async def test_credentials_are_replaced_forwarded_or_held_back(
    gateway, http, provider, upstream_server
) -> None:
    ours = new_api_token()
    for auth, given, expected in [
        ("replace", f"Bearer {ours}", b"Bearer sk-upstream"),
        ("replace", "Bearer theirs", b"Bearer sk-upstream"),
        ("forward", "Bearer theirs", b"Bearer theirs"),
        ("forward", f"Bearer {ours}", None),
    ]:
        gateway.forward_to(upstream_server.url, upstream_auth=auth, upstream_api_key="sk-upstream")
        await http.get("/v1/models", headers={"authorization": given, "x-api-key": ours})
        seen = provider.exchanges[-1]
        assert seen.header(b"authorization") == expected
        assert not any(ours.encode() in value for _, value in seen.headers)


async def test_connections_are_used_again(gateway, http, raw_upstream) -> None:
    async def keep_answering(reader, writer) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)

    async with raw_upstream(keep_answering) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(5):
            assert (await http.get("/")).content == b"ok"
        assert upstream.connections == 1
