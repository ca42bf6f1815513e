"""What a request may not say in any protocol, as its bound or its price would not hold."""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import read_name, refuse_fields

STANDARD_TIERS = frozenset(
    {"auto", "default", "flex", "scale", "on_demand", "standard", "standard_only", "unspecified"}
)
"""Tiers that cost at most the standard price, which is what calls are priced at."""

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
"""Fields by which an upstream may generate more than `max_tokens` says. Refused."""


def refuse_other_output_limits(body: RequestBody, own: str = "max_tokens") -> None:
    """Raises InvalidRequest. `own` is the protocol's name of the limit."""
    refuse_fields(body, OTHER_OUTPUT_LIMITS, f"it may lift the output limit. Use {own!r}.")


def refuse_dear_tiers(body: RequestBody, field: str = "service_tier") -> None:
    """Raises InvalidRequest for a service tier that may cost more than the standard one."""
    tier = read_name(body, field)
    if tier is not None and tier.lower() not in STANDARD_TIERS:
        problem = f"{field!r} {tier!r} is not supported here: it may cost more than the standard price."
        raise InvalidRequest(problem, param=field)
