"""Gemini's generateContent and streamGenerateContent, of the Gemini API and of Vertex AI.

POST …/models/MODEL:generateContent. Source: ai.google.dev/api/generate-content,
cloud.google.com/vertex-ai/generative-ai/docs/reference/rest, and what google-genai 3.4 sends (`models.py`).
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.escapes import refuse_dear_tiers, refuse_other_output_limits
from govmiddleware.protocols.fields import read, refuse_fields
from govmiddleware.protocols.gemini_base import GeminiRoute
from govmiddleware.protocols.gemini_config import GenerationConfig
from govmiddleware.protocols.gemini_prompt import GeminiPrompt
from govmiddleware.protocols.gemini_reader import JsonReader, StreamReader
from govmiddleware.protocols.proto_json import camel, spellings

JUDGED = (
    "contents",
    "systemInstruction",
    "tools",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "model",
)
"""The fields that decide what a call costs."""

SETTINGS = frozenset({"toolConfig", "safetySettings", "labels", "modelArmorConfig", "store", "outputConfig"})
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""


class GeminiGenerate(GeminiRoute):
    """The WireProtocol `gemini`."""

    name = "gemini"
    methods = ("generatecontent", "streamgeneratecontent")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        spelt = spellings(body.names(), JUDGED)
        model = self.read_address(body, path, query)
        refuse_other_output_limits(body, "generationConfig.maxOutputTokens")
        refuse_fields(body, ("config",), "LiteLLM takes it for 'generationConfig'.")
        refuse_dear_tiers(body, spelt["serviceTier"])
        contents = read(body, spelt["contents"], object)
        if contents is None:
            raise InvalidRequest("'contents' is missing.", param="contents")
        config = GenerationConfig(body)
        prompt = GeminiPrompt(model, path)
        prompt.add(contents)
        prompt.add(read(body, spelt["systemInstruction"], object))
        prompt.add_tools(read(body, spelt["tools"], object))
        prompt.add_format(config.schema)
        if read(body, spelt["cachedContent"], str):
            prompt.unknown_parts += 1
        for name in body.names():
            if camel(name) not in JUDGED and camel(name) not in SETTINGS:
                prompt.add_unknown(body.raw(name) or b"")
        return RequestInfo(
            model=model,
            stream=folded(path).endswith(":streamgeneratecontent"),
            output_tokens=config.output_tokens,
            choices=config.candidates,
            overhead_tokens=prompt.all_overhead_tokens,
            texts=prompt.texts,
            unknown_parts=prompt.unknown_parts,
            hides_output=config.hides_output(model),
            reach=Reach(media=prompt.has_media, beside_tokens=Usage(web_searches=prompt.searches)),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        GenerationConfig(body).bound_output(tokens)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()
