"""What in a messages request becomes prompt. Source: platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.parts import RawPart
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import NO_USAGE, Usage
from govmiddleware.protocols.prompt import Prompt, last_turn, searches_of

_UNREAD = {
    "image": "source",
    "document": "source",
    "container_upload": "file_id",
    "web_search_result": "encrypted_content",
}
"""Of each kind of block, the member that is not read as text, unless it is a source that is text."""

REPLY_TOKENS = 4
MESSAGE_TOKENS = 3
CALL_TOKENS = 35
RESULT_TOKENS = 25
TOOL_TOKENS = 3
FORMAT_TOKENS = 135
ADAPTIVE_TOKENS = 16
"""What is added once, to each message, call of a tool, result of one, definition of one, to an output format, and where
the model decides whether it thinks. Source: the recordings; calls and results are put in XML."""

SEALED_CHARACTERS = 232
SEALED_CHARACTERS_PER_TOKEN = 5
CHARACTERS_PER_TOKEN = 4
"""Of a `signature`, which holds the thinking that a summary or nothing is shown of: how long it is when it holds
nothing, and what each of its tokens adds: some four characters, in base64."""

DEFINED_TOOLS = {"bash": 245, "text_editor": 700, "computer": 1215, "memory": 1065}
"""Tokens of the definitions that Anthropic keeps of tools which the client runs, by what their type begins with.
Source: platform.claude.com/docs/en/about-claude/pricing#specific-tool-pricing, as of 2026-09 (`computer` with its
system prompt); for `memory` the recordings."""

_STEERS = frozenset({"cache_control", "defer_loading", "strict"})
"""Of a tool, what is no prompt."""

_FILES = frozenset({"image", "document"})
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_THOUGHTS = {"thinking": "signature", "redacted_thinking": "data"}
_FORGETS = re.compile(
    r"claude-(?:(?:opus|sonnet|haiku)-)?(?:3|4(?![.-][5-9](?!\d)))|(?:sonnet|haiku)-4[.-]5|4[.-]5-(?:sonnet|haiku)"
)
"""Models that are shown the thinking of the turn at hand alone.
Source: platform.claude.com/docs/en/build-with-claude/thinking#thinking-block-preservation-by-model."""


