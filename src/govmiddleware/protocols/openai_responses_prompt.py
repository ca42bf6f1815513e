"""What in a responses request becomes prompt. Source: openai-python 3.54, `types/responses/response_input_item.py`."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.openai_models import reads_typescript
from govmiddleware.protocols.openai_prompt import MESSAGE_TOKENS, REPLY_TOKENS, TOOL_CALL_TOKENS
from govmiddleware.protocols.openai_tools import rendered
from govmiddleware.protocols.prompt import Prompt

_ELSEWHERE = {
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_url", "file_id"),
    "input_audio": ("input_audio",),
    "computer_screenshot": ("image_url", "file_id"),
    "image_generation_call": ("result",),
    "item_reference": ("id",),
    "compaction": ("encrypted_content",),
}
"""Of each kind of item and part, the members that stand for a part whose size the request does not show."""

_UNSAID = {"encrypted_content", "status", "phase", "execution", "strict", "defer_loading"}
"""Members of items that the model does not read as text."""

_TOOLS = frozenset({"function", "custom"})
"""Kinds of tools that the client runs: all of them that the model reads is in the request."""


class ResponsesPrompt(Prompt):
    """Collects what one responses request puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._family = family_of(model)
        self._has_tools = False
        self.has_hosted_tools = False
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_instructions(self, instructions: object) -> None:
        """Raises InvalidRequest where they are not a string."""
        if not isinstance(instructions, str | None):
            raise InvalidRequest("'instructions' must be a string.", param="instructions")
        if instructions:
            self.overhead_tokens += MESSAGE_TOKENS
            self.add(instructions)

    def add_input(self, given: object) -> None:
        """A string or a list of items. Raises InvalidRequest for anything else."""
        if not isinstance(given, str | list | None):
            raise InvalidRequest("'input' must be a string or a list of items.", param="input")
        for index, item in enumerate([given] if isinstance(given, str) else given or ()):
            if not isinstance(item, dict | str):
                raise InvalidRequest("An item must be an object.", param=f"input[{index}]")
            self.overhead_tokens += MESSAGE_TOKENS
            if isinstance(item, dict) and str(item.get("type")).endswith("_call"):
                self.overhead_tokens += TOOL_CALL_TOKENS
            self.add(item)

    def add_tools(self, tools: list[Any]) -> None:
        """Definitions of tools. What those that OpenAI runs find, becomes prompt."""
        if tools and not self._has_tools:
            self._has_tools = True
            self.overhead_tokens += self._family.tools
        for tool in tools:
            if not isinstance(tool, dict) or tool.get("type") not in _TOOLS:
                self.has_hosted_tools = True
                self.unknown_parts += 1
            text = _rendered(tool) if reads_typescript(self._model) else None
            self.add_schema(tool) if text is None else self.texts.append(text)

    def add_format(self, text: dict[str, Any]) -> None:
        """The schema of a structured output."""
        form = text.get("format")
        if isinstance(form, dict) and "schema" in form:
            self.add_schema(form)

    def _said(self, part: dict[str, Any]) -> list[Any]:
        elsewhere = _ELSEWHERE.get(str(part.get("type")), ())
        self.unknown_parts += any(part.get(name) for name in elsewhere)
        tools = part.get("tools")
        if isinstance(tools, list):
            self.add_tools(tools)
        return super()._said(
            {
                name: member
                for name, member in part.items()
                if name not in elsewhere and name not in _UNSAID and name != "tools"
            }
        )


def _rendered(tool: object) -> str | None:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return None
    return rendered({name: member for name, member in tool.items() if name not in ("type", "defer_loading")})
