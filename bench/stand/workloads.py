"""What is sent: bodies of four sizes, as clients send them."""

from __future__ import annotations

import json
from typing import Any

PROSE = "Say hello to the operators of this gateway, and tell them what it is that you measure here. "


def text(size: int) -> str:
    """So many characters of numbered sentences, none of them twice."""
    sentences, length = [], 0
    while length < size:
        sentences.append(f"{len(sentences)}. {PROSE}")
        length += len(sentences[-1])
    return "".join(sentences)[:size]


def chat(size: int, *, mark: str = "", stream: bool = False) -> bytes:
    """OpenAI chat, `size` bytes in all. `mark` begins the prompt."""
    body: dict[str, Any] = {"model": "gpt-4o-mini", "max_tokens": 200, "messages": [{"role": "user"}]}
    if stream:
        body["stream"] = True
    room = size - len(json.dumps(body)) - len(', "content": ""') - len(mark)
    body["messages"][0]["content"] = mark + text(room)
    return json.dumps(body).encode()
