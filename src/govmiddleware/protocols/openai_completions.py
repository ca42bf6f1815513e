"""OpenAI's legacy completions, as vLLM, LiteLLM and others serve them too.

POST …/completions. Source: platform.openai.com/docs/api-reference/completions, and what openai-python 3.54 knows
(`types/completion_create_params.py`).
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.escapes import (
    DEAR_MODES,
    read_service_tier,
    refuse_dear_modes,
    refuse_other_output_limits,
)
from govmiddleware.protocols.fields import (
    LARGEST_TOKEN_LIMIT,
    LONGEST_CALLER,
    Object,
    read,
    read_count,
    read_name,
    refuse_fields,
)
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_chat import MOST_CHOICES
from govmiddleware.protocols.openai_chat_ending import TextEnding
from govmiddleware.protocols.openai_chat_reader import JsonReader, StreamReader
from govmiddleware.protocols.openai_texts import read_texts
from govmiddleware.protocols.openai_usage import ask_for_usage
from govmiddleware.protocols.prompt import Prompt

LIFTING = ("max_completion_tokens", "prompt_embeds")
"""Fields by which an upstream may generate more: one of chat's, and vLLM's prompts that nobody here counts. Refused."""

JUDGED = frozenset(
    {
        "model",
        "prompt",
        "suffix",
        "stream",
        "stream_options",
        "n",
        "best_of",
        "max_tokens",
        "user",
        "service_tier",
        *LIFTING,
        *DEAR_MODES,
        *OTHER_MODELS,
    }
)
"""The fields that decide what a call costs or whom it counts for."""

SETTINGS = frozenset(
    {
        "echo", "frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "seed", "stop", "temperature",
        "top_p",
    }
)  # fmt: skip
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""


class OpenAICompletions(OpenAIRoute):
    """The WireProtocol `openai.completions`."""

    name = "openai.completions"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/completions") and not path.endswith("/chat/completions")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query)
        refuse_dear_modes(body)
        refuse_other_output_limits(body)
        refuse_fields(body, LIFTING, "it may lift the output limit. Use 'max_tokens'.")
        read(body, "stream_options", Object)
        prompt = Prompt()
        has_prompt = read(body, "prompt", object) is not None
        given, tokens, prompts = read_texts(body, "prompt") if has_prompt else ([], 0, 1)
        prompt.add(given)
        prompt.add(read(body, "suffix", str))
        prompt.add_unknown_fields(body, JUDGED | SETTINGS)
        choices = (read_count(body, name, least=1, most=MOST_CHOICES) or 1 for name in ("n", "best_of"))
        return RequestInfo(
            model=model,
            stream=read(body, "stream", bool) or False,
            output_tokens=read_count(body, "max_tokens", least=1, most=LARGEST_TOKEN_LIMIT),
            choices=max(1, prompts) * max(choices),
            input_tokens=tokens,
            texts=prompt.texts,
            user=read_name(body, "user", LONGEST_CALLER),
            reach=Reach(media=False, service_tier=read_service_tier(body)),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        body.set("max_tokens", tokens)

    def request_usage(self, body: RequestBody) -> bool:
        return ask_for_usage(body)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        if not stream:
            return JsonReader()
        return StreamReader(strip_usage=usage_was_injected, may_be_cut=may_be_cut, ending=TextEnding)
