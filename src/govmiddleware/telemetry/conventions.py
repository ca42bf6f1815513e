"""What a call is called in traces and metrics: OpenTelemetry's semantic conventions for GenAI and HTTP.

Names as in semantic-conventions-genai (`gen_ai.*`) and semantic-conventions 1.40 (`http.*`, `url.*`, `server.*`);
what they have no name for is `govmiddleware.*`.
"""

from __future__ import annotations

from opentelemetry.util.types import AttributeValue

from govmiddleware.core.call import Call
from govmiddleware.core.refusals import LimitRefusal
from govmiddleware.core.scopes import ANONYMOUS
from govmiddleware.middleware._request_log import failure

Attributes = dict[str, AttributeValue]

_OPERATIONS = {
    "openai.chat": "chat",
    "openai.responses": "chat",
    "openai.completions": "text_completion",
    "openai.embeddings": "embeddings",
    "anthropic.messages": "chat",
    "gemini": "generate_content",
    "gemini.embeddings": "embeddings",
    "bedrock": "chat",
    "bedrock.invoke": "chat",
    "ollama.chat": "chat",
    "ollama.generate": "text_completion",
    "ollama.embed": "embeddings",
}
"""By wire protocol. The others have no name there, and go by the last word of their own."""

_PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "ollama": "ollama",
}
"""By the maker of the wire protocol, which is all that a client's side can know."""

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "CONNECT", "TRACE"}
)


def method_of(call: Call) -> str:
    """Clients can make up methods; there are no more than these."""
    return call.method if call.method in _METHODS else "_OTHER"


def operation_of(call: Call) -> str:
    """`gen_ai.operation.name`, of a model call."""
    name = call.protocol.name
    return _OPERATIONS.get(name) or name.rpartition(".")[2]


def model_of(call: Call) -> str:
    """The catalogue's name; what clients invent is `other`, as in our own metrics."""
    return call.price.model if call.price else "other"


def span_name(call: Call) -> str:
    """`chat gpt-4o`, by the catalogue's name: names of spans are few, and clients can invent models."""
    if not call.model_call:
        return method_of(call).replace("_OTHER", "HTTP")
    return f"{operation_of(call)} {model_of(call)}" if call.price else operation_of(call)


def error_type(call: Call, error: BaseException | None) -> str | None:
    """`error.type`: a refusal's code, an exception's name, or the upstream's status."""
    if (failed := failure(call, error)) is not None:
        return failed
    if call.refusal is not None:
        return call.refusal.code
    return str(call.status) if (call.status or 0) >= 400 else None


def metric_attributes(call: Call, error: BaseException | None) -> Attributes:
    """Of every data point of a model call. None is a name that clients make up: their number is bounded."""
    return _told(
        {
            "gen_ai.operation.name": operation_of(call),
            "gen_ai.provider.name": _provider(call),
            "gen_ai.request.model": model_of(call),
            "error.type": error_type(call, error),
            "govmiddleware.provider": call.provider,
        }
    )


def request_attributes(call: Call) -> Attributes:
    """What is known when a call begins, so that samplers may look at it."""
    attributes: Attributes = {"govmiddleware.request_id": call.request_id}
    if call.path:  # else it is a block of code
        attributes |= {"http.request.method": method_of(call), "url.path": call.path}
    return attributes


def call_attributes(call: Call, error: BaseException | None) -> Attributes:
    """What is known of a call when it has ended; nothing of its prompt or answer."""
    principal, refusal, charge = call.principal, call.refusal, call.charge
    attributes: dict[str, AttributeValue | None] = {
        "http.response.status_code": call.status,
        "error.type": error_type(call, error),
        "user.id": _named(call.attribution.user),
        "gen_ai.conversation.id": _named(call.attribution.session),
        "gen_ai.agent.name": _named(call.attribution.agent),
        "govmiddleware.workspace": principal.workspace if principal else None,
        "govmiddleware.api_token": principal.api_token if principal else None,
        "govmiddleware.provider": call.provider,
        "govmiddleware.refusal": refusal.code if refusal else None,
        "govmiddleware.limit": refusal.failures[0].limit.name if isinstance(refusal, LimitRefusal) else None,
        "govmiddleware.outcome": charge.outcome.value if charge else None,
        "govmiddleware.settlement": charge.settlement.value if charge else None,
        "govmiddleware.client_request_id": call.client_request_id,
        "govmiddleware.upstream_request_id": call.upstream_request_id,
    }
    if call.model_call:
        attributes |= {
            "gen_ai.operation.name": operation_of(call),
            "gen_ai.provider.name": _provider(call),
            "gen_ai.request.model": call.model,
            "gen_ai.request.stream": call.stream,
            "gen_ai.response.model": call.model_served,
        }
        if call.stream and call.first_byte is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = call.first_byte - call.started
    if charge is not None and call.demand is not None:
        usage = charge.usage
        attributes |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
            "govmiddleware.cost_usd": charge.cost / 1e9,
        }
    return _told(attributes)


def _provider(call: Call) -> str:
    return _PROVIDERS.get(call.protocol.name.partition(".")[0]) or call.provider or "unknown"


def _named(name: str) -> str | None:
    return None if name == ANONYMOUS else name


def _told(attributes: dict[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
