"""What in a responses request becomes prompt.

Source: openai-python 3.54, `types/responses/response_input_item_param.py`; the figures are read off the recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.parts import RawPart
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.openai_models import forgets_reasoning, reads_typescript, seals_reasoning
from govmiddleware.protocols.openai_prompt import OpenAIPrompt
from govmiddleware.protocols.openai_tools import rendered
from govmiddleware.protocols.prompt import last_turn

MESSAGE_TOKENS = 4
REPLY_TOKENS = 2
LATE_TOOLS_TOKENS = 90
"""What is added to each item, once for the reply's opening, and to each item that brings further tools."""

SEALED_CHARACTERS = 1080
SEALED_CHARACTERS_PER_TOKEN = 6
"""Of `encrypted_content`, which holds reasoning or what a conversation was compacted to: how long it is when it holds
nothing, and what each of its tokens adds."""

_ELSEWHERE = {
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_url", "file_id"),
    "input_audio": ("input_audio",),
    "computer_screenshot": ("image_url", "file_id"),
    "image_generation_call": ("result",),
    "item_reference": ("id",),
}
"""Of each kind of item and part, the members that stand for a part whose size the request does not show."""


class ResponsesPrompt(OpenAIPrompt):
    """Collects what one responses request puts before the model.

    Attributes:
        has_hosted_tools: whether the provider runs tools of its own, which it does as often as it likes.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._has_tools = False
        self.has_hosted_tools = False
        self._family = family = family_of(model)
        template, tools = family.responses_template, family.responses_tools
        self._tools_tokens = family.tools if tools is None else tools
        self.overhead_tokens = REPLY_TOKENS + (family.template if template is None else template)

    def add_instructions(self, instructions: object) -> None:
        """Raises InvalidRequest where they are not a string."""
        if not isinstance(instructions, str | None):
            raise InvalidRequest("'instructions' must be a string.", param="instructions")
        if instructions:
            self.overhead_tokens += MESSAGE_TOKENS
            self.add(instructions)

    def add_input(self, given: object, parts: Sequence[RawPart] = (), *, all_turns: bool = False) -> None:
        """A string or a list of items. Raises InvalidRequest for anything else.

        Args:
            given: of a list, the items that are known as their Part.
            parts: what was looked up of each item, where that was done.
            all_turns: whether the reasoning of earlier turns is kept.
        """
        if not isinstance(given, str | list | None):
            raise InvalidRequest("'input' must be a string or a list of items.", param="input")
        items = [given] if isinstance(given, str) else given or []
        forgets = forgets_reasoning(self._model) and not all_turns
        turn = last_turn(items, _opens_turn) if forgets else 0
        for place, item in self._unknown(items, parts, _opens_turn):
            self._add_item(item, place, is_forgotten=place < turn)

    def add_namespace(self) -> None:
        """What stands around all definitions of tools."""
        if not self._has_tools:
            self._has_tools = True
            self.overhead_tokens += self._tools_tokens

    def add_tools(self, tools: list[Any], param: str = "tools") -> None:
        """Definitions of tools. Of those that the provider runs, what they find becomes prompt. Raises InvalidRequest
        for one that calls another model."""
        pending = list(tools)
        while pending:
            tool = pending.pop()
            if isinstance(tool, dict) and tool.get("type") == "namespace":
                pending += _list(tool.get("tools"))
                tool = {**tool, "tools": None}
            self._add_tool(tool, param)

    def _add_item(self, item: Any, place: int, *, is_forgotten: bool) -> None:
        if not isinstance(item, dict | str):
            raise InvalidRequest("An item must be an object.", param=f"input[{place}]")
        if isinstance(item, dict):
            kind = item.get("type")
            if kind == "reasoning":
                self._is_singular = forgets_reasoning(self._model)
                if not is_forgotten:
                    self._add_reasoning(item)
                return
            if kind == "compaction":
                self._add_sealed(item)
                return
            if isinstance(kind, str) and kind.endswith("_call"):
                self.overhead_tokens += self._family.calls
            elif not kind and not item.get("role"):
                self.unknown_parts += 1  # a reference, by its id alone
        self.overhead_tokens += MESSAGE_TOKENS
        self.add(item)

    def _add_tool(self, tool: Any, param: str) -> None:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind in ("custom", "namespace"):  # of text for the most part, which as JSON would count more
            for member in tool.values():
                self.texts.append(member) if isinstance(member, str) else self.add_schema(member)
            return
        if kind not in ("function", None):  # None in the list of an MCP server's
            self.has_hosted_tools = True
            self._add_hosted(tool, param)
        text = _rendered(tool) if kind == "function" and reads_typescript(self._model) else None
        self.add_schema(tool) if text is None else self.texts.append(text)

    def _add_reasoning(self, item: dict[str, Any]) -> None:
        if item.get("encrypted_content") or not item.get("content"):
            self._add_sealed(item)
        if not seals_reasoning(self._model):
            self.overhead_tokens += MESSAGE_TOKENS
            self.add([item.get("content"), item.get("summary")])

    def _add_sealed(self, item: dict[str, Any]) -> None:
        sealed = item.get("encrypted_content")
        if isinstance(sealed, str) and sealed:
            self.overhead_tokens += max(0, len(sealed) - SEALED_CHARACTERS) // SEALED_CHARACTERS_PER_TOKEN
        else:
            self.unknown_parts += 1  # what the provider has stored

    def _said(self, part: dict[str, Any]) -> list[Any]:
        kind, tools = part.get("type"), part.get("tools")
        elsewhere = _ELSEWHERE.get(kind, ()) if isinstance(kind, str) else ()
        if elsewhere:
            if given := next((part[name] for name in elsewhere if part.get(name)), None):
                self._add_given(given, part.get("detail"))
            part = {name: member for name, member in part.items() if name not in elsewhere}
        if isinstance(tools, list):
            self.overhead_tokens += LATE_TOOLS_TOKENS
            if tools:
                self._is_singular = True  # what stands around tools is said once
                self.add_namespace()
            self.add_tools(tools, "input")
            part = {name: member for name, member in part.items() if name != "tools"}
        return super()._said(part)

    def _add_given(self, given: object, detail: object) -> None:
        """A picture, a sound or a document, or what names one."""
        kind = ""
        if isinstance(given, dict):
            kind, given = f"audio/{given.get('format')}", given.get("data")
        self.add_data(self._model, given, kind, detail)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _opens_turn(item: object) -> bool:
    """Whether the user says it."""
    return isinstance(item, str) or (isinstance(item, dict) and item.get("role") == "user")


def _rendered(tool: dict[str, Any]) -> str | None:
    return rendered({name: member for name, member in tool.items() if name not in ("type", "defer_loading")})
