"""Meter: taps the answer as it passes, for what was really used; never holds a stream back."""

from __future__ import annotations

from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.body import RequestBody
from govmiddleware.errors import MissingPredecessor
from govmiddleware.middleware._body import with_body_headers
from govmiddleware.middleware._codings import READABLE
from govmiddleware.middleware._enter import enter
from govmiddleware.middleware._tap import Tap


class Meter:
    """Innermost. Asks a stream to report its usage where the client did not, reads the usage out of the
    answer, and counts what was delivered for the case that it has none. Ends a stream that is reserved in
    slices when the limits have no room for the next."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None or not call.model_call:
            await self.app(scope, receive, send)
            return
        if call.body is None:
            raise MissingPredecessor("Meter", "Estimate")
        injected = call.protocol.request_usage(call.body)
        scope = _readable(scope, call.body, is_edited=injected or call.grow is not None)
        tap = Tap(call, send, usage_was_injected=injected)
        error: Exception | None = None
        try:
            await self.app(scope, receive, tap)
        except Exception as raised:
            error = raised
            if not call.was_cut:  # else this is how the app heard of it
                raise
        finally:
            tap.close()
            call.answer_end = tap.end(error)


def _readable(scope: Scope, body: RequestBody, *, is_edited: bool) -> Scope:
    """The scope with the body's headers as it stands now, accepting only answers that can be read: what
    has to be edited must not be compressed."""
    accept = (
        b"identity" if is_edited else _accept(dict(scope["headers"]).get(b"accept-encoding", b"identity"))
    )
    return with_body_headers(scope, body, replace=[(b"accept-encoding", accept)])


@lru_cache(maxsize=256)
def _accept(offered: bytes) -> bytes:
    readable = [
        coding.strip() for coding in offered.lower().split(b",") if coding.split(b";")[0].strip() in READABLE
    ]
    return b", ".join(readable) or b"identity"
