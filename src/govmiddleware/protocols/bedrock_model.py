"""Which model an address of Bedrock's names: `…/model/MODEL/converse`."""

from __future__ import annotations

import re

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import trimmed
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.fields import bounded_name, refuse_fields
from govmiddleware.protocols.models import OTHER_MODELS

_ADDRESS = re.compile(r"/model/(.+)/[a-z-]+\Z", re.IGNORECASE)
_NAMED_IN_ARN = re.compile(r"arn:[^/]*:(?:foundation-model|inference-profile)/(.+)")
"""ARNs that end in the name of a model, or of a profile that AWS has for one; others are names of their own."""
_PROMPT = re.compile(r"arn:[^/]*:prompt/")


def model_of(model_id: str) -> str:
    """The name under which a model is priced and limited, however its id is written."""
    named = _NAMED_IN_ARN.fullmatch(model_id)
    return named[1] if named else model_id


def read_address(body: RequestBody, path: str, query: bytes) -> str:
    """The one model that the request names, in its path.

    Raises InvalidRequest for another one in the body, for a stored prompt, which has a model of its own, and for
    parameters of the query, of which Bedrock's calls have none.
    """
    refuse_fields(body, ("model", "modelId", *OTHER_MODELS), "the address names the model.")
    if query:
        raise InvalidRequest("A call of a model in Bedrock has no parameters in its address.")
    found = _ADDRESS.search(trimmed(path))
    model_id = bounded_name(found[1] if found else None, "modelId")
    if model_id is None:
        raise InvalidRequest("The address names no model.", param="modelId")
    if _PROMPT.match(model_id):
        raise InvalidRequest(
            "A stored prompt is not supported here: it may change the model.", param="modelId"
        )
    if "," in model_id or any(character.isspace() for character in model_id):
        raise InvalidRequest("Name one model.", param="modelId")
    return model_of(model_id)
