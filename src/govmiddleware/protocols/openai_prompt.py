"""What in a chat request becomes prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.core.parts import RawPart
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import NO_USAGE, Usage
from govmiddleware.protocols.fields import bounded_name
from govmiddleware.protocols.openai_models import reads_typescript
from govmiddleware.protocols.openai_tools import format_schema, rendered
from govmiddleware.protocols.prompt import Prompt, searches_of

MESSAGE_TOKENS = 3
NAME_TOKENS = 1
REPLY_TOKENS = 3
"""What the chat format adds to each message and name, and once for the reply's opening. Source:
OpenAI's cookbook, "How to count tokens with tiktoken"."""

FORMAT_TOKENS = 7
"""What is added to a structured output: `# Response Formats` and the like. Source: github.com/openai/harmony."""

_FILES = ("image_url", "input_audio", "file")
"""Members of parts that are files, or name them."""


class OpenAIPrompt(Prompt):
    """What chat completions and responses have in common.

    Attributes:
        searches: how many to reserve for the tools that the provider runs.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self.searches = NO_USAGE

    def add_format(self, form: object) -> None:
        """A structured output: its name, description and schema."""
        if isinstance(form, dict) and "schema" in form and reads_typescript(self._model):
            self.overhead_tokens += FORMAT_TOKENS
            self.add({"name": form.get("name"), "description": form.get("description")})
            self.add_schema(format_schema(form["schema"]))
        else:
            self.add_schema(form)

    def _add_hosted(self, tool: dict[str, Any], param: str) -> None:
        """A tool that the provider runs: what it finds becomes prompt, and its searches are billed by the number.
        Raises InvalidRequest for one that calls another model."""
        kind = tool.get("type")
        name = kind.removeprefix("openrouter:") if isinstance(kind, str) else ""
        if name == "image_generation":
            problem = f"{kind!r} is not supported here: it calls another model, which would go unpriced."
            raise InvalidRequest(problem, param=param)
        self.unknown_parts += 1
        self._is_singular = True
        if name.startswith("web_search"):
            self.searches += Usage(web_searches=searches_of(tool))
        elif name.startswith("file_search"):
            self.searches += Usage(file_searches=searches_of(tool))


class ChatPrompt(OpenAIPrompt):
    """Collects what one chat request puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._family = family_of(model)
        self._has_tools = False
        self.overhead_tokens = REPLY_TOKENS + self._family.template

    def add_messages(self, messages: list[Any], parts: Sequence[RawPart] = ()) -> None:
        """Raises InvalidRequest where a message is not one.

        Args:
            messages: those that are known as their Part.
            parts: what was looked up of each, where that was done.
        """
        for index, message in self._unknown(messages, parts):
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
                self.overhead_tokens += self._family.calls * len(calls)
            self.add(message)

    def _said(self, part: dict[str, Any]) -> list[Any]:
        for name in _FILES:
            if isinstance(given := part.get(name), str | dict):
                self._add_given(given)
                part = {key: member for key, member in part.items() if key != name}
        return super()._said(part)

    def _add_given(self, given: str | dict[str, Any]) -> None:
        """A picture, a sound or a document: `{url, detail}`, `{data, format}` or `{file_data}`."""
        given = {"url": given} if isinstance(given, str) else given
        data = next((given[name] for name in ("url", "data", "file_data") if given.get(name)), None)
        kind = f"audio/{given.get('format')}" if "data" in given else ""
        self.add_data(self._model, data, kind, given.get("detail"))

    def add_thinking(self) -> None:
        """The request asks for it."""
        self.overhead_tokens += self._family.thinking

    def add_namespace(self, *, forced: bool = False) -> None:
        """What stands around all definitions.

        Args:
            forced: whether one has to be called.
        """
        if not self._has_tools:
            self._has_tools = True
            self.overhead_tokens += self._family.tools_tokens(forced=forced)

    def add_tools(self, tools: list[dict[str, Any]]) -> None:
        """Definitions of tools, or of functions as they were before tools. Raises InvalidRequest for one that calls
        another model."""
        for tool in tools:
            function = tool.get("function", tool)
            if tool.get("type", "function") != "function" or not isinstance(function, dict):
                self._add_hosted(tool, "tools")
            text = (
                rendered(function) if reads_typescript(self._model) and isinstance(function, dict) else None
            )
            self.add_schema(tool) if text is None else self.texts.append(text)
