"""Amounts and durations as people read them."""

from __future__ import annotations

import re

_LONGEST_SECTION = 3000
_METERS = {"concurrency": "slots", "wall_clock": "seconds"}
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def amount_words(amount: object, meter: str) -> str:
    """An amount as outputs show it, with its unit; money without the zeros at its end.

    >>> amount_words("1.500000000", "cost_usd"), amount_words(7, "input_tokens"), amount_words(1, "requests")
    ('1.50 USD', '7 input tokens', '1 request')
    """
    if meter != "cost_usd":
        unit = _METERS.get(meter, meter.replace("_", " "))
        return f"{amount} {unit.removesuffix('s') if amount == 1 else unit}"
    whole, _, fraction = str(amount).partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')} USD"


def duration_words(seconds: int) -> str:
    """
    >>> duration_words(3600), duration_words(90), duration_words(2 * 86400)
    ('1 hour', '90 seconds', '2 days')
    """
    unit, length = next((unit, length) for unit, length in _UNITS if seconds % length == 0)
    count = seconds // length
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def slack_text(text: str) -> str:
    """Text for a message of Slack's, where three characters are escaped
    (https://docs.slack.dev/messaging/formatting-message-text).

    >>> slack_text("<!channel> R&D")
    '&lt;!channel&gt; R&amp;D'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_section(text: str) -> str:
    """The same for a section of a message, cut where Slack would refuse it for its length
    (https://docs.slack.dev/reference/block-kit/composition-objects/text-object)."""
    escaped = slack_text(text)
    if len(escaped) <= _LONGEST_SECTION:
        return escaped
    return re.sub("&[a-z]*$", "", escaped[: _LONGEST_SECTION - 1]) + "…"
