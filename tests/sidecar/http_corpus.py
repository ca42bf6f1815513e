"""Odd but legal and illegal HTTP requests, byte for byte, with what must become of each.

Most are a chat completion that is changed in one place. What an attacker wants of them: a route that
nobody meters, somebody else's name, the control plane, or two requests where one was judged.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from enum import Enum

SECRET = "a-secret-of-any-shape"
HOST = b"Host: gateway"
ROUTE = b"/v1/chat/completions"
TOKEN = f"Authorization: Bearer {SECRET}".encode()
JSON = b"Content-Type: application/json"
CHUNKED = b"Transfer-Encoding: chunked"

CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"max_tokens":9}'
"""One body for all: what a lenient upstream would make a chat completion of, wherever it arrives."""

EMBEDDING = b'{"model":"text-embedding-3-small","input":"Hi"}'
PROMPT = b'{"model":"gpt-3.5-turbo-instruct","prompt":"hi","max_tokens":3}'


class Fate(Enum):
    METERED = "reaches the upstream as a model call, and is in the books"
    READ = "reaches the upstream as a read, which costs nothing"
    FORWARDED = 'reaches the upstream where unmetered_routes = "forward", else is refused'
    ANSWERED = "is answered here, by the control plane"
    REFUSED = "never reaches the upstream; the answer is an error, or the connection ends"


@dataclass(frozen=True, slots=True)
class Case:
    """One connection's bytes.

    Attributes:
        reaches: how many requests of it reach the upstream, where they do.
        cut: the last request is not whole, so that the server waits for more of it.
    """

    name: str
    raw: bytes
    fate: Fate
    reaches: int = 1
    cut: bool = False


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Put together as it stands: nothing is added, and nothing checked."""
    return b"\r\n".join([line, *headers, b"", body])


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def chat(
    target: bytes = ROUTE,
    *more: bytes,
    method: bytes = b"POST",
    version: bytes = b"HTTP/1.1",
    body: bytes = CHAT,
) -> bytes:
    """A chat completion as it should be, but for what is given."""
    return request(b"%s %s %s" % (method, target, version), HOST, TOKEN, JSON, *more, length(body), body=body)


def framed(*framing: bytes, body: bytes = CHAT, version: bytes = b"HTTP/1.1") -> bytes:
    """A chat completion whose length is said in other words."""
    return request(b"POST /v1/chat/completions " + version, HOST, TOKEN, JSON, *framing, body=body)


def chunks(*lines: bytes) -> bytes:
    return framed(CHUNKED, body=b"\r\n".join(lines))


def get(target: bytes, *more: bytes, method: bytes = b"GET") -> bytes:
    return request(method + b" " + target + b" HTTP/1.1", HOST, TOKEN, *more)


WHOLE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
"""The body in one chunk."""

NEXT = chat()
STRANGER = request(b"POST /v1/chat/completions HTTP/1.1", HOST, JSON, length(CHAT), body=CHAT)
"""A request of its own, without a token."""

METERED, READ, FORWARDED, ANSWERED, REFUSED = Fate

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
THIS_HOP = (
    b"Connection: x-gov-user, authorization, content-type, accept-encoding, content-length, host, x-request-id",
    b"X-Gov-User: ann",
)
ON_THE_WAY = (
    b"X-Forwarded-For: 127.0.0.1",
    b"X-Forwarded-Host: evil.example",
    b"X_Forwarded_Proto: https",
    b"X-Real-IP: 127.0.0.1",
    b"Forwarded: for=127.0.0.1",
)

# One case a line: a table.
# fmt: off

PLAIN = [
    Case("a chat completion", chat(), METERED),
    Case("an embedding", chat(b"/v1/embeddings", body=EMBEDDING), METERED),
    Case("a chat completion in chunks", framed(CHUNKED, body=WHOLE), METERED),
    Case("a list of models", get(b"/v1/models"), READ),
    Case("a model with an encoded slash", get(b"/v1/models/meta%2Fllama"), READ),
    Case("a HEAD", get(b"/v1/models", method=b"HEAD"), READ),
    Case("a file's deletion", get(b"/v1/files/a%3Ab", method=b"DELETE"), FORWARDED),
    Case("a ranking", chat(b"/v1/rerank"), FORWARDED),
    Case("a completion of old", chat(b"/v1/completions", body=PROMPT), METERED),
    Case("a stored response", get(b"/v1/responses/resp_1"), READ),
    Case("a stored completion's update", chat(b"/v1/chat/completions/id"), FORWARDED),
    Case("the health", get(b"/gov/healthz"), ANSWERED),
    Case("no token", STRANGER, REFUSED),
    Case("a wrong token", STRANGER.replace(HOST, HOST + b"\r\nAuthorization: Bearer x"), REFUSED),
    Case("the report on usage", get(b"/gov/api/v1/usage"), ANSWERED),
]

