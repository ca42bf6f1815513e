"""What in a messages request becomes prompt. Source: platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.prompt import Prompt

_UNREAD = {
    "thinking": "signature",
    "image": "source",
    "document": "source",
    "container_upload": "file_id",
    "redacted_thinking": "data",
    "web_search_result": "encrypted_content",
}
"""Of each kind of block, the member that is not read as text, unless it is a source that is text."""

MESSAGE_TOKENS = 3
REPLY_TOKENS = 3
THINKING_TOKENS = 28
FORMAT_TOKENS = 135
"""What is added to each message, once for the reply's opening, and for thinking and an output format. Source:
the recordings."""

_FILES = frozenset({"image", "document"})
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class MessagesPrompt(Prompt):
    """Collects what one messages request puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._family = family_of(model)
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_system(self, system: object) -> None:
        """A string or a list of blocks. Raises InvalidRequest for anything else."""
        if not isinstance(system, str | list | None):
            raise InvalidRequest("'system' must be a string or a list of blocks.", param="system")
        if system:
            self.overhead_tokens += MESSAGE_TOKENS
            self.add(system)

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
            if tool.get("type") not in (None, "custom"):
                self.unknown_parts += 1
            self.add_schema(tool)

    def add_format(self, output_config: dict[str, Any]) -> None:
        """The schema of a structured output."""
        if output_config.get("format"):
            self.overhead_tokens += FORMAT_TOKENS
            self.add_schema(output_config["format"])

    def _said(self, part: dict[str, Any]) -> list[Any]:
        kind = str(part.get("type"))
        unread = _UNREAD.get(kind)
        if kind in _CALLS:
            unread = "input"
            self.add_schema(part.get(unread))
        elif unread is None or unread not in part or _is_text(part[unread]):
            unread = None
        elif kind in _FILES and isinstance(source := part[unread], dict):
            self.add_data(self._model, source.get("data"), str(source.get("media_type") or ""))
        elif kind != "thinking":  # whose signature is no part of the prompt
            self.unknown_parts += 1
        return super()._said({name: member for name, member in part.items() if name != unread})


def _is_text(source: object) -> bool:
    return isinstance(source, dict) and source.get("type") in ("text", "content")
