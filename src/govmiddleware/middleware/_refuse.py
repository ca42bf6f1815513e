"""The way out of a refusal: the answer in the client's own protocol."""

from __future__ import annotations

from starlette.types import Scope, Send

from govmiddleware.core.call import Call
from govmiddleware.core.refusals import Refusal


async def refuse(call: Call, refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer with a refusal and note it in the Call. The response must not have started.

    Raises the refusal where the call's reservation was put off: who did that answers, for a limit may refuse first.
    """
    if call.is_deferred:
        raise refusal
    call.refusal = refusal
    response = call.protocol.refusal(refusal, call.request_id)
    headers = list(response.headers)
    if any(name == b"expect" for name, _ in scope["headers"]):
        # The client may never send the body it announced; nothing after it on this connection could be told
        # from that body (RFC 9110, 10.1.1).
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
