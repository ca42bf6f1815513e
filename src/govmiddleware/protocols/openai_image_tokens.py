"""What OpenAI's models that draw take for the pictures that they make, and for those that they are given.

Source: developers.openai.com/api/docs/guides/image-generation and /images-vision, read in November 2026: a table for
GPT Image 1 to 1.5. For later models there is a calculator alone, which says up to 12,329 tokens for the largest pictures
of high quality; what it does not say is taken to double with each step of quality.
"""

from __future__ import annotations

import re

from govmiddleware.core.media import image_size
from govmiddleware.protocols.openai_vision import Tiles

PARTIAL_TOKENS = 100
"""Of each partial picture of a stream."""

_TABLE = {  # square, portrait, landscape
    "low": (272, 408, 400),
    "medium": (1056, 1584, 1568),
    "high": (4160, 6240, 6208),
}
_LARGEST = {"low": 400, "medium": 3200, "high": 14_000, "xhigh": 28_000, "max": 56_000}
_TEXT_TOKENS = 1024
"""What later models may write beside, planning the picture: an allowance."""

_BY_TABLE = re.compile(r"gpt-image-1(?!\d)")
_WRITES_NONE = re.compile(r"gpt-image-1(?![\d.])")
_SEES_LITTLE = re.compile(r"gpt-image-1(?!\d)|chatgpt-image")
_SEEN = Tiles(65, 129, shortest=512)
_FAITHFUL_SQUARE, _FAITHFUL = 4160, 6240
"""Further tokens of a picture that is given and seen with high fidelity."""


def drawn_tokens(model: str, quality: str | None, size: str | None) -> int:
    """The output tokens of one picture, at most. What is left to the model is the dearest of high quality."""
    model, quality = model.lower(), quality if quality in _LARGEST else "high"
    if not _BY_TABLE.search(model):
        return _LARGEST[quality] + _TEXT_TOKENS
    square, portrait, landscape = _TABLE.get(quality, _TABLE["high"])
    by_size = {"1024x1024": square, "1024x1536": portrait, "1536x1024": landscape}
    return by_size.get(size or "", portrait) + (0 if _WRITES_NONE.search(model) else _TEXT_TOKENS)


def seen_tokens(model: str, head: bytes, fidelity: str | None) -> int | None:
    """The tokens of a picture that is given, by the beginning of its file; None where its size does not show."""
    size = image_size(head)
    if size is None:
        return None
    tokens = _SEEN.tokens(*size)
    if fidelity == "high" or not _SEES_LITTLE.search(model.lower()):
        tokens += _FAITHFUL_SQUARE if size[0] == size[1] else _FAITHFUL
    return tokens