class MessagesPrompt(Prompt):
    """Collects what one messages request puts before the model.

    Args:
        keeps_thinking: whether the request asks for the thinking of earlier turns to be kept.
    """

    def __init__(self, model: str, *, keeps_thinking: bool = False) -> None:
        super().__init__()
        self._model = model
        self._family = family_of(model)
        self._defers_tools = "claude" in model.lower()
        self._may_forget = _FORGETS.search(model.lower()) is not None
        self._forgets_thinking = self._may_forget and not keeps_thinking
        self._found: set[str] = set()
        self.searches = NO_USAGE
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_system(self, system: object) -> None:
        """A string or a list of blocks. Raises InvalidRequest for anything else."""
        if not isinstance(system, str | list | None):
            raise InvalidRequest("'system' must be a string or a list of blocks.", param="system")
        self.add(system)

    def add_messages(self, messages: list[Any], parts: Sequence[RawPart] = ()) -> None:
        """Raises InvalidRequest where a message is not one.

        Args:
            messages: those that are known as their Part.
            parts: what was looked up of each, where that was done.
        """
        turn = last_turn(messages, _opens_turn) if self._forgets_thinking else 0
        for index, message in self._unknown(messages, parts, _opens_turn):
            if not isinstance(message, dict):
                raise InvalidRequest("A message must be an object.", param=f"messages[{index}]")
            content = message.get("content")
            if not isinstance(content, str | list):
                problem = "A message's content must be a string or a list of blocks."
                raise InvalidRequest(problem, param=f"messages[{index}].content")
            self.overhead_tokens += MESSAGE_TOKENS
            if index < turn and isinstance(content, list):
                said = [block for block in content if not _is_thought(block)]
                self._is_singular = len(said) < len(content)
                message = {**message, "content": said}
            self.add(message)

    def add_tool_use(self, *, forced: bool) -> None:
        """What tells the model how to call tools.

        Args:
            forced: whether one has to be called.
        """
        self.overhead_tokens += self._family.tools_tokens(forced=forced)

    def add_tools(self, tools: list[dict[str, Any]]) -> None:
        """Definitions of tools, after the messages. What Anthropic's own servers find becomes prompt. Those that are
        deferred are no prompt until they are found. Raises InvalidRequest for one that calls another model."""
        defined = [_defined_tokens(tool) for tool in tools]
        has_hosted = None in defined
        self.unknown_parts += defined.count(None)
        self._is_singular = has_hosted or any("defer_loading" in tool for tool in tools)
        for index, (tool, tokens) in enumerate(zip(tools, defined, strict=True)):
            if tool.get("type", "custom") != "custom" and "model" in tool:
                problem = "A tool that calls another model is not supported here: it would go unpriced."
                raise InvalidRequest(problem, param=f"tools[{index}].model")
            if str(tool.get("type")).startswith("web_search"):
                self.searches += Usage(web_searches=searches_of(tool))
            is_deferred = self._defers_tools and tool.get("defer_loading") is True
            if has_hosted or not is_deferred or str(tool.get("name")) in self._found:
                self.overhead_tokens += TOOL_TOKENS + (tokens or 0)
                self.add_schema({name: tool[name] for name in tool if name not in _STEERS}, spaced=True)

    def add_thinking(self, kind: object) -> None:
        """What tells the model to think, or that it may."""
        if kind == "enabled":
            self.overhead_tokens += self._family.thinking
        elif kind == "adaptive":
            self.overhead_tokens += ADAPTIVE_TOKENS

    def add_format(self, output_config: dict[str, Any]) -> None:
        """The schema of a structured output."""
        if output_config.get("format"):
            self.overhead_tokens += FORMAT_TOKENS
            self.add_schema(output_config["format"])

    def _said(self, part: dict[str, Any]) -> list[Any]:
        kind = str(part.get("type"))
        if kind == "tool_reference":
            self._found.add(str(part.get("tool_name")))
            self._is_singular = True
        unread = _UNREAD.get(kind)
        if kind in _THOUGHTS:
            unread = _THOUGHTS[kind]
            self._is_singular |= self._may_forget
            self._add_sealed(part.get(unread), part.get("thinking"))
        elif kind in _CALLS:
            self.overhead_tokens += CALL_TOKENS
            unread = "input"
            self.add_schema(part.get(unread))
        elif kind.endswith("tool_result"):
            self.overhead_tokens += RESULT_TOKENS
        elif unread is None or unread not in part or _is_text(part[unread]):
            unread = None
        elif kind in _FILES and isinstance(source := part[unread], dict):
            self.add_data(self._model, source.get("data"), str(source.get("media_type") or ""))
        else:
            self.unknown_parts += 1
        return super()._said({name: member for name, member in part.items() if name != unread})

    def _add_sealed(self, sealed: object, shown: object) -> None:
        """What was thought beyond the summary that is shown of it."""
        characters = len(sealed) - SEALED_CHARACTERS if isinstance(sealed, str) else 0
        said = len(shown) // CHARACTERS_PER_TOKEN if isinstance(shown, str) else 0
        self.overhead_tokens += max(0, characters // SEALED_CHARACTERS_PER_TOKEN - said)


def _defined_tokens(tool: dict[str, Any]) -> int | None:
    """Of what is not in the request; None for a tool that runs at Anthropic's."""
    kind = tool.get("type")
    if kind in (None, "custom"):
        return 0
    name, _, date = str(kind).rpartition("_")
    return DEFINED_TOOLS.get(name) if date.isdigit() else None


def _opens_turn(message: object) -> bool:
    """Whether the user says something in it, beside results of tools."""
    if not isinstance(message, dict) or message.get("role") != "user":
        return False
    content = message.get("content")
    return not isinstance(content, list) or not all(_is_result(block) for block in content)


def _is_result(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _is_thought(block: object) -> bool:
    return isinstance(block, dict) and str(block.get("type")) in _THOUGHTS


def _is_text(source: object) -> bool:
    return isinstance(source, dict) and source.get("type") in ("text", "content")
