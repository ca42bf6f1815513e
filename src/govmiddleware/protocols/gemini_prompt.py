"""What in a Gemini request becomes prompt. Source: ai.google.dev/api/caching#Content."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.estimate import family_of
from govmiddleware.protocols.prompt import Prompt
from govmiddleware.protocols.proto_json import elements, members


class GeminiParts(Prompt):
    """Collects the parts of contents."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def _said(self, part: dict[str, Any]) -> list[Any]:
        part = members(part, "contents")
        for name in ("inlineData", "fileData"):
            if part.pop(name, None) is not None:
                self.unknown_parts += 1
        part.pop("thoughtSignature", None)
        for name in ("functionCall", "functionResponse"):
            called = part.pop(name, None)
            if called is not None:
                self.add_schema(called)
        return super()._said(part)


class GeminiPrompt(GeminiParts):
    """Collects what one request of generateContent puts before the model."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._family = family_of(model)
        self.overhead_tokens = self._family.template

    def add_contents(self, contents: object) -> None:
        self.add(contents)

    def add_system(self, system: object) -> None:
        self.add(system)

    def add_tools(self, tools: object) -> None:
        for tool in elements(tools):
            self.add_schema(tool)

    def add_formats(self, schemas: list[Any]) -> None:
        for schema in schemas:
            self.add_schema(schema)
