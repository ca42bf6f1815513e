"""What arrives as a body is bounded, decoded, judged, and sent on as it was judged."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from govmiddleware.core.refusals import ClientClosed
from govmiddleware.middleware import Estimate

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
BODY = json.dumps(CHAT).encode()


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
async def estimate(governed, inside) -> Any:
    """Estimate alone, with a bound of 4 kB and a deadline of 50 ms, around the scripted provider."""
    governance = await governed()
    return Estimate(inside, prices=governance.prices, max_body_bytes=4096, body_timeout=0.05)


async def ask(app: Any, *messages: Any, headers: dict[str, str] | None = None) -> list[Any]:
    """Send these ASGI messages as one request; what the app sends back. A message that is awaitable is
    awaited; past the last one, asking for more is an error."""
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> Any:
        message = waiting.pop(0)
        return await message if asyncio.iscoroutine(message) or asyncio.isfuture(message) else message

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await app(scope, receive, send)
    return sent


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def code(sent: list[Any]) -> tuple[int, str]:
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]


# Bounds -------------------------------------------------------------------------------------------


async def test_a_body_that_announces_too_much_is_refused_unread(estimate) -> None:
    sent = await ask(estimate, headers={"content-length": "4097"})  # there is nothing to receive
    assert code(sent) == (413, "request_too_large")


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(estimate) -> None:
    sent = await ask(estimate, part(b"x" * 4096), part(b"x"))  # the rest of it is never asked for
    assert code(sent) == (413, "request_too_large")


async def test_a_body_of_just_the_bound_is_fine(estimate, inside) -> None:
    body = BODY[:-1] + b" " * (4096 - len(BODY)) + b"}"
    sent = await ask(estimate, part(body[:1000]), part(body[1000:], more=False), asyncio.Future(), headers={})
    assert sent[0]["status"] == 200
    assert json.loads(inside.bodies[0]) == CHAT


async def test_a_body_that_comes_too_slowly_is_refused_at_the_deadline(estimate) -> None:
    sent = await ask(estimate, part(BODY[:10]), asyncio.Future())
    assert code(sent) == (408, "request_timeout")


@pytest.mark.parametrize("length", ["", "abc", "-1", "9" * 5000])
async def test_a_content_length_that_no_server_lets_through_breaks_nothing(estimate, length) -> None:
    sent = await ask(estimate, part(BODY, more=False), asyncio.Future(), headers={"content-length": length})
    assert sent[0]["status"] in (200, 413)


# Encodings ----------------------------------------------------------------------------------------

ENCODED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}


@pytest.mark.parametrize("encoding", [*ENCODED, "GZip "])
async def test_encoded_bodies_are_decoded_and_sent_on_plain(estimate, inside, post, encoding) -> None:
    encoded = ENCODED[encoding.lower().strip()](BODY)
    answer = await post(estimate, content=encoded, headers={"content-encoding": encoding})
    assert answer.status_code == 200
    [exchange] = inside.provider.exchanges
    assert exchange.body == CHAT
    assert exchange.header(b"content-encoding") is None
    assert exchange.header(b"content-length") == str(len(exchange.raw_body)).encode()


async def test_a_zip_bomb_is_refused_without_being_unpacked(estimate, post) -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    assert len(bomb) < 4096
    answer = await post(estimate, content=bomb, headers={"content-encoding": "gzip"})
    assert error(answer) == (413, "request_too_large")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x"])
async def test_an_unknown_encoding_is_refused_by_name_and_unread(estimate, encoding) -> None:
    sent = await ask(estimate, headers={"content-encoding": encoding})
    assert code(sent) == (415, "unsupported_content_encoding")
    assert repr(encoding) in json.loads(sent[1]["body"])["error"]["message"]


@pytest.mark.parametrize(
    "broken",
    [gzip.compress(BODY)[:-9], gzip.compress(BODY) + b"x", BODY, b"", zlib.compress(BODY)],
    ids=["cut", "and more", "not packed", "empty", "zlib"],
)
async def test_what_is_not_one_whole_gzip_stream_is_refused(estimate, post, broken) -> None:
    answer = await post(estimate, content=broken, headers={"content-encoding": "gzip"})
    assert error(answer) == (400, "invalid_request")


# What is judged is what is sent on ----------------------------------------------------------------


async def test_of_duplicate_keys_only_the_one_that_was_judged_is_sent_on(estimate, inside, post) -> None:
    body = b'{"model": "free-of-charge", ' + BODY[1:]
    assert (await post(estimate, content=body)).status_code == 200
    assert inside.bodies[0].count(b'"model"') == 1
    assert inside.provider.exchanges[0].body["model"] == inside.calls[0].model == "m"


async def test_values_that_nobody_edits_arrive_byte_for_byte(estimate, inside, post) -> None:
    odd = b'{ "seed" : 1.50e+3 , "x":{"b" :1,"a": [ ] }, "t": "\\u00e9\\/" , ' + BODY[1:]
    await post(estimate, content=odd)
    for value in (b"1.50e+3", b'{"b" :1,"a": [ ] }', b'"\\u00e9\\/"'):
        assert value in inside.bodies[0]


@pytest.mark.parametrize("key", ["MODEL", "Max_Tokens", "ſtream", "meſſages", "max_to\u212aens", "uſer"])
async def test_keys_that_a_parser_blind_to_case_takes_for_judged_ones_are_refused(
    estimate, inside, post, key
) -> None:
    answer = await post(estimate, content=json.dumps({**CHAT, key: 1}).encode())
    assert error(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == key
    assert inside.reached == 0


DEEP = b'{"model": "m", "max_tokens": 1, "messages": %s}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"model"',
        b"{'model': 'm'}",
        b'{"model": "m"',
        BODY + b"x",
        BODY + BODY,
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        b'{"model": "m", "messages": [NaN]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "\\udfff", "messages": []}',
        b'{"\\ud800": 1, ' + BODY[1:],
        DEEP % (b"[" * 1500 + b"]" * 1500),
        DEEP % (b'{"a":' * 600 + b"1" + b"}" * 600),
    ],
    ids=repr,
)
async def test_what_is_no_json_object_that_can_be_judged_is_refused(estimate, inside, post, body) -> None:
    answer = await post(estimate, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert inside.reached == 0


@pytest.mark.parametrize("field", ["model", "user"])
@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\x85b", "\x00", "a\x1cb"])
async def test_names_in_the_body_are_printable_as_those_in_headers_are(
    estimate, inside, post, field, name
) -> None:
    """They become names of counters, and the lines of the journal."""
    answer = await post(estimate, **{field: f"m{name}"})
    assert error(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == field
    assert inside.reached == 0


# Around the body ----------------------------------------------------------------------------------


async def test_the_app_sees_the_length_of_the_body_it_reads(governed, inside, post) -> None:
    """Meter edits it last: it asks the stream for its usage."""
    governance = await governed()
    await post(governance.stack(inside), stream=True, max_tokens=None)
    [exchange] = inside.provider.exchanges
    assert exchange.body["stream_options"] == {"include_usage": True}
    assert exchange.header(b"content-length") == str(len(exchange.raw_body)).encode()
    assert [name for name, _ in exchange.headers].count(b"content-length") == 1


async def test_an_output_that_nothing_bounds_is_bounded_in_the_body(governed, inside, post) -> None:
    price = {"model": "*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    governance = await governed(prices=[price], default_max_output_tokens=7)
    await post(governance.stack(inside), model="unheard-of", max_tokens=None)
    assert inside.provider.exchanges[0].body["max_tokens"] == 7
    assert inside.calls[0].bound.output_tokens == 7


async def test_request_trailers_are_dropped_with_their_announcement(estimate, inside, post) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield BODY[:20]
        yield BODY[20:]

    await post(estimate, content=chunks(), headers={"trailer": "x-checksum"})
    [exchange] = inside.provider.exchanges
    names = [name for name, _ in exchange.headers]
    assert b"trailer" not in names
    assert b"transfer-encoding" not in names


async def test_a_client_that_leaves_in_its_body_gives_back_the_request(governed, inside, journal) -> None:
    limit = {"name": "one", "scope": "api_token", "meter": "requests", "window": "day", "hard": 1}
    governance = await governed(limits=[limit])
    token = {"authorization": "Bearer open sesame"}
    await ask(governance.stack(inside), part(BODY[:10]), {"type": "http.disconnect"}, headers=token)
    assert inside.reached == 0
    [state] = (await governance.usage.report())["limits"] or [{"used": 0, "reserved": 0}]
    assert (state["used"], state["reserved"]) == (0, 0)
    again = await ask(governance.stack(inside), part(BODY, more=False), asyncio.Future(), headers=token)
    assert again[0]["status"] == 200
    refusal, outcome = await journal(governance)
    assert (refusal["kind"], refusal["outcome"]) == ("refusal", ClientClosed.code)
    assert outcome["kind"] == "outcome"


async def test_bodies_are_read_once_and_then_the_clients_own_messages_arrive(governed) -> None:
    governance = await governed()
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([await receive(), await receive()])

    await ask(Estimate(app, prices=governance.prices), part(BODY, more=False), {"type": "http.disconnect"})
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
    assert received[0]["more_body"] is False
    assert json.loads(received[0]["body"]) == CHAT


async def test_routes_that_no_protocol_reads_pass_with_their_body_unread(governed) -> None:
    governance = await governed()
    messages = [part(b"a"), part(b"b", more=False)]
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([await receive(), await receive()])

    async def receive() -> Any:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/v1/other", "query_string": b"", "headers": []}
    await Estimate(app, prices=governance.prices)(scope, receive, None)
    assert received == [part(b"a"), part(b"b", more=False)]
