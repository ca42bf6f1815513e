"""Whether a stream that broke off can still take an event, or a line, that says so."""

from __future__ import annotations

from govmiddleware.core.ports import Headers
from govmiddleware.protocols.aws_frames import CONTENT_TYPE, FrameSplitter

_ENDS = {
    b"text/event-stream": (b"\n\n", b"\r\n\r\n", b"\r\r"),
    b"application/x-ndjson": (b"\n",),
}
"""Of events, and of the JSON lines that Ollama streams."""


class EventStreamEnd:
    """Follows a response to know, at any time, whether one more event may be written after it.

    It may in an event stream (WHATWG HTML 9.2), one of lines, or one of AWS's frames, whose bytes are neither encoded
    nor counted beforehand, and only between two events: behind half an event it would read as part of that one.
    """

    def __init__(self, headers: Headers) -> None:
        content_type = b""
        fixed = False
        for name, value in headers:
            if name == b"content-type":
                content_type = value.partition(b";")[0].strip().lower()
            elif name == b"content-length" or (name == b"content-encoding" and value != b"identity"):
                fixed = True
        self._ends = () if fixed else _ENDS.get(content_type, ())
        self._tail = b"\n\n"
        self._frames = FrameSplitter() if content_type == CONTENT_TYPE and not fixed else None

    def feed(self, chunk: bytes) -> None:
        """Note what was sent."""
        if self._ends:
            self._tail = chunk[-4:] if len(chunk) >= 4 else (self._tail + chunk)[-4:]
        elif self._frames is not None:
            self._frames.feed(chunk)

    @property
    def takes_an_event(self) -> bool:
        return self._tail.endswith(self._ends) if self._frames is None else self._frames.between_frames
