"""What Gemini takes for pictures, documents, sounds, films and texts that are in a request as files.

Source: ai.google.dev/gemini-api/docs/tokens and /media-resolution, read in November 2026, and the recordings: a
picture of 540 x 360 is 1806 tokens to Gemini 2.0 (six tiles and the whole, 258 each), any is 258 to 2.5, and up to
1120 to 3; a page is 258 tokens, and up to 560 to 3.
"""

from __future__ import annotations

import re
from math import ceil
from typing import Any

from govmiddleware.core.media import HEAD, decoded, image_size, wav_seconds

TILE_TOKENS = 258
IMAGE_TOKENS = 1120
"""Of any picture, since Gemini 3."""
PAGE_TOKENS = 560
"""Of any page of a document, since Gemini 3."""
SOUND_TOKENS = 32
"""A second."""
BYTES_A_TOKEN = 250
"""Of sounds and films whose length does not show: sound at 64 kbit/s."""
SMALLEST_TILED = 384
"""Pixels: what is no larger either way is one tile."""

_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_TILED = re.compile(r"gemini-(?:1|2\.0)")
_WHOLE = re.compile(r"gemini-2\.5")


def media_tokens(model: str, inline: dict[str, Any]) -> int | None:
    """The tokens of an `inlineData` object; None for a picture or a document whose size does not show, and for what is
    none of both and makes no sound."""
    kind, data = inline.get("mimeType"), inline.get("data")
    if not isinstance(kind, str) or not isinstance(data, str):
        return None
    length = len(data) * 3 // 4
    match kind.partition("/"):  # it is read as what it is said to be: a document may begin like a picture
        case "image", _, _:
            size = image_size(decoded(data[:HEAD]))
            return image_tokens(model, *size) if size else None
        case "application", _, "pdf":
            return len(_PAGE.findall(decoded(data))) * page_tokens(model) or None
        case "audio" | "video", _, _:
            seconds = wav_seconds(decoded(data[:HEAD]), length)
            return ceil(length / BYTES_A_TOKEN if seconds is None else seconds * SOUND_TOKENS)
    return None


def text_of(inline: dict[str, Any]) -> str | None:
    """The text of an `inlineData` object that is one."""
    kind, data = inline.get("mimeType"), inline.get("data")
    if not (isinstance(kind, str) and kind.startswith("text/") and isinstance(data, str)):
        return None
    return decoded(data).decode("utf-8", "replace")


def page_tokens(model: str) -> int:
    """The tokens of a page of a document."""
    return TILE_TOKENS if _TILED.search(model) or _WHOLE.search(model) else PAGE_TOKENS


def image_tokens(model: str, width: int, height: int) -> int:
    """The tokens of a picture of so many pixels."""
    if _WHOLE.search(model):
        return TILE_TOKENS
    if not _TILED.search(model):
        return IMAGE_TOKENS
    if max(width, height) <= SMALLEST_TILED:
        return TILE_TOKENS
    unit = min(max(min(width, height) * 2 // 3, 256), 768)
    return TILE_TOKENS * (-(-width // unit) * -(-height // unit) + 1)
