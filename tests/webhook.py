"""The receiving end of webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

_KEY = b"a key of thirty-two bytes, yes.."
SECRET = "whsec_" + base64.b64encode(_KEY).decode()


def is_signed(headers: dict[str, str], body: bytes) -> bool:
    """Whether it is signed with SECRET as Standard Webhooks 1.0.0 has it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(_KEY, signed, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == f"v1,{expected}"


class Receiver:
    """An ASGI app that takes messages. Answers with `statuses` in turn, then with 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.attempts: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status = self.statuses.pop(0) if self.statuses else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        self.attempts.append((headers, body))
        if status == 200:
            self.taken.append(json.loads(body))
