"""What answers of a mock provider are made of: words, each of which is a token, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def words_of(text: str) -> list[str]:
    """Words, each with the space before it: joined, they are the text again."""
    return re.findall(r"\s*\S+", text)


def split(text: str, pieces: int) -> Iterator[str]:
    """The text in at most `pieces` parts, cut between words."""
    words = words_of(text)
    size = max(1, -(-len(words) // max(1, pieces)))
    for start in range(0, len(words), size):
        yield "".join(words[start : start + size])


def words_in(content: str | list[Json] | None) -> int:
    """How many words a message's content has, a string or a list of parts with a `text`."""
    parts = [{"text": content}] if isinstance(content, str) else content or []
    return sum(len(words_of(part.get("text") or "")) for part in parts)


def dump(value: Json) -> bytes:
    """Compact JSON, as in streams."""
    return json.dumps(value, separators=(",", ":")).encode()
