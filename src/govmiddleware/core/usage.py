"""Token usage, normalised: what every protocol reports is turned into this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens.

    Attributes:
        input_tokens: the whole prompt, cached and cache-write tokens included.
        cached_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written to it.
        output_tokens: all that was generated, reasoning included.
        reasoning_tokens: the part of the output that was reasoning.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens
