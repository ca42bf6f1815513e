"""The way in, shared by every middleware: the request's Call, opened by whichever stands outermost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase

from msgspec.structs import replace
from starlette.types import Message, Scope, Send

from govmiddleware.core.attribution import read_attribution
from govmiddleware.core.call import Call, Principal, current_call
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.scopes import ANONYMOUS
from govmiddleware.core.trace_context import request_id_in, traceparent_in
from govmiddleware.errors import ConfigurationError, MissingPredecessor
from govmiddleware.protocols.registry import recognise, unrecognised

STATE_KEY = "gov"
_OURS = b"x-gov-"


def enter(scope: Scope, send: Send, *, in_app: bool = True) -> tuple[Call | None, Send]:
    """The Call of this request, and the `send` to use from here on.

    The Call is None for what is not governed: other scope types, and requests that Authenticate's
    `paths` leave out. The outermost middleware opens it, and its `send` puts the headers of
    `Call.answer_headers` on the answer and notes the status. `in_app` is for `recognise`.
    """
    if scope["type"] != "http":
        return None, send
    state = scope.get("state") or {}
    call: Call | None = state.get(STATE_KEY)
    if call is not None:
        return (call if call.governed else None), send
    method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
    protocol = recognise(method, path, in_app=in_app)
    call = Call(
        request_id=new_request_id(),
        protocol=protocol or unrecognised(scope["headers"], path),
        method=method,
        path=path,
        model_call=protocol is not None,
        client_request_id=request_id_in(headers),
        traceparent=traceparent_in(headers),
    )
    call.answer_headers.append((b"x-gov-request-id", call.request_id.encode()))
    # A dict of our own: some servers give all requests of a connection the same one.
    scope["state"] = {**state, STATE_KEY: call}
    current_call.set(call)
    return call, WithAnswerHeaders(call, send)


def name_caller(
    call: Call, scope: Scope, principal: Callable[[Scope], Principal] | None, *, middleware: str
) -> None:
    """Of a call that no Authenticate stands outside of: `principal` says who calls, and pins and headers on whose
    behalf.

    Raises MissingPredecessor for `middleware`, and InvalidRequest as `read_attribution`.
    """
    if principal is None:
        raise MissingPredecessor(middleware, "Authenticate (or a principal= callable)")
    call.principal = principal(scope)
    in_body = call.attribution.user  # an Estimate outside has read it
    call.attribution = read_attribution(scope["headers"], call.principal, trust_caller=call.trust_caller)
    if call.attribution.user == ANONYMOUS:
        call.attribution = replace(call.attribution, user=in_body)


def checked_patterns(paths: Sequence[str] | None) -> Sequence[str] | None:
    """`paths` as given. One string would be taken for patterns of one character each, of which `*` governs
    everything and the others nothing. Raises ConfigurationError."""
    if isinstance(paths, str):
        raise ConfigurationError("paths", paths, f"a list of shell patterns, such as [{paths!r}]")
    return paths


def covers(patterns: Sequence[str], path: str) -> bool:
    """Whether a path matches one of the shell patterns. A line feed at its end does not count, as it does
    not for the routes of Starlette."""
    path = path.removesuffix("\n")
    return any(fnmatchcase(path, pattern) for pattern in patterns)


class WithAnswerHeaders:
    """A `send` that puts `Call.answer_headers` on the answer, and notes its status and when its body begins. Behind
    that it only passes on, and may be left out (`without_headers`)."""

    __slots__ = ("_call", "send")

    def __init__(self, call: Call, send: Send) -> None:
        self._call = call
        self.send = send

    def __call__(self, message: Message) -> Awaitable[None]:
        call = self._call
        if message["type"] == "http.response.start":
            call.status = message["status"]
            # Also those that this answer has none of: to a client each would be our word.
            kept = [
                header for header in message.get("headers", ()) if not header[0].lower().startswith(_OURS)
            ]
            message = {**message, "headers": [*kept, *call.answer_headers]}
        elif call.first_byte is None and message.get("body"):
            call.first_byte = time.monotonic()
        return self.send(message)


def without_headers(send: Send) -> Send:
    """The `send` to use once the body has begun: each chunk of a stream has one call fewer to go through."""
    return send.send if isinstance(send, WithAnswerHeaders) else send
