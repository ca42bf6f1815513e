"""Which model a request asks for, wherever it says so, and what it may not say.

A request that is priced as one model and served by another would pass every budget, so each place in
which an upstream may read a model is either judged or refused.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import trimmed
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import bounded_name, read_name, refuse_fields
from govmiddleware.protocols.litellm import REPEATS

OTHER_MODELS = (
    "models",  # OpenRouter: served by any of the list (a recording asks for a free model, gets grok-4)
    "fallbacks",  # LiteLLM's three, and the object that can hold them
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "router_settings_override",
    "extra_body",  # LiteLLM merges it into what it sends, `model` included
    "extra_headers",  # and into its headers, by which a provider may take another model, or a dear mode
    "headers",
    "user_config",  # LiteLLM: a whole router, with models of its own
    "model_list",
    "context_window_fallback_dict",
    "custom_llm_provider",
    "deployment_id",
    "prompt_id",  # a stored prompt can name its own model
    "preset",  # OpenRouter's
    "api_base",
    "base_url",
    "api_key",
)
"""Fields of the body by which an upstream may serve another model than `model`. Refused."""

_REFUSED = frozenset((*OTHER_MODELS, *REPEATS))

_BEFORE_A_MODEL = re.compile("/(?:engines|deployments)/", re.IGNORECASE)
"""What stands before the model in Azure's path, and in two of LiteLLM's, where it beats the one in the body."""

_GOOGLES_MODEL = re.compile(r"/(?:models/|(?=(?:tunedModels|endpoints)/))(.+):[a-z]+\Z", re.IGNORECASE)
"""The path of a method of a model of Google's. What was tuned or deployed keeps its collection in its name, so that
it is not taken for a model of that name. A body names the same model as `models/NAME`, or longer."""

_BEHIND_A_MODEL = re.compile(
    r"(?:(?:/chat)?/completions|/responses|/embeddings|/moderations|/images/[a-z]+|/audio/[a-z]+)\Z",
    re.IGNORECASE,
)


def read_model(body: RequestBody, path: str = "", query: bytes = b"", default: str | None = None) -> str:
    """The one model that the request names. Raises InvalidRequest where it names none, or several.

    Args:
        path: decoded, for `/deployments/MODEL/…`.
        query: raw, for `?model=`, which LiteLLM prefers to the body.
        default: what serves a request that names none.
    """
    if not body.names().isdisjoint(_REFUSED):
        refuse_fields(body, OTHER_MODELS, "it may change the model. Name one model in 'model'.")
        refuse_fields(body, REPEATS, "the call may be made and paid for more than once.")
    model = read_name(body, "model")
    if query or ":" in path or _BEFORE_A_MODEL.search(path):
        model = _with_address(model, path, query)
    if model is None and default is not None:
        return default
    if model is None:
        raise InvalidRequest("'model' is missing.", param="model")
    if "," in model or model.split() != [model]:
        raise InvalidRequest("Name one model: LiteLLM would call each of several.", param="model")
    return model


def _with_address(model: str | None, path: str, query: bytes) -> str | None:
    """The model of a body and of its address. Raises InvalidRequest where they name different ones."""
    google = _GOOGLES_MODEL.search(trimmed(path)) if ":" in path else None
    if google and model:
        model = model.rpartition("models/")[2]
    queried = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "model"]
    for name in (google[1] if google else _model_in_path(path), *queried):
        if bounded_name(name, "model") not in (None, model):
            if model is not None:
                problem = "The request names different models in its body and its address."
                raise InvalidRequest(problem, param="model")
            model = name
    return model


def _model_in_path(path: str) -> str | None:
    before = _BEFORE_A_MODEL.search(path)
    return _BEHIND_A_MODEL.sub("", trimmed(path[before.end() :])).rstrip("/") if before else None
