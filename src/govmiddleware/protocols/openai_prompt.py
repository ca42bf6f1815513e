"""What in a chat request becomes prompt: the texts to count, and the parts that have no text.

Every string counts unless it is known not to reach the model as text, so that nothing dear hides in a
field that we do not know but the upstream does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.estimate import family_of
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import bounded_name
from govmiddleware.protocols.openai_models import reads_typescript
from govmiddleware.protocols.openai_tools import rendered

MESSAGE_TOKENS = 3
NAME_TOKENS = 1
TOOL_CALL_TOKENS = 12
REPLY_TOKENS = 3
"""What the chat format adds to each message, name and tool call, and once for the reply's opening. Source:
OpenAI's cookbook, "How to count tokens with tiktoken"; for tool calls the recordings (11 to 15)."""

_MARKS = frozenset(
    {"role", "type", "id", "tool_call_id", "index", "cache_control", "detail", "format", "call_id"}
)
"""Fields that mark and are not said; counted all the same where they are longer than marks are."""
_LONGEST_MARK = 128

_MEDIA = frozenset(
    {"image_url", "input_audio", "file", "video_url", "audio_url", "document_url", "image", "input_image"}
)
"""Keys of parts whose size in tokens does not show in their text."""


class Prompt:
    """Collects what one request puts before the model."""

    def __init__(self, model: str) -> None:
        self.texts: list[str] = []
        self.unknown_parts = 0
        self._model = model
        self._family = family_of(model)
        self._has_tools = False
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_messages(self, messages: list[Any]) -> None:
        """Raises InvalidRequest where a message is not one."""
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise InvalidRequest("A message must be an object.", param=f"messages[{index}]")
            self.overhead_tokens += MESSAGE_TOKENS
            content = message.get("content")
            if not isinstance(content, str | list | None):
                problem = "A message's content must be a string, a list of parts or null."
                raise InvalidRequest(problem, param=f"messages[{index}].content")
            name = message.get("name")
            if name is not None:
                if not isinstance(name, str):
                    raise InvalidRequest("A name must be a string.", param=f"messages[{index}].name")
                bounded_name(name, f"messages[{index}].name")
                self.overhead_tokens += NAME_TOKENS
            calls = message.get("tool_calls")
            if isinstance(calls, list):
                self.overhead_tokens += TOOL_CALL_TOKENS * len(calls)
            self.add(message)

    def add_tools(self, tools: list[dict[str, Any]]) -> None:
        """Definitions of tools, or of functions as they were before tools."""
        if tools and not self._has_tools:
            self._has_tools = True
            self.overhead_tokens += self._family.tools
        for tool in tools:
            function = tool.get("function", tool)
            if tool.get("type", "function") != "function" or not isinstance(function, dict):
                self.unknown_parts += 1  # a hosted tool: what it finds becomes prompt
            text = (
                rendered(function) if reads_typescript(self._model) and isinstance(function, dict) else None
            )
            self.add_schema(tool) if text is None else self.texts.append(text)

    def add_schema(self, schema: object) -> None:
        """Counted as its JSON, keys and all. Raises InvalidRequest where it has no compact form."""
        try:
            self.texts.append(msgspec.json.encode(schema).decode())
        except (OverflowError, RecursionError) as error:
            raise InvalidRequest("A schema is nested too deeply or has too large a number.") from error

    def add_unknown(self, raw: bytes) -> None:
        """A field that nobody here knows: counted as its JSON, where it is more than a mark."""
        if len(raw) > _LONGEST_MARK:
            self.texts.append(raw.decode("utf-8", "replace"))

    def add(self, value: object) -> None:
        """All strings in a decoded JSON value, however deep."""
        pending = [value]
        while pending:
            value = pending.pop()
            if isinstance(value, str):
                self._add_text(value)
            elif isinstance(value, list):
                pending.extend(value)
            elif isinstance(value, dict):
                for key, member in value.items():
                    if key in _MEDIA and isinstance(member, dict | str):
                        self.unknown_parts += 1
                    elif key not in _MARKS or not _is_mark(member):
                        pending.append(member)

    def _add_text(self, text: str) -> None:
        if text.startswith("data:") and ";base64," in text[:256]:
            self.unknown_parts += 1  # base64 is never what the model reads
        elif text:
            self.texts.append(text)


def _is_mark(value: object) -> bool:
    return not isinstance(value, str | list | dict) or (
        isinstance(value, str) and len(value) <= _LONGEST_MARK
    )
