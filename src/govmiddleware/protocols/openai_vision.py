"""What OpenAI's models take for a picture in a prompt, by its size in pixels.

Source: developers.openai.com/api/docs/guides/images-vision, read in November 2026.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil, floor, sqrt

import msgspec

_PATCH = 32
_TILE = 512
_LOW_PATCHES = (512 // _PATCH) ** 2


class Tiles(msgspec.Struct, frozen=True):
    """Models that see a picture whole, and in tiles of 512 pixels.

    Attributes:
        base, tile: tokens of the whole, and of each tile.
        shortest: to which its shorter side is brought down.
    """

    base: int
    tile: int
    shortest: int = 768

    def tokens(self, width: int, height: int, detail: str = "high") -> int:
        """Of a picture of so many pixels. `detail` as in the request."""
        if detail == "low":
            return self.base
        scale = min(Fraction(1), Fraction(2048, max(width, height, 1)))
        scale = min(scale, Fraction(self.shortest, max(1, min(width, height))))
        return self.base + self.tile * ceil(width * scale / _TILE) * ceil(height * scale / _TILE)


class Patches(msgspec.Struct, frozen=True):
    """Models that see a picture in patches of 32 pixels.

    Attributes:
        percent: tokens of a hundred patches.
        most, longest: patches, and pixels of the longer side, to which a picture is brought down.
        original: the same where `detail` says `original`.
        is_original: whether it does where it says nothing.
    """

    percent: int
    most: int = 1536
    longest: int = 2048
    original: tuple[int, int] | None = None
    is_original: bool = False

    def tokens(self, width: int, height: int, detail: str = "auto") -> int:
        """Of a picture of so many pixels. `detail` as in the request."""
        if detail == "low":
            return ceil(_LOW_PATCHES * self.percent / 100)
        most, longest = self.most, self.longest
        if self.original and (detail == "original" or (detail == "auto" and self.is_original)):
            most, longest = self.original
        return ceil(_patches(max(1, width), max(1, height), most, longest) * self.percent / 100)


_ALL = (30_000, 65_535)
_MODELS: tuple[tuple[str, Tiles | Patches], ...] = (
    ("computer-use", Tiles(65, 129)),
    ("gpt-4o-mini", Tiles(2833, 5667)),
    (r"gpt-4\.1-mini|gpt-5(?:\.4)?-mini", Patches(162)),
    (r"gpt-4\.1-nano|gpt-5(?:\.4)?-nano", Patches(246)),
    ("o4-mini", Patches(172)),
    (r"gpt-5\.4", Patches(120, 2500, original=(10_000, 6_000))),
    (r"gpt-5\.5", Patches(120, 2500, original=(10_000, 6_000), is_original=True)),
    (r"gpt-5\.(?:[6-9]|\d\d)|gpt-[6-9]", Patches(120, 2500, original=_ALL, is_original=True)),
    (r"gpt-5\.[23]|codex", Patches(120)),
    ("gpt-5", Tiles(70, 140)),
    (r"(?:^|[/:])o[13](?!\d)", Tiles(75, 150)),
    (r"gpt-4(?:o|\.|-turbo|-vision|-\d)|chatgpt", Tiles(85, 170)),
)
"""By names, the first found. The docs give no factor for those of 120 %: people measured it of GPT-5.2
(community.openai.com/t/1372291)."""


def image_tokens(model: str, width: int, height: int, detail: str) -> int | None:
    """The tokens of a picture; None where nothing is known of the model."""
    name = model.lower()
    family = next((family for pattern, family in _MODELS if re.search(pattern, name)), None)
    return None if family is None else family.tokens(width, height, detail)


def _patches(width: int, height: int, most: int, longest: int) -> int:
    """How many cover a picture, when it is brought down to what may be."""
    if max(width, height) > longest:
        scale = longest / max(width, height)
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
    count = ceil(width / _PATCH) * ceil(height / _PATCH)
    if count <= most:
        return count
    shrink = sqrt(_PATCH**2 * most / (width * height))
    across, down = width * shrink / _PATCH, height * shrink / _PATCH
    shrink *= min(max(1, floor(across)) / across, max(1, floor(down)) / down)
    return min(most, ceil(width * shrink / _PATCH - 1e-9) * ceil(height * shrink / _PATCH - 1e-9))
