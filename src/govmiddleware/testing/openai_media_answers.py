"""What OpenAI's routes for pictures and sounds answer: pictures of one pixel, sounds of silence."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Iterator

from govmiddleware.testing.words import Json, dump, split

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SILENCE = b"ID3" + bytes(4096)

_PICTURE = {"b64_json": base64.b64encode(PIXEL).decode()}
_JSON = b"application/json"
_EVENTS = b"text/event-stream; charset=utf-8"


def answer(
    path: str, body: Json | None, raw: bytes, *, text: str, pieces: int, usage: Json | None
) -> tuple[bytes, Iterable[bytes]] | None:
    """Content type and chunks of the answer to a request with a JSON body or a form; None for another route.

    Args:
        usage: as reported; without it none is, as by models that are billed by the picture or the minute.
    """
    given = body if body is not None else _Form(raw)
    streams = str(given.get("stream")).lower() == "true"
    told = {"usage": usage} if usage else {}
    match path.rsplit("/", 2)[-2:]:
        case "images", route:
            if streams:
                kind = "image_edit" if route == "edits" else "image_generation"
                return _EVENTS, map(_event, _picture_events(kind, told))
            made = {"created": int(time.time()), "data": [_PICTURE] * int(given.get("n") or 1)}
            return _JSON, [dump({**made, **told})]
        case "audio", "transcriptions" | "translations":
            if streams:
                return _EVENTS, map(_event, _transcript_events(text, pieces, told))
            if given.get("response_format") in ("text", "srt", "vtt"):
                return b"text/plain; charset=utf-8", [text.encode()]
            return _JSON, [dump({"text": text} | told)]
        case "audio", "speech":
            if given.get("stream_format") == "sse":
                sound = {"type": "speech.audio.delta", "audio": base64.b64encode(SILENCE).decode()}
                return _EVENTS, [_event(sound), _event({"type": "speech.audio.done"} | told)]
            return b"audio/mpeg", [SILENCE]
    return None


class _Form:
    """The texts of a form, as openai-python writes it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def get(self, name: str) -> str | None:
        found = re.search(
            rb'name="' + re.escape(name.encode()) + rb'"\r\n\r\n(.*?)\r\n--', self._raw, re.DOTALL
        )
        return found[1].decode() if found else None


def _picture_events(kind: str, told: Json) -> Iterator[Json]:
    yield {"type": f"{kind}.partial_image", "partial_image_index": 0, **_PICTURE}
    yield {"type": f"{kind}.completed", **_PICTURE} | told


def _transcript_events(text: str, pieces: int, told: Json) -> Iterator[Json]:
    for piece in split(text, pieces):
        yield {"type": "transcript.text.delta", "delta": piece}
    yield {"type": "transcript.text.done", "text": text} | told


def _event(value: Json) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
