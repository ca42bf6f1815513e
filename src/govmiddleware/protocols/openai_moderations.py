"""OpenAI's moderations. POST …/moderations. OpenAI's own models are free; others' are priced by their input.

Source: platform.openai.com/docs/api-reference/moderations; docs.mistral.ai/capabilities/guardrailing.
"""

from __future__ import annotations

import re

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.fields import read
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.prompt import Prompt

JUDGED = frozenset({"model", "input", *OTHER_MODELS})

DEFAULT_MODEL = "omni-moderation-latest"
"""What OpenAI takes where the request names none."""

_FREE = re.compile(r"(?:openai/)?(?:omni|text)-moderation-")


class OpenAIModerations(OpenAIRoute):
    """The WireProtocol `openai.moderations`: no output, no streams."""

    name = "openai.moderations"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/moderations")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query, default=DEFAULT_MODEL)
        if _FREE.match(model.lower()):
            return RequestInfo(model=model, generates=False, free=True)
        prompt = Prompt()
        prompt.add(read(body, "input", object))
        return RequestInfo(
            model=model, generates=False, texts=prompt.texts, unknown_parts=prompt.unknown_parts
        )
