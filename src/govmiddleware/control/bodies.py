"""Bodies of requests to the control plane."""

from __future__ import annotations

from starlette.requests import Request

from govmiddleware.core.refusals import BodyTooLarge


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Raises BodyTooLarge."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise BodyTooLarge(f"The body may have {most_bytes} bytes at most.")
    return body
