"""What in a Gemini request becomes prompt. Source: ai.google.dev/api/caching#Content.

Vertex AI, and the Gemini API of models before 2.5, count the texts of a request alone: google-genai does the same in
`local_tokenizer.py`. The Gemini API of later models counts the form in which tools and their calls reach the model,
too, which comes close to JSON; and since Gemini 3 the thoughts that a signature stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from govmiddleware.protocols.gemini_media import media_tokens, text_of
from govmiddleware.protocols.gemini_usage import bills_searches_as_one
from govmiddleware.protocols.prompt import SEARCHES, Prompt
from govmiddleware.protocols.proto_json import elements, members

REQUEST_TOKENS = 1
CALL_TOKENS = 2
"""What the Gemini API counts for a request, and for each call of a function and each response beside its JSON."""

SIGNATURE_PERCENT = 21
SIGNATURE_TOKENS = 15
"""A signature of so many characters stands for this part of them in tokens of thought, less a constant."""

_TEXTS_ALONE = re.compile(r"gemini-(?:1|2\.0)(?!\d)")
_FORGETS_THOUGHTS = re.compile(r"gemini-[12](?!\d)")
_STEERS = frozenset({"type", "nullable", "additionalProperties", "title", "default", "$ref"})
"""Of a schema, what is no text."""

_CALLED = {"functionCall": "args", "functionResponse": "response"}
_UNSAID = frozenset({"inlineData", "fileData", "thoughtSignature", *_CALLED})
"""Members of a part that do not reach the model as the text that they are."""

_SEARCHING = frozenset({"googleSearch", "googleSearchRetrieval", "enterpriseWebSearch"})
"""Tools whose queries are told and billed by their number."""

_SPLITS = re.compile(r"(\d{2,})|_(?=[^\W_])|[^\w\s]\n")
_SAMPLE = 65_536
"""Characters that are looked at; the rest is taken to be like them."""


class GeminiParts(Prompt):
    """Collects contents: texts, media, calls of functions and their responses.

    Args:
        path: decoded; Vertex AI's name a project.
    """

    def __init__(self, model: str, path: str) -> None:
        super().__init__()
        self._model = model
        self._texts_alone = "/projects/" in path or _TEXTS_ALONE.search(model) is not None
        self._counts_thoughts = not (self._texts_alone or _FORGETS_THOUGHTS.search(model))

    @property
    def all_overhead_tokens(self) -> int:
        """With what Gemini's tokenizer takes for the texts more than OpenAI's."""
        return self.overhead_tokens + splits(self.texts)

    def _said(self, part: dict[str, Any]) -> list[Any]:
        part = members(part, "contents")
        if not part.keys().isdisjoint(_UNSAID):
            self._add_unsaid(part)
            part = {name: member for name, member in part.items() if name not in _UNSAID}
        return super()._said(part)

    def _add_unsaid(self, part: dict[str, Any]) -> None:
        if (inline := part.get("inlineData")) is not None:
            self._add_inline(inline)
        if part.get("fileData") is not None:
            self.add_file(None)
        for name, said in _CALLED.items():
            if isinstance(called := part.get(name), dict):
                self._add_called(members(called, "contents"), said)
            else:
                self.add(called)
        signature = part.get("thoughtSignature")
        if isinstance(signature, str) and self._counts_thoughts:
            self.overhead_tokens += max(0, len(signature) * SIGNATURE_PERCENT // 100 - SIGNATURE_TOKENS)

    def _add_inline(self, inline: object) -> None:
        inline = members(inline, "contents") if isinstance(inline, dict) else {}
        if (text := text_of(inline)) is not None:
            self.texts.append(text)
        else:
            self.add_file(media_tokens(self._model, inline))

    def _add_called(self, called: dict[str, Any], said: str) -> None:
        """A call of a function or its response, which may have media as its parts."""
        self.add(called.get("parts"))
        if self._texts_alone:
            self.texts += texts_in([called.get("name"), called.get(said)])
        else:
            self.overhead_tokens += CALL_TOKENS
            self.add_schema({"name": called.get("name"), said: called.get(said)})


class GeminiPrompt(GeminiParts):
    """Collects what one request of generateContent puts before the model.

    Attributes:
        searches: how many to reserve for the tools by which Google is searched.
    """

    def __init__(self, model: str, path: str) -> None:
        super().__init__(model, path)
        self.searches = 0
        self.overhead_tokens = 0 if self._texts_alone else REQUEST_TOKENS

    def add_tools(self, tools: object) -> None:
        """Declarations of functions. All other tools are hosted: what they find becomes prompt."""
        for tool in elements(tools):
            given = members(tool, "tools") if isinstance(tool, dict) else {"": tool}
            for name, member in given.items():
                if name == "functionDeclarations":
                    for declared in elements(member):
                        self._add_function(declared)
                else:
                    self.unknown_parts += 1
                    self.add_schema(member)
                    if name in _SEARCHING:
                        self.searches = 1 if bills_searches_as_one(self._model) else self.searches + SEARCHES

    def add_format(self, schema: object) -> None:
        """The schema of a structured output, in Google's own form: one in JSON Schema is not counted."""
        self.texts += texts_in(schema, is_schema=True)

    def _add_function(self, declared: object) -> None:
        function = members(declared, "tools") if isinstance(declared, dict) else {"name": declared}
        if self._texts_alone:
            self.texts += texts_in(function, is_schema=True)
            return
        self.add_schema(
            {name: member for name, member in function.items() if not _is_empty_schema(name, member)}
        )


def _is_empty_schema(name: str, member: object) -> bool:
    """Whether this says that a function has no parameters, which is not said to the model."""
    if name not in ("parameters", "parametersJsonSchema") or not isinstance(member, dict):
        return False
    return not member.get("properties") and not member.get("$ref")


def texts_in(value: object, *, is_schema: bool = False) -> list[str]:
    """All keys and strings in a JSON value. Of a schema: names, descriptions and values, but not its own words."""
    texts: list[str] = []
    pending: list[tuple[object, bool]] = [(value, is_schema)]
    while pending:
        value, words_of_schema = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            pending += [(each, words_of_schema) for each in value]
        elif isinstance(value, dict):
            for key, member in value.items():
                if not words_of_schema:
                    texts.append(key)
                if not (words_of_schema and key in _STEERS):
                    names = key in ("properties", "$defs")
                    pending.append((member, is_schema and not (words_of_schema and names)))
    return texts


def splits(texts: Iterable[str]) -> int:
    """The tokens by which Gemini's tokenizer, which is Gemma's, takes more for texts than OpenAI's, about.

    It takes each digit for itself, an underscore apart from its word, and a line's end apart from what ends it.
    """
    text = " ".join(texts)
    found = _SPLITS.findall(text, 0, _SAMPLE)
    count = sum(len(digits) - -(-len(digits) // 3) if digits else 1 for digits in found)
    return count * max(len(text), _SAMPLE) // _SAMPLE
