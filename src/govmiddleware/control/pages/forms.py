"""What people send: forms of browsers, or JSON."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from govmiddleware.core.refusals import BodyTooLarge, InvalidRequest

_LARGEST_BODY = 16 * 1024

Shape = TypeVar("Shape")


async def read_fields(request: Request) -> dict[str, object]:
    """A form's fields, without those left empty, or a JSON object. Raises InvalidRequest and BodyTooLarge."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise BodyTooLarge(f"It takes at most {_LARGEST_BODY} bytes.")
    try:
        if _is_form(request):
            return {name: value.strip() for name, value in parse_qsl(body.decode()) if value.strip()}
        return msgspec.json.decode(body or b"{}", type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _unreadable(error) from error


def shaped(fields: dict[str, object], shape: type[Shape]) -> Shape:
    """Checked; a form's numbers are text. Raises InvalidRequest."""
    try:
        return msgspec.convert(fields, shape, strict=False)
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"That cannot be read: {error}")


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "application/x-www-form-urlencoded"
