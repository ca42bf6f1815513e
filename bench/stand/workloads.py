"""What is sent: small calls, streams, prompts of a megabyte, and a coding agent's conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHAT_PATH, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"
PROSE = "Say hello to the operators of this gateway, and tell them what it is that you measure here. "
MARK = b"@@@@@@@@"
"""Stands in texts for a number, so that no two are the same: a counter of tokens remembers what it has seen."""

AGENTS_TOOLS, AGENTS_TURNS = 24, 30
AGENTS_TOOLS_BYTES, AGENTS_SYSTEM_BYTES, AGENTS_FIRST_BYTES, AGENTS_TURN_BYTES = 45_000, 20_000, 20_000, 2_000


def text(size: int, mark: str = "") -> str:
    """So many characters of numbered sentences, none of them twice."""
    sentences, length = [mark], len(mark)
    while length < size:
        sentences.append(f"{len(sentences)}. {PROSE}")
        length += len(sentences[-1])
    return "".join(sentences)[:size]


def chat(size: int, *, mark: str = "", stream: bool = False) -> bytes:
    """OpenAI chat, `size` bytes in all, with one message."""
    body: dict[str, Any] = {"model": "gpt-4o-mini", "max_tokens": 200, "messages": [{"role": "user"}]}
    if stream:
        body["stream"] = True
    room = size - len(json.dumps(body)) - len(', "content": ""')
    body["messages"][0]["content"] = text(room, mark)
    return json.dumps(body).encode()


def agents_conversation() -> list[bytes]:
    """The requests of a coding agent's conversation, as Claude Code sends them: Anthropic Messages, 24 tools, all that was
    said before again each time, and `cache_control` on the system prompt. From 85 to 145 kB, 115 in the mean."""
    mark = MARK.decode()
    each = AGENTS_TOOLS_BYTES // AGENTS_TOOLS
    tools = [_tool(number, each) for number in range(AGENTS_TOOLS)]
    prompt = text(AGENTS_SYSTEM_BYTES)
    system = [{"type": "text", "text": prompt, "cache_control": {"type": "ephemeral"}}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": text(AGENTS_FIRST_BYTES, mark)}]
    requests = []
    for turn in range(AGENTS_TURNS):
        body = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 8_000,
            "stream": True,
            "system": system,
            "tools": tools,
            "messages": messages,
        }
        requests.append(json.dumps(body).encode())
        said = {"type": "text", "text": f"{mark} I shall look at file {turn}."}
        name, use = f"tool_{turn % AGENTS_TOOLS}", f"toolu_{turn}"
        used = {"type": "tool_use", "id": use, "name": name, "input": {"path": f"src/{turn}.py"}}
        result = {
            "type": "tool_result",
            "tool_use_id": use,
            "content": text(AGENTS_TURN_BYTES - 400, f"{mark} {turn}"),
        }
        messages += [{"role": "assistant", "content": [said, used]}, {"role": "user", "content": [result]}]
    return requests


def _tool(number: int, size: int) -> dict[str, Any]:
    described = {"type": "string", "description": "Where, relative to the root of the repository."}
    schema = {"type": "object", "properties": {"path": described}, "required": ["path"]}
    return {
        "name": f"tool_{number}",
        "description": text(size - 220, f"Tool {number}. "),
        "input_schema": schema,
    }


@dataclass(frozen=True, slots=True)
class Workload:
    """Attributes:
    path: where it is sent.
    bodies: one after the other on each connection, then from the beginning, with another number for MARK.
    """

    path: str
    bodies: list[bytes]


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "stream": lambda: Workload(CHAT_PATH, [chat(1_000, stream=True)]),
    "agent": lambda: Workload(MESSAGES_PATH, agents_conversation()),
    "megabyte": lambda: Workload(CHAT_PATH, [chat(1_000_000, mark=MARK.decode())]),
}
