"""What Claude takes for a picture, and for a page of a document.

Source: platform.claude.com/docs/en/build-with-claude/vision and /pdf-support, read in November 2026: a token for each
patch of 28 pixels, of a picture that is brought down to what the model sees at most; a page is a picture and its text.
"""

from __future__ import annotations

import re
from math import ceil

PAGE_TOKENS = 2_250
"""A picture of 1568 tokens and some text. Recorded: 1600 for a page with a line on it, 2700 for one full of text."""

_PATCH = 28
_STANDARD = 1568, 1568
_SHARP = 2576, 4784
"""Pixels of the longer side, and tokens, at most."""
_SEES_SHARP = re.compile(r"opus-4[-.][7-9]|(?:opus|sonnet|haiku)-(?:[5-9]|\d\d)(?!\d)|fable|mythos")


def image_tokens(model: str, width: int, height: int) -> int:
    """The tokens of a picture of so many pixels."""
    longest, most = _SHARP if _SEES_SHARP.search(model.lower()) else _STANDARD
    scale = min(1.0, longest / max(width, height, 1))
    return min(most, ceil(width * scale / _PATCH) * ceil(height * scale / _PATCH))
