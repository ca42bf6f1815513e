"""Which headers cross the gateway, in each direction."""

from __future__ import annotations

import re
from typing import Literal

from govmiddleware.core.call import Attribution
from govmiddleware.core.ids import looks_like_api_token
from govmiddleware.core.ports import Headers
from govmiddleware.core.scopes import ANONYMOUS

UpstreamAuth = Literal["replace", "forward"]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 7.6.1, with the proxy headers of 11.7, which are between two hops too."""

_ABOUT_THIS_HOP = frozenset({b"host", b"expect", b"content-length"})
"""The client writes the host, the server in front of us has answered the expectation, and the length is
added again by who knows the body."""

_JUDGED = frozenset({b"content-type", b"accept-encoding"})
"""What the gateway itself says of a call: `connection` cannot take it back."""

_STEERING = frozenset(
    {
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-url",  # IIS, and the frameworks that ran behind it
        b"x-rewrite-url",
        b"x-litellm-num-retries",  # with a short timeout, calls that are cut and paid for without end
        b"x-litellm-timeout",
        b"x-litellm-stream-timeout",
        b"x-goog-fieldmask",  # the answer would come without its usage
        b"x-vertex-ai-llm-shared-request-type",  # Vertex AI: at the price of priority
        b"x-amzn-bedrock-service-tier",  # Bedrock: the same, of a model called in its maker's form
        b"x-amzn-bedrock-performanceconfig-latency",
        b"proxy",  # CGI scripts take it for HTTP_PROXY: CVE-2016-5385
    }
)
"""By these, some upstreams would serve another method or path than the one that was governed, or it more than
once, at another price, or without its usage."""

_CREDENTIALS = frozenset(
    {
        b"authorization",
        b"x-api-key",  # Anthropic
        b"api-key",  # Azure OpenAI
        b"x-goog-api-key",  # Gemini
        b"x-litellm-api-key",
        b"ocp-apim-subscription-key",  # Azure API Management
        b"x-amz-security-token",  # AWS, beside the signature in `authorization`
        b"cookie",  # a browser's session with us, such as the console's
    }
)


_LITELLMS_NAMES = frozenset(
    {b"x-litellm-end-user-id", b"x-litellm-customer-id", b"x-litellm-session-id", b"x-litellm-tags"}
)

_ENDS_HERE = _HOP_BY_HOP | _ABOUT_THIS_HOP | _STEERING
_ENDS_HERE_WITH_CREDENTIALS = _ENDS_HERE | _CREDENTIALS

_KEY_HEADERS = {"anthropic": b"x-api-key", "gemini": b"x-goog-api-key"}
"""Of whom does not take its key as a Bearer token."""

_CONTROLS = bytes({*range(0x20), 0x7F} - {ord("\t")})
_WITHOUT_CONTROLS = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))
"""RFC 9110, 5.5: in values they are to be refused or replaced by spaces; the libraries would do neither, or
fail."""


def request_headers(
    headers: Headers,
    *,
    upstream_auth: UpstreamAuth,
    upstream_api_key: str | None,
    protocol: str,
    request_id: str,
) -> Headers:
    """The headers to send upstream, without the body's framing.

    A name with an underscore is taken for the one with a dash: CGI and WSGI make both one variable.

    Args:
        upstream_auth: `replace` drops every credential of the client and adds `upstream_api_key`, if
            there is one; `forward` passes them on, but never one that holds an API token of ours.
        protocol: the wire protocol's name, which says the header of the key.
        request_id: sent as `x-request-id` unless the client gave one.
    """
    dropped = _ENDS_HERE_WITH_CREDENTIALS if upstream_auth == "replace" else _ENDS_HERE
    names = dict(headers)
    if b"connection" in names:
        dropped |= _named_by_connection(headers) - _JUDGED
    kept: Headers = []
    for name, value in headers:
        meant = name.replace(b"_", b"-")
        if meant in dropped or meant.startswith(b"x-gov-"):
            continue
        if b"gov_" in value and _holds_api_token(value):  # whatever the header's name
            continue
        kept.append((name, value.translate(_WITHOUT_CONTROLS).strip(b" \t")))
    if upstream_auth == "replace" and upstream_api_key is not None:
        kept.append(_credential(protocol, upstream_api_key))
    if b"x-request-id" not in names or not any(name == b"x-request-id" for name, _ in kept):
        kept.append((b"x-request-id", request_id.encode("ascii")))
    return kept


def with_litellms_names(headers: Headers, attribution: Attribution) -> Headers:
    """The headers with the user, session and tags that a call counts for, in place of those that the client wrote for
    LiteLLM: what an API token pins reaches it, and no header that a pin beats."""
    kept = [header for header in headers if header[0].replace(b"_", b"-") not in _LITELLMS_NAMES]
    tags = ",".join(
        value if name == "tag" and "=" not in value else f"{name}={value}" for name, value in attribution.tags
    )
    for name, text in (
        (b"x-litellm-end-user-id", attribution.user),
        (b"x-litellm-session-id", attribution.session),
        (b"x-litellm-tags", tags),
    ):
        if text not in (ANONYMOUS, ""):
            kept.append((name, text.encode()))
    return kept


def declared_length(headers: Headers) -> bytes | None:
    """The request's `content-length` in its shortest form, unless a transfer coding overrides it (RFC 9112
    6.3). The server in front of us has checked that it is a number."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            found = b"%d" % int(value)
    return found


def response_headers(headers: Headers, status: int) -> Headers:
    """The headers to send to the client.

    The length goes where it does not describe the bytes that follow: beside a transfer coding, and
    with 204 and 304, whose bodies are always empty (servers count what they send against it).
    """
    dropped = _HOP_BY_HOP
    names = dict(headers)
    if b"connection" in names:
        dropped |= _named_by_connection(headers)
    if status in (204, 304) or b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    return [
        (name, value.translate(_WITHOUT_CONTROLS).strip(b" \t"))
        for name, value in headers
        if name not in dropped
    ]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """What `connection` says is for the next hop alone."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(option.strip().lower() for value in values for option in value.split(b","))


def _holds_api_token(value: bytes) -> bool:
    words = re.split(r"[\s,;=:\"]+", value.decode("latin-1"))
    return any(looks_like_api_token(word) for word in words)


def _credential(protocol: str, key: str) -> tuple[bytes, bytes]:
    for maker, header in _KEY_HEADERS.items():
        if protocol.startswith(maker):
            return header, key.encode("latin-1")
    return b"authorization", b"Bearer " + key.encode("latin-1")
