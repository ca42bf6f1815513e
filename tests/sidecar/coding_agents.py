"""The command-line agents Claude Code and Codex, run as their users run them, and what they send."""

from __future__ import annotations

import json
import os
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.sidecar.conftest import SECRET

from govmiddleware.testing import Script
from govmiddleware.testing.provider import Headers

_ALONE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
"""Whatever else they would reach, such as updates, is not to be had."""


@dataclass
class Sent:
    """A request as a client sent it."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes = b""


@dataclass
class Tap:
    """Stands before an app, passes everything to it, and keeps the requests."""

    requests: list[Sent] = field(default_factory=list)
    handshakes: int = 0
    _app: ASGIApp = field(init=False)

    def before(self, app: ASGIApp) -> ASGIApp:
        self._app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self.handshakes += scope["type"] == "websocket"
            await self._app(scope, receive, send)
            return
        sent = Sent(scope["method"], scope["path"], scope["query_string"], list(scope["headers"]))
        self.requests.append(sent)

        async def listen() -> Message:
            message = await receive()
            sent.body += message.get("body", b"")
            return message

        await self._app(scope, listen, send)


@dataclass(frozen=True)
class Turn:
    """What an agent did of what it was asked.

    Attributes:
        events: the JSON lines that it printed.
    """

    code: int
    events: list[dict[str, Any]]
    errors: str


class CodingAgent(ABC):
    """An agent that runs in `folder`, with a home of its own beside it and nothing of our environment.

    Attributes:
        protocol: how the journal names what it speaks.
        session_header: in which it says in which of its sessions it is.
        model: one whose price is known.
        handshakes: how many WebSockets it tries to open before it asks by HTTP.
    """

    protocol: str
    session_header: bytes
    model: str
    handshakes: int

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self._home = folder / "home"
        self._home.mkdir()
        self._program = program

    def ask(self, prompt: str, url: str) -> Turn:
        """One turn, with the sidecar at `url`, after which the agent ends."""
        node = ["node", self._program, *self._arguments(url)]
        done = subprocess.run(
            [*node, prompt],
            cwd=self.folder,
            env=_ALONE | {"PATH": os.environ["PATH"], "HOME": str(self._home)} | self._environment(url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return Turn(done.returncode, [json.loads(line) for line in lines], done.stderr)

    @abstractmethod
    def _arguments(self, url: str) -> list[str]: ...

    @abstractmethod
    def _environment(self, url: str) -> dict[str, str]: ...

    @abstractmethod
    def runs(self, command: str) -> Script:
        """The model's answer that has the agent run a shell command."""

    @abstractmethod
    def usage(self, *, fresh: int, cached: int, output: int) -> dict[str, Any]:
        """Tokens as the provider would report them."""

    @abstractmethod
    def last_words(self, turn: Turn) -> str:
        """What it told its user at the end: the model's words, or why there are none."""

    @abstractmethod
    def reported(self, turn: Turn) -> tuple[int, int, int]:
        """What it told its user of the turn's usage: all input, what of it was cached, and output."""


class ClaudeCode(CodingAgent):
    protocol = "anthropic.messages"
    session_header = b"x-claude-code-session-id"
    model = "claude-sonnet-5"
    handshakes = 0

    def _arguments(self, url: str) -> list[str]:
        return ["--model", self.model, "--allowedTools=Bash", "--output-format=json", "--print"]

    def _environment(self, url: str) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": SECRET,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    def runs(self, command: str) -> Script:
        return Script(tool="Bash", text=json.dumps({"command": command, "description": "Look"}))

    def usage(self, *, fresh: int, cached: int, output: int) -> dict[str, Any]:
        return {"input_tokens": fresh, "cache_read_input_tokens": cached, "output_tokens": output}

    def last_words(self, turn: Turn) -> str:
        [result] = turn.events
        return str(result["result"])

    def reported(self, turn: Turn) -> tuple[int, int, int]:
        [result] = turn.events
        usage = result["usage"]
        cached = usage["cache_read_input_tokens"]
        return usage["input_tokens"] + cached, cached, usage["output_tokens"]


class Codex(CodingAgent):
    protocol = "openai.responses"
    session_header = b"session-id"
    model = "gpt-5.5"
    handshakes = 1

    def _arguments(self, url: str) -> list[str]:
        (self._home / ".codex").mkdir()
        (self._home / ".codex/config.toml").write_text(f"""
model = "{self.model}"
model_provider = "govmiddleware"

[model_providers.govmiddleware]
name = "govmiddleware"
base_url = "{url}/v1"
env_key = "GOV_API_TOKEN"
wire_api = "responses"
supports_websockets = true  # as OpenAI's own: it has to be told that there are none

[analytics]
enabled = false

[features]
plugins = false  # it would fetch the list of them
""")
        # Its own sandbox needs user namespaces, which not every machine gives; what it runs here is ours.
        return ["exec", "--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox"]

    def _environment(self, url: str) -> dict[str, str]:
        return {"GOV_API_TOKEN": SECRET}

    def runs(self, command: str) -> Script:
        return Script(tool="exec_command", text=json.dumps({"cmd": command}))

    def usage(self, *, fresh: int, cached: int, output: int) -> dict[str, Any]:
        return {
            "input_tokens": fresh + cached,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": fresh + cached + output,
        }

    def last_words(self, turn: Turn) -> str:
        told = [event["item"]["text"] for event in turn.events if "text" in event.get("item", {})]
        failed = [event["error"]["message"] for event in turn.events if event["type"] == "turn.failed"]
        return str([*told, *failed][-1])

    def reported(self, turn: Turn) -> tuple[int, int, int]:
        usage = turn.events[-1]["usage"]
        return usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]
