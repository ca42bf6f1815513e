"""What one call used, normalised: what every protocol reports is turned into this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
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

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens
