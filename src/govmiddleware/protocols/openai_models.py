"""What differs from model to model in OpenAI's API."""

from __future__ import annotations

import re

_REASONS = re.compile(r"(?:^|[/:.])(?:o[1-9]\b|gpt-[5-9])")
_FORGETS = re.compile(r"(?:^|[/:.])(?:o[1-9]\b|gpt-5(?:-|$|\.[0-5]\b))")
_TYPESCRIPT = re.compile(r"gpt-|(?:^|[/:])o\d")


def wants_completion_limit(model: str) -> bool:
    """Whether a model refuses `max_tokens` and wants `max_completion_tokens`: OpenAI's reasoning models."""
    return _REASONS.search(model.lower()) is not None


def seals_reasoning(model: str) -> bool:
    """Whether reasoning that is sent back reaches a model out of its `encrypted_content` alone."""
    return _REASONS.search(model.lower()) is not None


def forgets_reasoning(model: str) -> bool:
    """Whether a model is shown the reasoning of the turn at hand alone, unless the request says otherwise: OpenAI's
    before GPT-5.6 (openai-python 3.54, `types/shared/reasoning.py`)."""
    return _FORGETS.search(model.lower()) is not None


def reads_typescript(model: str) -> bool:
    """Whether tool definitions reach a model as OpenAI renders them."""
    return _TYPESCRIPT.search(model.lower()) is not None
