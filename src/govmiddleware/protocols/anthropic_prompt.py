"""What in a messages request becomes prompt. Source: platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.prompt import Prompt

_SEEN = frozenset({"image", "document", "container_upload", "redacted_thinking", "web_search_result"})
"""Blocks whose size in tokens does not show in their text, unless their source is text."""

MESSAGE_TOKENS = 3
REPLY_TOKENS = 3

_CUSTOM_TOOLS = frozenset({None, "custom"})


class MessagesPrompt(Prompt):
    """Collects what one messages request puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._family = family_of(model)
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_messages(self, messages: list[Any]) -> None:
        """Raises InvalidRequest where a message is not one."""
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise InvalidRequest("A message must be an object.", param=f"messages[{index}]")
            if not isinstance(message.get("content"), str | list):
                problem = "A message's content must be a string or a list of blocks."
                raise InvalidRequest(problem, param=f"messages[{index}].content")
            self.overhead_tokens += MESSAGE_TOKENS
            self.add(message)

    def add_tools(self, tools: list[dict[str, Any]]) -> None:
        """Definitions of tools. Those of Anthropic's own have a text that is not in the request, and what
        its servers find becomes prompt."""
        if tools:
            self.overhead_tokens += self._family.tools
        for tool in tools:
            if tool.get("type") not in _CUSTOM_TOOLS:
                self.unknown_parts += 1
            self.add_schema(tool)

    def _said(self, part: dict[str, Any]) -> list[Any]:
        kind = part.get("type")
        if kind == "thinking":
            return [part.get("thinking")]  # its signature is not read
        if kind in _SEEN:
            source = part.get("source")
            if isinstance(source, dict) and source.get("type") in ("text", "content"):
                return [source.get("data"), source.get("content"), part.get("title"), part.get("context")]
            self.unknown_parts += 1
            return [part.get("title"), part.get("context")]
        return super()._said(part)
