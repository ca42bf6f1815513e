"""Bedrock's converse and converse-stream, one form for the models of all makers.

POST …/model/MODEL/converse. Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, and the
service model of botocore 1.44 (`bedrock-runtime`).
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.bedrock_base import BedrockRoute, refuse_look_alikes
from govmiddleware.protocols.bedrock_config import OUTPUT_LIMIT, InferenceConfig
from govmiddleware.protocols.bedrock_model import read_address
from govmiddleware.protocols.bedrock_prompt import ConversePrompt
from govmiddleware.protocols.bedrock_reader import JsonReader, StreamReader
from govmiddleware.protocols.bedrock_usage import member_of, objects_in, tier_of
from govmiddleware.protocols.escapes import may_cache_for_an_hour, refuse_other_output_limits
from govmiddleware.protocols.fields import Elements, Object, read

JUDGED = frozenset(
    {
        "messages", "system", "toolConfig", "inferenceConfig", "additionalModelRequestFields", "outputConfig",
        "serviceTier", "performanceConfig", "model", "modelId",
    }
)  # fmt: skip
"""The fields that decide what a call costs."""

SETTINGS = frozenset({"additionalModelResponseFieldPaths", "guardrailConfig", "requestMetadata"})
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""


class BedrockConverse(BedrockRoute):
    """The WireProtocol `bedrock`."""

    name = "bedrock"
    operations = ("converse", "converse-stream")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        refuse_look_alikes(body.names(), JUDGED)
        model = read_address(body, path, query)
        refuse_other_output_limits(body, OUTPUT_LIMIT)
        messages = read(body, "messages", Elements)
        if messages is None:
            raise InvalidRequest("'messages' is missing.", param="messages")
        config = InferenceConfig(body)
        prompt = ConversePrompt(model)
        prompt.add_system(read(body, "system", Elements) or [])
        prompt.add_messages(messages)
        tool_config = read(body, "toolConfig", Object) or {}
        forced = bool({"any", "tool"} & member_of(tool_config, "toolChoice").keys())
        prompt.add_tools([*objects_in(tool_config.get("tools")), *config.tools], forced=forced)
        prompt.add_format(read(body, "outputConfig", Object) or {})
        prompt.add_thinking(config.thinking.get("type"))
        prompt.add_unknown_fields(body, JUDGED | SETTINGS)
        for raw in config.others:
            prompt.add_unknown(raw)
        return RequestInfo(
            model=model,
            stream=folded(path).endswith("/converse-stream"),
            output_tokens=config.output_tokens,
            overhead_tokens=prompt.overhead_tokens,
            texts=prompt.texts,
            unknown_parts=prompt.unknown_parts,
            hides_output=config.hides_output,
            reach=Reach(
                media=prompt.unknown_parts > 0,
                cache_1h=may_cache_for_an_hour(body),
                service_tier=_tier(body),
            ),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        InferenceConfig(body).bound_output(tokens)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()


def _tier(body: RequestBody) -> str | None:
    asked = {name: read(body, name, Object) or {} for name in ("serviceTier", "performanceConfig")}
    return tier_of(asked)
