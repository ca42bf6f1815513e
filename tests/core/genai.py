"""A Usage in the terms of genai-prices."""

from __future__ import annotations

from decimal import Decimal

from genai_prices import types as reference

from govmiddleware.core.usage import Usage


def in_their_terms(usage: Usage) -> reference.Usage:
    seconds = Decimal(usage.audio_ms) / 1000
    return reference.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        input_video_tokens=usage.input_video_tokens,
        cache_audio_read_tokens=usage.cached_audio_tokens,
        cache_image_read_tokens=usage.cached_image_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        output_image_tokens=usage.output_image_tokens,
        audio_seconds=seconds,
        input_audio_seconds=seconds,
        input_characters=usage.input_characters,
        web_searches=usage.web_searches,
        storage_searches=usage.file_searches,
    )