TARGETS = [
    Case("a prefix", chat(b"/team/v1/chat/completions"), METERED),
    Case("a query", chat(b"/v1/chat/completions?a=1?b&c=/x"), METERED),
    Case("an empty query", chat(b"/v1/chat/completions?"), METERED),
    Case("a query that is a path", chat(b"/v1/rerank?/v1/chat/completions"), FORWARDED),
    Case("a trailing slash", chat(b"/v1/chat/completions/"), METERED),
    Case("two trailing slashes", chat(b"/v1/chat/completions//"), METERED),
    Case("upper case", chat(b"/V1/Chat/COMPLETIONS"), METERED),
    Case("an encoded slash", chat(b"/v1/chat%2Fcompletions"), METERED),
    Case("an encoded slash at the end", chat(b"/v1/chat/completions%2f"), METERED),
    Case("an encoded line feed at the end", chat(b"/v1/chat/completions%0A"), REFUSED),
    Case("an encoded carriage return at the end", chat(b"/v1/chat/completions%0d"), REFUSED),
    Case("an encoded space at the end", chat(b"/v1/chat/completions%20"), METERED),
    Case("a dot at the end", chat(b"/v1/chat/completions."), METERED),
    Case("an encoded NUL at the end", chat(b"/v1/chat/completions%00"), REFUSED),
    Case("an encoded NUL before another end", chat(b"/v1/chat/completions%00/x"), REFUSED),
    Case("an encoded NUL behind another route", chat(b"/v1/rerank%00/chat/completions"), REFUSED),
    Case("a read behind two slashes", get(b"//v1/models"), REFUSED),
    Case("a read with a parameter", get(b"/v1/models;x"), REFUSED),
    Case("spaces around it", chat(b" /v1/chat/completions "), METERED),
    Case("two leading slashes", chat(b"//v1/chat/completions"), REFUSED),
    Case("two slashes", chat(b"/v1/chat//completions"), REFUSED),
    Case("encoded slashes in a row", chat(b"/v1/chat%2F%2Fcompletions"), REFUSED),
    Case("a dot segment", chat(b"/v1/./chat/completions"), REFUSED),
    Case("a dot segment inside", chat(b"/v1/chat/./completions"), REFUSED),
    Case("a dot segment at the end", chat(b"/v1/chat/completions/."), REFUSED),
    Case("up and down", chat(b"/v1/x/../chat/completions"), REFUSED),
    Case("up and down inside", chat(b"/v1/chat/x/../completions"), REFUSED),
    Case("up behind", chat(b"/v1/chat/completions/x/.."), REFUSED),
    Case("up to another route", chat(b"/v1/chat/completions/../../rerank"), REFUSED),
    Case("encoded dots", chat(b"/v1/x/%2e%2e/chat/completions"), REFUSED),
    Case("encoded dots inside", chat(b"/v1/chat/x/%2E%2E/completions"), REFUSED),
    Case("one encoded dot of two", chat(b"/v1/chat/x/.%2e/completions"), REFUSED),
    Case("dots between encoded slashes", chat(b"/v1/chat/x%2f..%2fcompletions"), REFUSED),
    Case("dots encoded twice", chat(b"/v1/chat/x/%252e%252e/completions"), REFUSED),
    Case("a slash encoded twice", chat(b"/v1/chat%252Fcompletions"), REFUSED),
    Case("an encoded letter", chat(b"/v1/%63hat/completions"), REFUSED),
    Case("a letter encoded twice", chat(b"/v1/%2563hat/completions"), REFUSED),
    Case("a parameter", chat(b"/v1/chat/completions;x=1"), REFUSED),
    Case("a parameter inside", chat(b"/v1/chat;x=1/completions"), REFUSED),
    Case("an encoded parameter", chat(b"/v1/chat/completions%3Bx"), REFUSED),
    Case("a parameter that hides dots", chat(b"/v1/chat/x/..;/completions"), REFUSED),
    Case("a parameter before a metered route", chat(b"/v1/rerank;/chat/completions"), REFUSED),
    Case("an encoded query", chat(b"/v1/chat/completions%3Fx"), REFUSED),
    Case("an encoded query before a metered route", chat(b"/v1/rerank%3F/chat/completions"), REFUSED),
    Case("an encoded fragment", chat(b"/v1/rerank%23/chat/completions"), REFUSED),
    Case("a fragment", chat(b"/v1/chat/completions#x"), METERED),
    Case("a fragment before a metered route", chat(b"/v1/rerank#/chat/completions"), FORWARDED),
    Case("a backslash", chat(b"/v1/chat\\completions"), REFUSED),
    Case("an encoded backslash", chat(b"/v1/chat%5Ccompletions"), REFUSED),
    Case("dots and backslashes", chat(b"/v1/chat/x\\..\\completions"), REFUSED),
    Case("an overlong slash", chat(b"/v1/chat%C0%AFcompletions"), REFUSED),
    Case("overlong dots", chat(b"/v1/chat/x/%C0%AE%C0%AE/completions"), REFUSED),
    Case("fullwidth letters", chat(b"/v1/chat/%EF%BD%83ompletions"), REFUSED),
    Case("a fullwidth slash", chat(b"/v1/chat%EF%BC%8Fcompletions"), REFUSED),
    Case("fullwidth dots", chat(b"/v1/chat/x/%EF%BC%8E%EF%BC%8E/completions"), REFUSED),
    Case("a long s", chat(b"/v1/chat/completion%C5%BF"), REFUSED),
    Case("raw UTF-8", chat("/v1/chat/completion\u017f".encode()), REFUSED),
    Case("a percent sign that encodes nothing", chat(b"/v1/chat/completions%zz"), REFUSED),
    Case("what must be encoded and is not", chat(b'/v1/chat/"completions"<>^`{|}'), REFUSED),
    Case("a raw space", chat(b"/v1/chat/completions x"), REFUSED),
    Case("a tab", chat(b"/v1/chat/completions\tx"), REFUSED),
    Case("a control character", chat(b"/v1/chat/completions\x01"), REFUSED),
    Case("an absolute form", chat(b"http://evil.example/v1/chat/completions"), METERED),
    Case("an absolute form with a user", chat(b"http://a:b@evil.example/v1/chat/completions"), METERED),
    Case("an absolute form of another scheme", chat(b"ftp://evil.example/v1/chat/completions"), METERED),
    Case("an absolute form without a path", chat(b"http://evil.example"), REFUSED),
    Case("an absolute form of a file", chat(b"file:///v1/chat/completions"), REFUSED),
    Case("a read in absolute form", get(b"http://evil.example/v1/models"), READ),
    Case("another host behind @", get(b"@evil.example/v1/models"), REFUSED),
    Case("another host behind a colon", get(b":80@evil.example/v1/models"), REFUSED),
    Case("an authority form", get(b"evil.example:443"), REFUSED),
    Case("no slash", chat(b"v1/chat/completions"), REFUSED),
    Case("an asterisk", request(b"OPTIONS * HTTP/1.1", HOST, TOKEN), REFUSED),
    Case("an asterisk and a path", chat(b"*/v1/chat/completions"), REFUSED),
    Case("a long path", get(b"/v1/" + b"a" * 30_000), READ),
    Case("a long query", chat(b"/v1/chat/completions?" + b"a" * 30_000), METERED),
    Case("a deployment of another model", chat(b"/openai/deployments/o1-pro/chat/completions"), REFUSED),
    Case("a deployment in upper case", chat(b"/OpenAI/Deployments/o1-pro/Chat/Completions"), REFUSED),
    Case("a deployment behind encoded slashes", chat(b"/x/deployments%2Fo1-pro/chat/completions"), REFUSED),
    Case("another model in the query", chat(b"/v1/chat/completions?model=o1-pro"), REFUSED),
    Case("another model in an encoded query", chat(b"/v1/chat/completions?mod%65l=o1-pro"), REFUSED),
]

CONTROL = [
    Case("the health, encoded", get(b"/%67ov/healthz"), REFUSED),
    Case("the health behind an encoded slash", get(b"/gov%2Fhealthz"), REFUSED),
    Case("the health behind two slashes", get(b"//gov/healthz"), REFUSED),
    Case("the health in upper case", get(b"/GOV/healthz"), REFUSED),
    Case("the health from elsewhere", get(b"/v1/../gov/healthz"), REFUSED),
    Case("the health from elsewhere, encoded", get(b"/v1/%2e%2e/gov/healthz"), REFUSED),
    Case("the health behind a dot", get(b"/./gov/healthz"), REFUSED),
    Case("the health with a parameter", get(b"/gov;x/healthz"), REFUSED),
    Case("the health behind a backslash", get(b"/\\gov/healthz"), REFUSED),
    Case("the health in fullwidth letters", get(b"/%EF%BD%87ov/healthz"), REFUSED),
    Case("the health in absolute form", get(b"http://evil.example/gov/healthz"), ANSWERED),
    Case("the health by another method", chat(b"/gov/healthz"), ANSWERED),
    Case("a call under the control plane", chat(b"/gov/v1/chat/completions"), ANSWERED),
    Case("a way out of the control plane", get(b"/gov/../v1/models"), ANSWERED),
    Case("the prefix itself", get(b"/gov"), ANSWERED),
    Case("what only begins like it", get(b"/government"), READ),
    Case("the report on usage, without a token", request(b"GET /gov/api/v1/usage HTTP/1.1", HOST), ANSWERED),
    Case("the report on usage by an original URL", get(b"/v1/models", b"X-Original-URL: /gov/api/v1/usage"), READ),
]

METHODS = [
    Case("a lower-case method", chat(method=b"post"), REFUSED),
    Case("a method in mixed case", chat(method=b"Post"), REFUSED),
    Case("an unknown method", chat(method=b"SPEND"), REFUSED),
    Case("a PUT on a metered route", chat(method=b"PUT"), REFUSED),
    Case("a PATCH on a metered route", chat(method=b"PATCH"), REFUSED),
    Case("a QUERY on a metered route", chat(method=b"QUERY"), REFUSED),
    Case("a PURGE", get(b"/v1/models", method=b"PURGE"), FORWARDED),
    Case("a TRACE, which would show the upstream's key", get(b"/v1/models", method=b"TRACE"), REFUSED),
    Case("a TRACE in lower case", get(b"/v1/models", method=b"trace"), REFUSED),
    Case("a CONNECT", get(b"evil.example:443", method=b"CONNECT"), REFUSED),
    Case("a CONNECT to a path", get(b"/v1/chat/completions", method=b"CONNECT"), REFUSED),
    Case("a GET of a metered route", get(b"/v1/chat/completions"), READ),
    Case("a GET with a body", chat(method=b"GET"), REFUSED),
    Case("a HEAD with a body", chat(method=b"HEAD"), REFUSED),
    Case("an OPTIONS with a body", chat(method=b"OPTIONS"), REFUSED),
    Case("a GET with a body elsewhere", chat(b"/v1/models", method=b"GET"), FORWARDED),
    Case("a GET with a body in chunks", request(b"GET /v1/chat/completions HTTP/1.1", HOST, TOKEN, JSON, CHUNKED, body=WHOLE), REFUSED),
    Case("a GET with a body of no length", get(b"/v1/models", b"Content-Length: 0"), READ),
    Case("a GET that is overridden", get(b"/v1/chat/completions", b"X-HTTP-Method-Override: POST"), READ),
    Case("a GET that is overridden otherwise", get(b"/v1/chat/completions", b"X-HTTP-Method: POST"), READ),
    Case("a GET that is overridden once more", get(b"/v1/chat/completions", b"X-Method-Override: POST"), READ),
    Case("a GET that is overridden with underscores", get(b"/v1/x", b"X_HTTP_Method_Override: POST"), READ),
    Case("a POST that is overridden", chat(ROUTE, b"X-HTTP-Method-Override: PUT"), METERED),
    Case("another URL in a header", chat(b"/v1/embeddings", b"X-Original-URL: /v1/rerank", body=EMBEDDING), METERED),
    Case("a rewritten URL in a header", get(b"/v1/models", b"X-Rewrite-URL: /v1/chat/completions"), READ),
]

