"""What one call used, normalised: what every protocol reports is turned into this."""

from __future__ import annotations

from operator import add, sub

import msgspec
from msgspec.structs import astuple


class Usage(msgspec.Struct, frozen=True):
    """What one call used. Tokens, but where a name says something else.

    Attributes:
        input_tokens: the whole prompt, cached and cache-write tokens included.
        cached_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written to it.
        cache_write_1h_tokens: the part of those that is kept for an hour.
        output_tokens: all that was generated, reasoning included.
        reasoning_tokens: the part of the output that was reasoning.
        input_audio_tokens, input_image_tokens, input_video_tokens: parts of the input, cached ones included.
        cached_audio_tokens, cached_image_tokens: parts of the cached input.
        output_audio_tokens, output_image_tokens: parts of the output.
        audio_ms: of sound that is billed by its length, in milliseconds.
        input_characters: of text that is billed by its length.
        web_searches, file_searches: what hosted tools were asked for, billed by the number.
        images: pictures that were made.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    input_video_tokens: int = 0
    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    audio_ms: int = 0
    input_characters: int = 0
    web_searches: int = 0
    file_searches: int = 0
    images: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def completed_by(self, other: Usage) -> Usage:
        """With the figures of `other` where this one has none."""
        return Usage(*(mine or theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, astuple(self), astuple(other)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*map(sub, astuple(self), astuple(other)))


NO_USAGE = Usage()


class Reach(msgspec.Struct, frozen=True):
    """What a call may be billed for beside plain text, as far as its request shows: it widens what is reserved.

    Attributes:
        media: whether tokens of sound, pictures or video may be in its prompt.
        cache_1h: whether its prompt may be written to a cache that is kept for an hour.
        service_tier: the one that the request asks for (`flex`, `priority`, `batch`); None for the standard.
        is_served: whether it is sure that this tier serves it.
        beside_tokens: the most of what is not counted in tokens: searches, sound by its length, pictures.
    """

    media: bool = True
    cache_1h: bool = True
    service_tier: str | None = None
    is_served: bool = False
    beside_tokens: Usage = NO_USAGE


ANYTHING = Reach()
"""Of a request that does not show it: the dearest of all classes, at the standard tier."""
