"""Which protocol a request speaks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.anthropic_base import AnthropicRoute
from govmiddleware.protocols.anthropic_batches import AnthropicBatches
from govmiddleware.protocols.anthropic_count_tokens import AnthropicCountTokens
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.bedrock_base import BedrockRoute
from govmiddleware.protocols.bedrock_converse import BedrockConverse
from govmiddleware.protocols.bedrock_count_tokens import BedrockCountTokens
from govmiddleware.protocols.bedrock_invoke import BedrockInvoke
from govmiddleware.protocols.gemini_base import GeminiRoute
from govmiddleware.protocols.gemini_batches import GeminiBatches
from govmiddleware.protocols.gemini_count_tokens import GeminiCountTokens
from govmiddleware.protocols.gemini_embeddings import GeminiEmbeddings
from govmiddleware.protocols.gemini_generate import GeminiGenerate
from govmiddleware.protocols.ollama import OllamaEmbed, OllamaGenerate, OllamaShow
from govmiddleware.protocols.openai_audio import OpenAISpeech, OpenAITranscriptions
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_batches import OpenAIBatches
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_compact import OpenAICompact
from govmiddleware.protocols.openai_completions import OpenAICompletions
from govmiddleware.protocols.openai_embeddings import OpenAIEmbeddings
from govmiddleware.protocols.openai_images import OpenAIImages
from govmiddleware.protocols.openai_input_tokens import OpenAIInputTokens
from govmiddleware.protocols.openai_moderations import OpenAIModerations
from govmiddleware.protocols.openai_responses import OpenAIResponses

_CANCELS = re.compile(r"/v1(?:beta)?/(?:messages/)?batches/[^/:]+[/:]cancel\Z")

_GOOGLE_HEADERS = (b"x-goog-api-key", b"x-goog-api-client")
_AWS_HEADERS = (b"amz-sdk-request", b"amz-sdk-invocation-id", b"x-amz-date")


class _Unread:
    """What a route that no protocol reads has of one: the shape of its refusals."""

    def recognises(self, method: str, path: str) -> bool:
        return False

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        raise InvalidRequest("This route is not one of a model call that can be metered.")


class Unrecognised(_Unread, OpenAIRoute):
    """Other routes, of everyone who does not say otherwise."""

    name = "unrecognised"


class UnrecognisedAnthropic(_Unread, AnthropicRoute):
    """Other routes of Anthropic's, such as the list of models."""

    name = "anthropic.unrecognised"


class UnrecognisedGemini(_Unread, GeminiRoute):
    """Other routes of Google's, such as the list of models."""

    name = "gemini.unrecognised"


class UnrecognisedBedrock(_Unread, BedrockRoute):
    """Other routes of Bedrock's, such as the calls of models in the forms of other makers than Anthropic."""

    name = "bedrock.unrecognised"


_OLLAMAS: tuple[WireProtocol, ...] = (
    OllamaGenerate("ollama.chat"),
    OllamaGenerate("ollama.generate"),
    OllamaEmbed(),
    OllamaShow(),
)
PROTOCOLS: tuple[WireProtocol, ...] = (
    *_OLLAMAS,  # before OpenAI's embeddings, which have any path that ends so
    OpenAIChat(),
    OpenAIResponses(),
    OpenAICompact(),
    OpenAIInputTokens(),
    OpenAICompletions(),
    OpenAIEmbeddings(),
    OpenAIModerations(),
    OpenAIImages("generations"),
    OpenAIImages("edits"),
    OpenAIImages("variations"),
    OpenAITranscriptions("transcriptions"),
    OpenAITranscriptions("translations"),
    OpenAISpeech(),
    OpenAIBatches(),
    AnthropicMessages(),
    AnthropicCountTokens(),
    AnthropicBatches(),
    GeminiGenerate(),
    GeminiCountTokens(),
    GeminiEmbeddings(),
    GeminiBatches(),
    BedrockConverse(),
    BedrockCountTokens(),
    BedrockInvoke(),
)
UNRECOGNISED: WireProtocol = Unrecognised()
_UNRECOGNISED_ANTHROPIC: WireProtocol = UnrecognisedAnthropic()
_UNRECOGNISED_GEMINI: WireProtocol = UnrecognisedGemini()
_UNRECOGNISED_BEDROCK: WireProtocol = UnrecognisedBedrock()


def recognise(method: str, path: str, *, in_app: bool = False) -> WireProtocol | None:
    """The protocol of a request by its method and decoded path, whatever the prefix; None where no
    protocol reads it (`unrecognised` then shapes the refusals).

    Letter case does not count, nor what `folded` takes off: some apps and upstreams do not mind it.

    Args:
        in_app: leaves out Ollama's paths, such as `/api/chat`, which many apps have for routes of their own.
    """
    # Those that have models in them are many, and long ones would fill the memory.
    find = _remembered if len(path) <= _LONGEST_REMEMBERED else _recognise
    return find(method, path, in_app)


def _recognise(method: str, path: str, in_app: bool) -> WireProtocol | None:
    method, path = method.upper(), folded(path)
    for protocol in PROTOCOLS:
        if protocol.recognises(method, path) and not (in_app and protocol in _OLLAMAS):
            return protocol
    return None


_LONGEST_REMEMBERED = 256
_remembered = lru_cache(maxsize=1024)(_recognise)


def costs_nothing(method: str, path: str) -> bool:
    """Whether a request that no protocol reads is known to be free although it is no read: to cancel a batch."""
    return method.upper() == "POST" and _CANCELS.search(folded(path)) is not None


def unrecognised(headers: Iterable[tuple[bytes, bytes]], path: str = "") -> WireProtocol:
    """The protocol of a request that none reads: Anthropic's for its clients, which all say the version of its
    API that they speak; Google's for those that send a key or their name in its headers, and on a path with
    one of its versions; Bedrock's for AWS's SDKs; else OpenAI's."""
    names = {name for name, _ in headers}
    if b"anthropic-version" in names:
        return _UNRECOGNISED_ANTHROPIC
    if not names.isdisjoint(_GOOGLE_HEADERS) or "/v1beta" in folded(path):
        return _UNRECOGNISED_GEMINI
    if not names.isdisjoint(_AWS_HEADERS):
        return _UNRECOGNISED_BEDROCK
    return UNRECOGNISED