VERSIONS = [
    Case("HTTP/1.0", chat(version=b"HTTP/1.0"), METERED),
    Case("HTTP/1.0 without a host", request(b"GET /v1/models HTTP/1.0", TOKEN), READ),
    Case("HTTP/0.9", b"GET /v1/models\r\n", REFUSED, cut=True),
    Case("HTTP/1.2", chat(version=b"HTTP/1.2"), REFUSED),
    Case("HTTP/2.0", chat(version=b"HTTP/2.0"), REFUSED),
    Case("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
    Case("a version in lower case", chat(version=b"http/1.1"), REFUSED),
    Case("a version with a space", chat(version=b"HTTP/1.1 "), REFUSED),
    Case("an upgrade to h2c", chat(ROUTE, *H2C), METERED),
    Case("an upgrade to h2c of chunks", framed(*H2C, CHUNKED, body=WHOLE), METERED),
    Case("an upgrade to h2c that smuggles", chat(ROUTE, *H2C) + STRANGER, METERED),
    Case("an upgrade to a WebSocket", get(b"/v1/realtime", *WEBSOCKET), REFUSED),
    Case("a POST that wants a WebSocket", chat(ROUTE, *WEBSOCKET), REFUSED),
]

FRAMING = [
    Case("a length and chunks", framed(length(CHAT), CHUNKED, body=WHOLE), REFUSED),
    Case("chunks and a length", framed(CHUNKED, length(WHOLE), body=WHOLE), REFUSED),
    Case("a short length, and a request behind it (CL.TE)", framed(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + STRANGER), REFUSED),
    Case("two equal lengths", framed(length(CHAT), length(CHAT)), REFUSED),
    Case("two lengths", framed(length(CHAT), b"Content-Length: 0"), REFUSED),
    Case("two lengths in one", framed(b"Content-Length: 5, 5", body=b"hello"), REFUSED),
    Case("a length with a plus", framed(b"Content-Length: +%d" % len(CHAT)), REFUSED),
    Case("a negative length", framed(b"Content-Length: -1"), REFUSED),
    Case("a hexadecimal length", framed(b"Content-Length: 0x%x" % len(CHAT)), REFUSED),
    Case("a length with zeros", framed(b"Content-Length: 000%d" % len(CHAT)), METERED),
    Case("a length between spaces", framed(b"Content-Length: \t %d \t" % len(CHAT)), METERED),
    Case("a length without a number", framed(b"Content-Length:"), REFUSED),
    Case("a length past every number", framed(b"Content-Length: 99999999999999999999"), REFUSED),
    Case("a length with an underscore", framed(b"Content_Length: 5", length(CHAT)), METERED),
    Case("a length that is too small", framed(b"Content-Length: 5"), REFUSED),
    Case("a length that is too large", framed(b"Content-Length: 999"), REFUSED, cut=True),
    Case("a length for an upload between spaces", request(b"POST /v1/files HTTP/1.1", HOST, TOKEN, b"Content-Length: 05 ", body=b"hello"), FORWARDED),
    Case("another coding", framed(b"Transfer-Encoding: xchunked", body=WHOLE), REFUSED),
    Case("a coding that is none", framed(b"Transfer-Encoding: identity"), REFUSED),
    Case("a coding that is none, and a length", framed(b"Transfer-Encoding: identity", length(CHAT)), REFUSED),
    Case("chunks that are compressed", framed(b"Transfer-Encoding: gzip, chunked", body=WHOLE), REFUSED),
    Case("an upload in compressed chunks", request(b"POST /v1/files HTTP/1.1", HOST, TOKEN, b"Transfer-Encoding: gzip, chunked", body=WHOLE), REFUSED),
    Case("chunks and no coding", framed(b"Transfer-Encoding: chunked, identity", body=WHOLE), REFUSED),
    Case("no coding and chunks", framed(b"Transfer-Encoding: identity, chunked", body=WHOLE), REFUSED),
    Case("chunks twice", framed(CHUNKED, CHUNKED, body=WHOLE), REFUSED),
    Case("chunks twice in one", framed(b"Transfer-Encoding: chunked, chunked", body=WHOLE), REFUSED),
    Case("chunks in mixed case", framed(b"Transfer-Encoding: ChunKed", body=WHOLE), METERED),
    Case("chunks before a colon with a space", framed(b"Transfer-Encoding : chunked", body=WHOLE), REFUSED),
    Case("chunks behind a vertical tab", framed(b"Transfer-Encoding: \x0bchunked", body=WHOLE), REFUSED),
    Case("chunks with an underscore", framed(b"Transfer_Encoding: chunked", length(CHAT)), METERED),
    Case("chunks in HTTP/1.0", framed(CHUNKED, body=WHOLE, version=b"HTTP/1.0"), REFUSED),
    Case("a chunk with an extension", chunks(b'%x;a=b;c="d"' % len(CHAT), CHAT, b"0;e", b"", b""), METERED),
    Case("a chunk with a line feed in its extension", chunks(b"%x;a\nb" % len(CHAT), CHAT, b"0", b"", b""), REFUSED),
    Case("chunks in bare line feeds", framed(CHUNKED, body=WHOLE.replace(b"\r\n", b"\n")), REFUSED),
    Case("a chunk of a size past every number", chunks(b"f" * 17, CHAT, b"0", b"", b""), REFUSED),
    Case("a chunk of a negative size", chunks(b"-1", CHAT, b"0", b"", b""), REFUSED),
    Case("a chunk with 0x", chunks(b"0x%x" % len(CHAT), CHAT, b"0", b"", b""), REFUSED),
    Case("a chunk that is longer than it says", chunks(b"5", CHAT, b"0", b"", b""), REFUSED),
    Case("a chunk that never ends", chunks(b"fff", CHAT), REFUSED, cut=True),
    Case("chunks and a stranger behind them", framed(CHUNKED, body=WHOLE + STRANGER), METERED),
    Case("trailers that would be headers", chunks(b"%x" % len(CHAT), CHAT, b"0", b"X-Gov-User: eve", b"Authorization: Bearer x", b"", b""), METERED),
    Case("a trailer of a megabyte", chunks(b"%x" % len(CHAT), CHAT, b"0", b"X-A: " + b"a" * 2**20, b"", b""), REFUSED),
    Case("a chunk's extension of a megabyte", chunks(b"%x;" % len(CHAT) + b"a" * 2**20, CHAT, b"0", b"", b""), REFUSED),
    Case("a length in the trailers", chunks(b"%x" % len(CHAT), CHAT, b"0", b"Content-Length: 5", b"", b""), REFUSED),
]

HEADS = [
    Case("bare line feeds", chat().replace(b"\r\n", b"\n"), REFUSED),
    Case("a bare line feed between headers", chat(b"/v1/models", b"X-A: 1\nX-B: 2", method=b"GET"), REFUSED),
    Case("a bare carriage return", chat(ROUTE, b"X-A: 1\rX-B: 2"), REFUSED),
    Case("a NUL in a header", chat(ROUTE, b"X-A: 1\x002"), REFUSED),
    Case("a control character in a header", chat(ROUTE, b"X-A: 1\x012"), REFUSED),
    Case("bytes past ASCII in a header", chat(ROUTE, b"X-A: caf\xc3\xa9"), METERED),
    Case("a space before a colon", chat(ROUTE, b"X-A : 1"), REFUSED),
    Case("a header without a colon", chat(ROUTE, b"X-A"), REFUSED),
    Case("a header without a name", chat(ROUTE, b": 1"), REFUSED),
    Case("a header without a value", chat(ROUTE, b"X-A:"), METERED),
    Case("a slash in a header's name", chat(ROUTE, b"X/A: 1"), REFUSED),
    Case("odd letters in a header's name", chat(ROUTE, b"X!#$%&'*+.^`|~: 1"), METERED),
    Case("a folded header", chat(ROUTE, b"X-A: 1", b" 2"), REFUSED),
    Case("a folded token", request(b"GET /v1/models HTTP/1.1", HOST, b"Authorization: Bearer", b"\t" + SECRET.encode()), REFUSED),
    Case("a folded length", framed(b"Content-Length:", b" %d" % len(CHAT)), REFUSED),
    Case("folded chunks", framed(b"Transfer-Encoding:", b" chunked", body=WHOLE), REFUSED),
    Case("a fold before the first header", request(b"GET /v1/models HTTP/1.1", b" X-A: 1", HOST, TOKEN), REFUSED),
    Case("an empty line before it", b"\r\n" + chat(), METERED),
    Case("no host", request(b"GET /v1/models HTTP/1.1", TOKEN), REFUSED),
    Case("two hosts", get(b"/v1/models", b"Host: evil.example"), REFUSED),
    Case("two tokens, the second wrong", get(b"/v1/models", b"Authorization: Bearer x"), REFUSED),
    Case("a header of a megabyte", chat(ROUTE, b"X-A: " + b"a" * 2**20), REFUSED),
    Case("headers of a megabyte", chat(ROUTE, *[b"X-A: " + b"a" * 1000] * 1000), REFUSED),
    Case("two hundred headers", chat(ROUTE, *[b"X-%d: a" % n for n in range(200)]), METERED),
    Case("many cookies", chat(ROUTE, *[b"Cookie: a%d=b" % n for n in range(50)]), METERED),
    Case("another name in underscores", chat(ROUTE, b"X_Gov_User: eve"), METERED),
    Case("another key in underscores", chat(ROUTE, b"X_Api_Key: theirs"), METERED),
    Case("headers that are only for this hop", chat(ROUTE, *THIS_HOP), METERED),
    Case("the proxy of CGI scripts", chat(ROUTE, b"Proxy: http://evil.example"), METERED),
    Case("where it came from, from nobody who is trusted", chat(ROUTE, *ON_THE_WAY), METERED),
    Case("an expectation in mixed case", chat(ROUTE, b"Expect: 100-Continue"), METERED),
    Case("an expectation that nobody knows", chat(ROUTE, b"Expect: 200-ok"), METERED),
]

BODIES = [
    Case("duplicate keys", chat(body=b'{"model":"o1-pro",' + CHAT[1:]), METERED),
    Case("a byte order mark", chat(body=b"\xef\xbb\xbf" + CHAT), REFUSED),
    Case("UTF-16", chat(body=CHAT.decode().encode("utf-16")), REFUSED),
    Case("a form", chat(ROUTE, b"Content-Type: application/x-www-form-urlencoded"), METERED),
    Case("gzip", chat(ROUTE, b"Content-Encoding: gzip", body=gzip.compress(CHAT)), METERED),
    Case("gzip that is none", chat(ROUTE, b"Content-Encoding: gzip"), REFUSED),
    Case("gzip twice", chat(ROUTE, b"Content-Encoding: gzip, gzip", body=gzip.compress(gzip.compress(CHAT))), REFUSED),
    Case("a coding and none", chat(ROUTE, b"Content-Encoding: gzip", b"Content-Encoding: identity"), METERED),
    Case("an unknown coding", chat(ROUTE, b"Content-Encoding: br"), REFUSED),
    Case("a second object behind the first", chat(body=CHAT + CHAT), REFUSED),
    Case("no body", request(b"POST /v1/chat/completions HTTP/1.1", HOST, TOKEN, JSON, b"Content-Length: 0"), REFUSED),
    Case("no body and no length", request(b"POST /v1/chat/completions HTTP/1.1", HOST, TOKEN, JSON), REFUSED),
]

SEVERAL = [
    Case("two at once", chat() + NEXT, METERED, reaches=2),
    Case("one, and a stranger's", chat() + STRANGER, METERED),
    Case("a stranger's, and one", STRANGER + NEXT, METERED),
    Case("one inside another's body", chat(b"/v1/files", body=STRANGER), FORWARDED),
    Case("one behind a refused body", chat(b"/v1//files", body=STRANGER) + NEXT, METERED),
    Case("one behind a length that is too small", framed(b"Content-Length: 0", body=STRANGER), REFUSED),
    Case("one behind a GET's body", get(b"/v1/models", length(STRANGER)) + STRANGER, FORWARDED),
    Case("one behind the last", request(b"GET /v1/models HTTP/1.1", HOST, TOKEN, b"Connection: close") + NEXT, READ),
    Case("one behind HTTP/1.0", request(b"GET /v1/models HTTP/1.0", HOST, TOKEN) + NEXT, READ),
    Case("one behind an upgrade", get(b"/v1/models", b"Connection: Upgrade", b"Upgrade: h2c") + STRANGER, READ),
]

# fmt: on

CASES = [*PLAIN, *TARGETS, *CONTROL, *METHODS, *VERSIONS, *FRAMING, *HEADS, *BODIES, *SEVERAL]
