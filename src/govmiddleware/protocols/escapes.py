"""What a request may not say in any protocol, as its bound or its price would not hold."""

from __future__ import annotations

from collections.abc import Container, Mapping

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import read_name, refuse_fields

STANDARD_TIERS = frozenset(
    {"auto", "default", "batch", "flex", "scale", "on_demand", "standard", "standard_only", "unspecified"}
)
"""Tiers that cost at most the standard price, whatever the model."""

OTHER_OUTPUT_LIMITS = (
    "max_output_tokens",  # as Gemini, Bedrock, Ollama and others call it: LiteLLM hands each on, over `max_tokens`
    "maxOutputTokens",
    "maxTokens",
    "maxTokenCount",
    "max_gen_len",
    "max_length",
    "max_new_tokens",
    "max_tokens_to_sample",
    "num_predict",
    "n_predict",  # llama.cpp
    "additional_drop_params",  # LiteLLM drops the fields that it names, `max_tokens` among them
)
"""Fields by which an upstream may generate more than the protocol's own limit says. Refused."""

_OTHER_OUTPUT_LIMITS = frozenset(OTHER_OUTPUT_LIMITS)


def refuse_other_output_limits(body: RequestBody, own: str = "max_tokens") -> None:
    """Raises InvalidRequest. `own` is what the limit is called in the request's protocol."""
    if not body.names().isdisjoint(_OTHER_OUTPUT_LIMITS):
        others = [name for name in OTHER_OUTPUT_LIMITS if name != own]
        refuse_fields(body, others, f"it may lift the output limit. Use '{own}'.")


def read_service_tier(body: RequestBody) -> str | None:
    """The tier of service that the request asks for, in lower case. Raises InvalidRequest."""
    tier = read_name(body, "service_tier")
    return None if tier is None else tier.lower()


def refuse_dear_tier(tier: str | None, priced: Container[str], field: str = "service_tier") -> None:
    """Raises InvalidRequest for a tier that may cost more than the standard one, unless it has a price."""
    if tier is not None and tier not in STANDARD_TIERS and tier not in priced:
        problem = f"The service tier {tier!r} has no price here: it may cost more than the standard one."
        raise InvalidRequest(problem, param=field)


def refuse_dear_tiers(body: RequestBody, field: str = "service_tier") -> None:
    """Refuse all that may cost more. Raises InvalidRequest."""
    tier = read_name(body, field)
    refuse_dear_tier(None if tier is None else tier.lower(), (), field)


DEAR_MODES = {"speed": ("standard",), "inference_geo": ("global",)}
"""Anthropic's fields by which a call can cost more, which LiteLLM and OpenRouter hand on from other protocols, with the
values that cost no more."""

BEDROCKS_MODES = ("serviceTier", "performanceConfig")
"""Converse's fields of the kind, which LiteLLM hands on. Refused in all protocols but its own."""


def refuse_dear_modes(body: RequestBody, known: Mapping[str, tuple[str, ...]] = DEAR_MODES) -> None:
    """Raises InvalidRequest. `known` are the fields with the values whose price is known."""
    for name, values in known.items():
        if read_name(body, name) not in (None, *values):
            problem = f"'{name}' is supported as {' and '.join(values)} alone: others may cost more."
            raise InvalidRequest(problem, param=name)
    refuse_fields(body, BEDROCKS_MODES, "it may cost more than the standard.")


_ESCAPED_TTL = (rb"\u006", rb"\u007")
"""Some letter of `ttl`, escaped."""


def may_cache_for_an_hour(body: RequestBody, *, but: Container[str] = ()) -> bool:
    """Whether any `cache_control` may say how long, in another field than those in `but`."""
    return any(name not in but and asks_for_an_hour(raw) for name, raw in body.fields.items())


def asks_for_an_hour(raw: bytes) -> bool:
    """Whether `ttl` may be among the keys of some JSON: by it, a cache is asked for that is kept for longer than five
    minutes. Looked for in the bytes, which is quick."""
    return b'"ttl"' in raw or (b"\\" in raw and any(letter in raw for letter in _ESCAPED_TTL))
