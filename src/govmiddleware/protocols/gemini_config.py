"""`generationConfig`: the object in a Gemini request that bounds the answer."""

from __future__ import annotations

import re
from typing import Any

from govmiddleware.core.body import RequestBody
from govmiddleware.protocols.fields import LARGEST_TOKEN_LIMIT, read, read_count, refuse_fields
from govmiddleware.protocols.object_field import ObjectField
from govmiddleware.protocols.proto_json import elements, members, spellings

MOST_CANDIDATES = 8

JUDGED = (
    "maxOutputTokens",
    "candidateCount",
    "responseSchema",
    "responseModalities",
    "thinkingConfig",
)
OTHER_MODELS = ("routingConfig", "modelConfig", "modelSelectionConfig")
"""By these, Vertex AI chooses the model. Refused."""

_NEVER_THINKS = re.compile(r"gemini-(?:1|2\.0(?!.*thinking))")
_NEED_NOT_THINK = re.compile(r"gemini-2\.5-flash")
"""Models that do not think where `thinkingBudget` is 0; others take that for a little."""


class GenerationConfig:
    """Reads and edits the object.

    Raises InvalidRequest where it is none, has a field in two spellings, or chooses a model.
    """

    def __init__(self, body: RequestBody) -> None:
        self._config = ObjectField(body, spellings(body.names(), ["generationConfig"])["generationConfig"])
        self._fields = self._config.fields
        self._spelt = spellings(self._fields.names(), (*JUDGED, *OTHER_MODELS))
        refuse_fields(
            self._fields, [self._spelt[field] for field in OTHER_MODELS], "it may change the model."
        )

    @property
    def output_tokens(self) -> int | None:
        """Of each candidate, thoughts included. Zero is no limit, and refused."""
        name = self._spelt["maxOutputTokens"]
        return read_count(self._fields, name, least=1, most=LARGEST_TOKEN_LIMIT)

    @property
    def candidates(self) -> int:
        name = self._spelt["candidateCount"]
        return read_count(self._fields, name, least=0, most=MOST_CANDIDATES) or 1

    @property
    def schema(self) -> Any:
        """Of a structured output, in Google's own form."""
        return read(self._fields, self._spelt["responseSchema"], object)

    def hides_output(self, model: str) -> bool | None:
        """Whether what is generated is thought, or no text; None leaves it to the model."""
        modalities = elements(read(self._fields, self._spelt["responseModalities"], object))
        if any(str(modality).upper() != "TEXT" for modality in modalities):
            return True
        thinking = members(
            read(self._fields, self._spelt["thinkingConfig"], dict[str, Any]) or {}, "thinkingConfig"
        )
        told_not_to = thinking.get("thinkingBudget") == 0 and _NEED_NOT_THINK.search(model)
        return False if told_not_to or _NEVER_THINKS.search(model) else None

    def bound_output(self, tokens: int) -> None:
        """Write an output limit."""
        self._config.set(self._spelt["maxOutputTokens"], tokens)
