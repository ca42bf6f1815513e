"""Prices: which rates a model has, and what a usage costs at them. In integers throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from govmiddleware.core.usage import Usage


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs and how much it can say.

    Attributes:
        model: its name in the catalogue, or the name or glob of the configuration; bounded in number,
            so that it can label a metric.
        max_output_tokens: the most it generates in one answer, where that is known.
        source: where the rates come from, for people.
    """

    model: str
    max_output_tokens: int | None
    source: str
