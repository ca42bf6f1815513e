"""One trace of requests, the same in every run, and the limits that it meets: all meters, scopes and windows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from govmiddleware.core.ids import hash_api_token

REQUESTS = 5000
BEGINS = "2026-07-29 22:00:00"
"""A Wednesday; the trace runs over the ends of hours, days, a week and a month."""

_WORKSPACES = {"acme": ("ci", "chat", "batch"), "zoo": ("web",)}
_USERS = ("ann", "bob", "cyd", None)
_MODELS = ("gpt-4o-mini", "gpt-4o", "o3-mini", "my-model", "nobody-prices-this")


def settings() -> dict[str, Any]:
    return {
        "login_throttle": "1000000/minute",  # it goes by the process' own clock
        "api_tokens": [
            {"name": name, "workspace": workspace, "sha256": hash_api_token(f"secret-{name}")}
            for workspace, names in _WORKSPACES.items()
            for name in names
        ],
        "prices": [
            {"model": "my-model", "input_usd_per_mtok": 3, "output_usd_per_mtok": "7.77", "request_usd": "0.001"}
        ],
        "limits": [
            {"name": "workspace-minute", "scope": "workspace", "meter": "requests", "rate": "12/minute"},
            {"name": "workspace-month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": "0.6"},
            {"name": "token-slots", "scope": "api_token", "meter": "concurrency", "hard": 1},
            {"name": "token-rate", "scope": "api_token", "meter": "input_tokens", "rate": "2600/5 minutes"},
            {"name": "token-hour", "scope": "api_token", "meter": "requests", "window": "hour", "hard": 60},
            {"name": "user-day", "scope": "user", "value": "cyd", "meter": "output_tokens", "window": "day", "hard": 2500},
            {"name": "user-rate", "scope": "user", "meter": "total_tokens", "rate": "4000/10 minutes"},
            {"name": "bob-ever", "scope": "user", "value": "bob", "meter": "cost_usd", "window": "lifetime", "hard": "0.2"},
            {"name": "session-ever", "scope": "session", "value": "s1", "meter": "total_tokens", "window": "lifetime", "hard": 9000},
            {"name": "session-rate", "scope": "session", "meter": "requests", "rate": "1/second"},
            {"name": "agent-week", "scope": "agent", "value": "critic", "meter": "cost_usd", "window": "week", "hard": "0.12"},
            {"name": "agent-hour", "scope": "agent", "meter": "input_tokens", "window": "hour", "hard": 6000},
            {"name": "provider-hour", "scope": "provider", "meter": "total_tokens", "window": "hour", "hard": 22000},
            {"name": "model-rate", "scope": "model", "meter": "output_tokens", "rate": "5000/hour"},
            {"name": "model-day", "scope": "model", "meter": "requests", "window": "day", "hard": 110},
            {"name": "team-month", "scope": "tag:team", "value": "blue", "workspace": "zoo", "meter": "cost_usd", "window": "month", "timezone": "Asia/Kolkata", "hard": "0.06"},
            {"name": "team-red", "scope": "tag:team", "value": "red", "meter": "requests", "window": "hour", "hard": 55},
            {"name": "team-rest", "scope": "tag:team", "default": True, "meter": "requests", "window": "hour", "hard": 50},
            {"name": "user-model", "scope": ["user", "model"], "meter": "total_tokens", "window": "day", "timezone": "America/St_Johns", "hard": 6000},
            {"name": "all-gpt-4o", "scope": ["deployment", "model"], "value": "gpt-4o", "meter": "cost_usd", "window": "10d", "anchor": date(2026, 1, 3), "hard": "0.15"},
            {"name": "session-clock", "scope": "session", "value": "s7", "meter": "wall_clock", "hard": 700_000},
            {"name": "agent-clock", "scope": "agent", "meter": "wall_clock", "window": "day", "hard": 62_000},
            {"name": "watched", "scope": "user", "meter": "requests", "window": "day", "hard": 20, "mode": "dry_run"},
            {"name": "advised", "scope": "workspace", "meter": "requests", "window": "day", "hard": 60, "mode": "suggest"},
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One request, and what the provider answers if it comes that far.

    Attributes:
        pause: seconds since the one before.
        status: of the provider's answer.
        reports_usage: whether that answer says what was used.
    """

    number: int
    pause: float
    headers: dict[str, str]
    body: dict[str, Any]
    status: int
    reports_usage: bool
    input_tokens: int
    output_tokens: int

    def answer(self, max_tokens: int) -> tuple[int, str, bytes]:
        """Status, content type and body, within the output limit that the provider was told."""
        if self.status != 200:
            return self.status, "application/json", b'{"error":{"message":"no","type":"server_error"}}'
        output_tokens = min(self.output_tokens, max_tokens)
        usage = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": self.input_tokens + output_tokens,
        }
        head = {"id": f"chatcmpl-{self.number}", "created": 0, "model": self.body["model"]}
        text = " ".join(["word"] * output_tokens)
        if not self.body.get("stream"):
            message = {"role": "assistant", "content": text}
            answer = head | {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
            return (
                200,
                "application/json",
                msgspec.json.encode(answer | ({"usage": usage} if self.reports_usage else {})),
            )
        head["object"] = "chat.completion.chunk"
        events: list[dict[str, Any]] = [
            head | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
            head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        if self.reports_usage:
            events.append(head | {"choices": [], "usage": usage})
        lines = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events]
        return 200, "text/event-stream", b"".join([*lines, b"data: [DONE]\n\n"])


def steps() -> Iterator[Step]:
    dice = random.Random(20261122)
    for number in range(REQUESTS):
        pause = dice.choice((0, 0.05, 0.3, 1, 3, 9, 30)) if dice.random() < 0.995 else 8 * 3600
        token = dice.choice(
            [name for names in _WORKSPACES.values() for name in names] + ["unknown"] * (number % 9 == 0)
        )
        headers = {"authorization": f"Bearer secret-{token}", "x-trace": str(number)}
        if user := dice.choice(_USERS):
            headers["x-gov-user"] = user
        if dice.random() < 0.8:
            headers["x-gov-session"] = f"s{dice.randrange(20)}"
        if dice.random() < 0.7:
            headers["x-gov-tags"] = f"team={dice.choice(('red', 'blue'))}"
        if dice.random() < 0.5:
            headers["x-gov-agent"] = dice.choice(("coder", "critic"))
        body: dict[str, Any] = {
            "model": dice.choices(_MODELS, (8, 3, 2, 4, 0.3))[0],
            "messages": [{"role": "user", "content": "tell me " * dice.choice((1, 5, 30, 120))}],
            "max_tokens": dice.choice((5, 60, 400)),
        }
        if dice.random() < 0.4:
            body["stream"] = True
        yield Step(
            number,
            pause,
            headers,
            body,
            status=dice.choices((200, 429, 500), (20, 1, 1))[0],
            reports_usage=dice.random() < 0.85,
            input_tokens=dice.randrange(1, 200),
            output_tokens=dice.randrange(1, body["max_tokens"]),
        )
