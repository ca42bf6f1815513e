"""OpenAI's responses, as OpenAI and everyone who speaks its dialect serve them.

POST …/responses. Source: platform.openai.com/docs/api-reference/responses, and the parameters that
openai-python 3.54 knows (`types/responses/response_create_params.py`).
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols import openai_errors
from govmiddleware.protocols.escapes import (
    DEAR_MODES,
    read_service_tier,
    refuse_dear_modes,
    refuse_other_output_limits,
)
from govmiddleware.protocols.fields import (
    LARGEST_TOKEN_LIMIT,
    Elements,
    Object,
    read,
    read_count,
    refuse_fields,
)
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_responses_prompt import ResponsesPrompt
from govmiddleware.protocols.openai_responses_reader import JsonReader, StreamReader
from govmiddleware.protocols.openai_user import read_user
from govmiddleware.protocols.prompt import read_history

OUTPUT_LIMIT = "max_output_tokens"

REPEATED_OUTPUT = ("n", "best_of", "max_tokens", "max_completion_tokens")
"""Fields of chat completions by which an upstream that translates may generate more than the limit. Refused."""

ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Fields that name a part of the prompt which is not in the request: each is of unknown size."""

HIDING = ("reasoning", "context_management", "background")
"""Fields by which a client can have output generated that its stream does not show, or not to the end."""

JUDGED = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "max_tool_calls",
        "text",
        "stream",
        OUTPUT_LIMIT,
        "safety_identifier",
        "user",
        "metadata",
        "service_tier",
        *ELSEWHERE,
        *HIDING,
        *REPEATED_OUTPUT,
        *DEAR_MODES,
        *OTHER_MODELS,
    }
)
"""The fields that decide what a call costs or whom it counts for."""

SETTINGS = frozenset(
    {
        "access_programs", "background_options", "client_metadata", "image", "include",
        "moderation", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "provider", "store", "stream_options", "temperature", "tool_choice",
        "top_logprobs", "top_p", "truncation",
    }
)  # fmt: skip
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""

_KNOWN = JUDGED | SETTINGS


class OpenAIResponses(OpenAIRoute):
    """The WireProtocol `openai.responses`."""

    name = "openai.responses"
    history = "input"
    preamble = ("instructions", "tools")

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/responses")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query)
        refuse_dear_modes(body)
        refuse_other_output_limits(body, own=OUTPUT_LIMIT)
        refuse_fields(body, REPEATED_OUTPUT, f"it may lift the output limit. Use '{OUTPUT_LIMIT}'.")
        prompt = ResponsesPrompt(model)
        prompt.add_field(body, "instructions", object, prompt.add_instructions)
        reasoning = read(body, "reasoning", Object) or {}
        given = read_history(body, "input") if "input" in body.parts else read(body, "input", object)
        all_turns = reasoning.get("context") == "all_turns"
        prompt.add_input(given, body.parts.get("input", ()), all_turns=all_turns)
        if prompt.add_field(body, "tools", Elements, prompt.add_tools):
            prompt.add_namespace()
        form = (read(body, "text", Object) or {}).get("format")
        if isinstance(form, dict) and "schema" in form:
            prompt.add_format(form)
        _add_what_is_elsewhere(body, prompt)
        if reasoning.get("mode") not in (None, "standard"):
            prompt.unknown_parts += 1  # it asks itself more than once
        prompt.add_unknown_fields(body, _KNOWN)
        hides = prompt.has_hosted_tools or any(read(body, name, object) for name in HIDING)
        return RequestInfo(
            model=model,
            stream=read(body, "stream", bool) or False,
            output_tokens=read_count(body, OUTPUT_LIMIT, least=1, most=LARGEST_TOKEN_LIMIT),
            overhead_tokens=prompt.overhead_tokens,
            texts=prompt.texts,
            known_tokens=prompt.known_tokens,
            known_bytes=prompt.known_bytes,
            new_parts=prompt.new_parts,
            unknown_parts=prompt.unknown_parts,
            user=read_user(body),
            hides_output=True if hides else None,
            runs_on=read(body, "background", bool) or False,
            reach=Reach(
                media=prompt.has_media,
                service_tier=read_service_tier(body),
                beside_tokens=_bounded(prompt.searches, body),
            ),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        body.set(OUTPUT_LIMIT, tokens)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return openai_errors.stream_error_event(refusal)


def _bounded(searches: Usage, body: RequestBody) -> Usage:
    """No more of each kind than all calls of hosted tools may be."""
    most = read_count(body, "max_tool_calls", least=0, most=LARGEST_TOKEN_LIMIT)
    if most is None:
        return searches
    return Usage(
        web_searches=min(searches.web_searches, most), file_searches=min(searches.file_searches, most)
    )


def _add_what_is_elsewhere(body: RequestBody, prompt: ResponsesPrompt) -> None:
    for name in ELSEWHERE:
        named = read(body, name, object)
        if named:
            prompt.unknown_parts += 1
        if isinstance(named, dict):
            prompt.add(named.get("variables"))  # of a prompt template
