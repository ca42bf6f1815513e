"""What in a converse request becomes prompt.

Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html. Claude's is what Anthropic makes of it;
what is added for others was fitted to the recordings whose id is even, and is held against the odd ones.
"""

from __future__ import annotations

import re
from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.media import decoded
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.anthropic_prompt import (
    ADAPTIVE_TOKENS,
    FORMAT_TOKENS,
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    TOOL_TOKENS,
)
from govmiddleware.protocols.bedrock_usage import member_of, objects_in
from govmiddleware.protocols.prompt import Prompt

_LLAMA_4 = re.compile(r"llama-?4")
_LLAMA_4_TOOLS = 112
"""What tools add for it here. Groq, whose figure its family has, puts more before it."""

_OF_TEXT = frozenset({"txt", "md", "csv", "html"})
_UNSEEN = frozenset({"image", "video", "audio"})
_SWITCHES = frozenset({"cachePoint", "citations"})
"""Objects that steer and are not said."""


class ConversePrompt(Prompt):
    """Collects what one converse request puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._family = family_of(model)
        self._is_claude = "claude" in model.lower()
        self._is_llama_4 = _LLAMA_4.search(model.lower()) is not None
        # For the others, Bedrock counts what stands between messages alone, and no schema of an answer.
        self.overhead_tokens = self._family.template + (REPLY_TOKENS if self._is_claude else -MESSAGE_TOKENS)

    def add_system(self, system: list[Any]) -> None:
        """A list of blocks."""
        self.add(system)

    def add_messages(self, messages: list[Any]) -> None:
        """Raises InvalidRequest where a message is not one."""
        for index, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("content"), list):
                problem = "A message must be an object whose content is a list of blocks."
                raise InvalidRequest(problem, param=f"messages[{index}]")
            self.overhead_tokens += MESSAGE_TOKENS
            self.add(message)

    def add_tools(self, tools: list[Any], *, forced: bool) -> None:
        """Definitions of tools. What the results of AWS's own add is not in the request, nor is what those of the
        model's maker are.

        Args:
            forced: whether one has to be called.
        """
        specified = [member_of(tool, "toolSpec") for tool in objects_in(tools)]
        if any(specified):
            in_family = self._family.tools_tokens(forced=forced)
            self.overhead_tokens += _LLAMA_4_TOOLS if self._is_llama_4 else in_family
        for tool, spec in zip(objects_in(tools), specified, strict=True):
            if spec:
                schema = member_of(spec, "inputSchema").get("json")
                self.overhead_tokens += TOOL_TOKENS if self._is_claude else 0
                self.add_schema({**spec, "inputSchema": schema}, spaced=self._is_claude)
            elif "cachePoint" not in tool:
                self.unknown_parts += 1
                self.add_schema(tool)

    def add_format(self, output_config: dict[str, Any]) -> None:
        """The schema of a structured output."""
        if self._is_claude and (text_format := output_config.get("textFormat")):
            self.overhead_tokens += FORMAT_TOKENS
            self.add(text_format)

    def add_thinking(self, kind: object) -> None:
        """What tells Claude to think, or that it may."""
        if kind == "enabled":
            self.overhead_tokens += self._family.thinking
        elif kind == "adaptive":
            self.overhead_tokens += ADAPTIVE_TOKENS

    def _said(self, part: dict[str, Any]) -> list[Any]:
        said: dict[str, Any] = {}
        for name, member in part.items():
            if name in _UNSEEN and isinstance(member, dict):
                self.unknown_parts += 1
            elif name == "document" and isinstance(member, dict):
                said |= self._document(member)
            elif name == "toolUse" and isinstance(member, dict):
                self.overhead_tokens += self._family.calls
                said["name"] = member.get("name")
                self.add_schema(member.get("input"))
            elif name == "json":
                self.add_schema(member)
            elif name == "reasoningContent" and isinstance(member, dict):
                said["text"] = member_of(member, "reasoningText").get("text")
                self.unknown_parts += "redactedContent" in member
            elif not (name in _SWITCHES and isinstance(member, dict)):
                said[name] = member
        return super()._said(said)

    def _document(self, document: dict[str, Any]) -> dict[str, Any]:
        """What is said of a document: its texts, if it is made of them."""
        source = member_of(document, "source")
        data = source.get("bytes")
        if document.get("format") in _OF_TEXT and isinstance(data, str):
            source = {"text": decoded(data).decode("utf-8", "replace")}
        elif not {"text", "content"} & source.keys():
            self.unknown_parts += 1
            source = {}
        return {"name": document.get("name"), "context": document.get("context"), "source": source}
