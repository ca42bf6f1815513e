"""Which protocol a request speaks."""

from __future__ import annotations

from collections.abc import Iterable

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.anthropic_base import AnthropicRoute
from govmiddleware.protocols.anthropic_count_tokens import AnthropicCountTokens
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_compact import OpenAICompact
from govmiddleware.protocols.openai_completions import OpenAICompletions
from govmiddleware.protocols.openai_embeddings import OpenAIEmbeddings
from govmiddleware.protocols.openai_input_tokens import OpenAIInputTokens
from govmiddleware.protocols.openai_moderations import OpenAIModerations
from govmiddleware.protocols.openai_responses import OpenAIResponses


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


PROTOCOLS: tuple[WireProtocol, ...] = (
    OpenAIChat(),
    OpenAIResponses(),
    OpenAICompact(),
    OpenAIInputTokens(),
    OpenAICompletions(),
    OpenAIEmbeddings(),
    OpenAIModerations(),
    AnthropicMessages(),
    AnthropicCountTokens(),
)
UNRECOGNISED: WireProtocol = Unrecognised()
_UNRECOGNISED_ANTHROPIC: WireProtocol = UnrecognisedAnthropic()


def recognise(method: str, path: str) -> WireProtocol | None:
    """The protocol of a request by its method and decoded path, whatever the prefix; None where no
    protocol reads it (`unrecognised` then shapes the refusals).

    Letter case does not count, nor what `folded` takes off: some apps and upstreams do not mind it.
    """
    method, path = method.upper(), folded(path)
    for protocol in PROTOCOLS:
        if protocol.recognises(method, path):
            return protocol
    return None


def unrecognised(headers: Iterable[tuple[bytes, bytes]]) -> WireProtocol:
    """The protocol of a request that none reads: Anthropic's for its clients, which all say the version of its
    API that they speak, and else OpenAI's."""
    anthropic = any(name == b"anthropic-version" for name, _ in headers)
    return _UNRECOGNISED_ANTHROPIC if anthropic else UNRECOGNISED
