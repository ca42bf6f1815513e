"""The innermost app of a sidecar: send the request upstream, stream the answer back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from govmiddleware.core.call import Call, Progress
from govmiddleware.core.ids import looks_like_api_token
from govmiddleware.core.ports import Headers, UpstreamClient, UpstreamResponse
from govmiddleware.core.query import keys_in
from govmiddleware.core.refusals import InvalidRequest, Refusal, Unavailable, UpstreamFailed, UpstreamTooSlow
from govmiddleware.core.trace_context import answers_id_in
from govmiddleware.errors import (
    MissingPredecessor,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from govmiddleware.upstream.client_side import ClientSide
from govmiddleware.upstream.connections import Connections
from govmiddleware.upstream.event_stream import EventStreamEnd
from govmiddleware.upstream.headers import (
    UpstreamAuth,
    declared_length,
    request_headers,
    response_headers,
    with_litellms_names,
)
from govmiddleware.upstream.target import target_url


class Forwarder:
    """An ASGI app that forwards each HTTP request. Bodies stream both ways and are never gathered.

    A client that leaves ends the call upstream at once. What the upstream fails to answer is answered
    for it, 502 or 504; an answer that it breaks off is broken off for the client too, never ended as if
    it were whole. A call for which no connection is free in time is answered 503, and one whose client gives
    up waiting leaves the line; neither can have cost anything.

    Args:
        client: how to reach the upstream; closed by who opened it.
        base_url: origin and optional prefix, as the settings check it. The request's path and query are
            appended verbatim.
        upstream_auth: see `headers.request_headers`.
        upstream_api_key: the upstream's key, for `replace`.
        litellm_headers: whether it hears of a call's user, session and tags in LiteLLM's headers.
        connections: how many the upstream may have at once.
    """

    def __init__(
        self,
        *,
        client: UpstreamClient,
        base_url: str,
        upstream_auth: UpstreamAuth = "replace",
        upstream_api_key: str | None = None,
        litellm_headers: bool = False,
        connections: Connections | None = None,
    ) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._upstream_auth: UpstreamAuth = upstream_auth
        self._upstream_api_key = upstream_api_key
        self._litellm_headers = litellm_headers
        self._connections = connections or Connections()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only http requests can be forwarded, not {scope['type']}")
        call: Call | None = scope.get("state", {}).get("gov")
        if call is None:
            raise MissingPredecessor("Forwarder", "Journal")
        last_chunk: bytes | None = None
        async with ClientSide(scope, receive) as client:
            last_chunk = await self._exchange(call, scope, client, send)
        # Sent when nobody watches any more: servers report the end of a response as a disconnect too.
        if last_chunk is not None:
            await send({"type": "http.response.body", "body": last_chunk, "more_body": False})

    async def _exchange(self, call: Call, scope: Scope, client: ClientSide, send: Send) -> bytes:
        """All but the last chunk of the response, which is returned."""
        call.progress = Progress.UNREACHED  # what ends before there is a connection has used nothing
        without_key = call.protocol.key_in_query and self._drops_key(scope)
        try:
            url = target_url(self._base_url, scope, without_key=without_key)
        except InvalidRequest as refusal:
            return await _refuse(call, refusal, send)
        body = await client.body()
        headers = self._request_headers(call, scope, body)

        def leaves() -> None:
            call.progress = Progress.DISPATCHED

        try:
            async with (
                self._connections,
                self._client.request(scope["method"], url, headers, body, leaves) as answer,
            ):
                return await _relay(call, answer, send)
        except UpstreamError as error:
            if isinstance(error, UpstreamBusy):
                call.progress = Progress.NOT_DISPATCHED
            elif isinstance(error, UpstreamUnreachable) and not error.sent:
                call.progress = Progress.UNREACHED
            failed = _refusal(error)
            call.upstream_failure = failed.code
            if call.progress is Progress.ANSWERING:
                raise
            return await _refuse(call, failed, send)

    def _drops_key(self, scope: Scope) -> bool:
        """Whether a key in the query ends here: as headers with credentials do."""
        keys = keys_in(scope.get("query_string", b""))
        return any(self._upstream_auth == "replace" or looks_like_api_token(key) for key in keys)

    def _request_headers(
        self, call: Call, scope: Scope, body: bytes | AsyncIterator[bytes] | None
    ) -> Headers:
        headers = request_headers(
            scope["headers"],
            upstream_auth=self._upstream_auth,
            upstream_api_key=self._upstream_api_key,
            protocol=call.protocol.name,
            request_id=call.request_id,
        )
        if self._litellm_headers:
            headers = with_litellms_names(headers, call.attribution)
        if isinstance(body, bytes):
            return headers  # what is here is counted by the client
        length = declared_length(scope["headers"])
        if length is not None:
            headers.append((b"content-length", b"0" if body is None else length))
        return headers


async def _relay(call: Call, answer: UpstreamResponse, send: Send) -> bytes:
    """Send the answer on, chunk by chunk, each when the client has taken the one before."""
    call.progress = Progress.ANSWERING
    call.status = answer.status
    call.upstream_request_id = answers_id_in(answer.headers)
    headers = response_headers(answer.headers, answer.status)
    end = EventStreamEnd(headers)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        async for chunk in answer.chunks():
            if answer.ended:
                call.progress = Progress.COMPLETE
                return chunk
            end.feed(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except UpstreamError as error:
        if not end.takes_an_event:
            # The server closes the connection on any exception, and so the client sees the answer
            # for what it is. Ours has one line and no address; where it came from is debris in a log.
            raise error.with_traceback(None) from None
        refusal = _refusal(error)
        call.upstream_failure = refusal.code
        return call.protocol.stream_error(refusal, call.request_id)
    call.progress = Progress.COMPLETE  # before the last message: who has that may look at once
    return b""


async def _refuse(call: Call, refusal: Refusal, send: Send) -> bytes:
    response = call.protocol.refusal(refusal, call.request_id)
    call.refusal, call.status = refusal, response.status
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    return response.body


def _refusal(error: UpstreamError) -> Refusal:
    if isinstance(error, UpstreamTimeout):
        return UpstreamTooSlow(str(error))
    if isinstance(error, UpstreamBusy):
        return Unavailable(str(error), code="upstream_busy")
    return UpstreamFailed(str(error))
