"""How a stream of converse is ended before its time: as if the model had reached its output limit."""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.aws_frames import write_frame
from govmiddleware.protocols.readers import count_or_none


class Ending:
    """Follows a stream, and writes the events that clients take for the end of a whole answer."""

    def __init__(self) -> None:
        self._started = False
        self._open: set[int] = set()
        self._stopped = False

    def note(self, kind: str | None, said: dict[str, Any]) -> None:
        """One event, which the client has got. A block of text begins with its first delta."""
        index = count_or_none(said.get("contentBlockIndex")) or 0
        match kind:
            case "messageStart":
                self._started = True
            case "contentBlockStart" | "contentBlockDelta":
                self._open.add(index)
            case "contentBlockStop":
                self._open.discard(index)
            case "messageStop":
                self._stopped = True

    def write(self, usage: Usage) -> bytes:
        """The events that begin the message where it has not begun, end each block, and end the message."""
        events = [] if self._started else [event("messageStart", {"role": "assistant"})]
        events += [event("contentBlockStop", {"contentBlockIndex": index}) for index in sorted(self._open)]
        if not self._stopped:
            events.append(event("messageStop", {"stopReason": "max_tokens"}))
        used = {
            "inputTokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "cacheReadInputTokens": usage.cached_tokens,
            "cacheWriteInputTokens": usage.cache_write_tokens,
        }
        events.append(event("metadata", {"usage": used, "metrics": {"latencyMs": 0}}))
        return b"".join(events)


def event(kind: str, said: dict[str, Any]) -> bytes:
    """The frame of one event."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return write_frame(headers, msgspec.json.encode(said))
