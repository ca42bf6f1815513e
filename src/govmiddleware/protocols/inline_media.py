"""What files that are in a request take of its prompt, as the model reads them, whatever the protocol."""

from __future__ import annotations

import re
from math import ceil

from govmiddleware.core.media import HEAD, decoded, image_size
from govmiddleware.core.sound import seconds_at_most
from govmiddleware.protocols import anthropic_vision, gemini_media, openai_vision

PAGE_TOKENS = 1_000
"""Of a page, its text and its picture, to OpenAI's models. Recorded: 70 to 220 with a line on it, 800 to 1100 full."""
SOUND_TOKENS = 10
"""A second, to OpenAI's models that hear (developers.openai.com/api/docs/guides/realtime-costs)."""
BYTES_A_PAGE = 10_000
"""Of a document that does not show its pages."""

_OPENAI = re.compile(r"gpt-(?!oss)|chatgpt|codex|(?:^|[/:])o\d")
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_LONGEST_MARK = 24
"""Bytes of what tells a page, with some space in it."""
_PIECE = 262_144
"""Characters that are searched at once: the event loop has its turn between."""


def file_tokens(model: str, data: str, kind: str = "", detail: str = "auto") -> int | None:
    """The tokens of a file; None where they do not show.

    Args:
        data: base64, or a `data:` URL.
        kind: its MIME type, where that is said beside.
        detail: with which OpenAI's models are to look at a picture.
    """
    model = model.lower()
    said, data = _split(data)
    head = decoded(data[:HEAD])
    match (said or kind or _kind_of(head)).partition("/"):
        case "image", _, _:
            size = image_size(head)
            return _image_tokens(model, *size, detail) if size else None
        case "application", _, "pdf":
            each = _page_tokens(model)
            return _pages(data) * each if each else None
        case "audio", _, _:
            each = _sound_tokens(model)
            return ceil(seconds_at_most(head, len(data) * 3 // 4) * each) if each else None
    return None


def file_text(data: str) -> str | None:
    """The text in a `data:` URL of one."""
    said, digits = _split(data)
    return decoded(digits).decode("utf-8", "replace") if said.startswith("text/") else None


def _split(data: str) -> tuple[str, str]:
    if not data.startswith("data:"):
        return "", data
    start = data.find(";base64,", 0, 256)
    return ("", "") if start < 0 else (data[5:start].partition(";")[0], data[start + 8 :])


def _kind_of(head: bytes) -> str:
    if head.startswith(b"%PDF"):
        return "application/pdf"
    if head.startswith((b"ID3", b"fLaC", b"\xff\xfb")) or head[8:12] == b"WAVE":
        return "audio/"
    return "image/"


def _image_tokens(model: str, width: int, height: int, detail: str) -> int | None:
    if "claude" in model:
        return anthropic_vision.image_tokens(model, width, height)
    if "gemini" in model:
        return gemini_media.image_tokens(model, width, height)
    return openai_vision.image_tokens(model, width, height, detail)


def _page_tokens(model: str) -> int | None:
    if "claude" in model:
        return anthropic_vision.PAGE_TOKENS
    if "gemini" in model:
        return gemini_media.page_tokens(model)
    return PAGE_TOKENS if _OPENAI.search(model) else None


def _sound_tokens(model: str) -> int | None:
    if "gemini" in model:
        return gemini_media.SOUND_TOKENS
    return SOUND_TOKENS if _OPENAI.search(model) else None


def _pages(data: str) -> int:
    """How many a document has, or probably has."""
    pages, rest = 0, b""
    for start in range(0, len(data), _PIECE):
        rest += decoded(data[start : start + _PIECE])
        end = 0
        for found in _PAGE.finditer(rest, endpos=max(0, len(rest) - 1)):
            pages, end = pages + 1, found.end()
        rest = rest[max(end, len(rest) - _LONGEST_MARK) :]
    return pages or ceil(len(data) * 3 / 4 / BYTES_A_PAGE)
