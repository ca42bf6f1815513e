"""How a stream of a message is ended before its time: as if the model had reached its output limit."""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage


class Ending:
    """Follows a stream, and writes the end of it that clients take for a whole message's.

    Source: what anthropic-sdk-python's `lib/streaming/_messages.py` asks of a stream.
    """

    def __init__(self) -> None:
        self._started = False
        self._open: set[int] = set()
        self._stopped = False

    def note(self, said: dict[str, Any]) -> None:
        """One event, which the client has got."""
        index = said.get("index")
        match said.get("type"):
            case "message_start":
                self._started = True
            case "content_block_start" if isinstance(index, int):
                self._open.add(index)
            case "content_block_stop" if isinstance(index, int):
                self._open.discard(index)
            case "message_delta":
                delta = said.get("delta")
                self._stopped = isinstance(delta, dict) and bool(delta.get("stop_reason"))

    def write(self, usage: Usage, model: str, request_id: str) -> bytes:
        """`events` as server-sent ones."""
        return b"".join(map(_event, self.events(usage, model, request_id)))

    def events(self, usage: Usage, model: str, request_id: str) -> list[dict[str, Any]]:
        """Those that begin the message where it has not begun, end each block, and end the message."""
        events: list[dict[str, Any]] = []
        if not self._started:
            events.append(_message_start(usage, model, request_id))
        events += [{"type": "content_block_stop", "index": index} for index in sorted(self._open)]
        if not self._stopped:
            delta = {"stop_reason": "max_tokens", "stop_sequence": None}
            used = {"output_tokens": usage.output_tokens}
            events.append({"type": "message_delta", "delta": delta, "usage": used})
        events.append({"type": "message_stop"})
        return events


def _message_start(usage: Usage, model: str, request_id: str) -> dict[str, Any]:
    used = {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": 0,
    }
    message: dict[str, Any] = {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": used,
    }
    return {"type": "message_start", "message": message}


def _event(event: dict[str, Any]) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
