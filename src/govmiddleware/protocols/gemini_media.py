"""What Gemini takes for pictures, sounds and texts that are in a request as files.

Source: ai.google.dev/gemini-api/docs/tokens and /media-resolution, read in November 2026, and the recordings: a
picture of 540 x 360 is 1806 tokens to Gemini 2.0 (six tiles and the whole, 258 each), any is 258 to 2.5, and up to
1120 to 3.
"""

from __future__ import annotations

import re
from math import ceil
from typing import Any

from govmiddleware.core.media import HEAD, decoded, image_size, wav_seconds

TILE_TOKENS = 258
IMAGE_TOKENS = 1120
"""Of any picture, since Gemini 3."""
SOUND_TOKENS = 32
"""A second."""
SMALLEST_TILED = 384
"""Pixels: what is no larger either way is one tile."""

_TILED = re.compile(r"gemini-(?:1|2\.0)")
_WHOLE = re.compile(r"gemini-2\.5")


def media_tokens(model: str, inline: dict[str, Any]) -> int | None:
    """The tokens of an `inlineData` object that is a picture or a sound; None where its size does not show."""
    kind, data = inline.get("mimeType"), inline.get("data")
    if not isinstance(kind, str) or not isinstance(data, str):
        return None
    # It is read as what it is said to be: a document may begin like a picture.
    if kind.startswith("image/") and (size := image_size(decoded(data[:HEAD]))):
        return _image_tokens(model, *size)
    if kind.startswith("audio/") and (seconds := wav_seconds(decoded(data[:HEAD]), len(data) * 3 // 4)):
        return ceil(seconds * SOUND_TOKENS)
    return None


def text_of(inline: dict[str, Any]) -> str | None:
    """The text of an `inlineData` object that is one."""
    kind, data = inline.get("mimeType"), inline.get("data")
    if not (isinstance(kind, str) and kind.startswith("text/") and isinstance(data, str)):
        return None
    return decoded(data).decode("utf-8", "replace")


def _image_tokens(model: str, width: int, height: int) -> int:
    if _WHOLE.search(model):
        return TILE_TOKENS
    if not _TILED.search(model):
        return IMAGE_TOKENS
    if max(width, height) <= SMALLEST_TILED:
        return TILE_TOKENS
    unit = min(max(min(width, height) * 2 // 3, 256), 768)
    return TILE_TOKENS * (-(-width // unit) * -(-height // unit) + 1)
