"""How long budgets wait for a store."""

from __future__ import annotations

PAUSES = (0.1, 0.3, 0.6)
"""Seconds before a question is asked again that the store did not answer. Who plans a step can wait so long, and what
a step has used must not be lost for less."""
