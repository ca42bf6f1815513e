"""What Gemini's routes have in common: the model in the address, Google's envelope for refusals, JSON answers.

`…/models/MODEL:METHOD`, in the Gemini API (`/v1beta/models/…`) and in Vertex AI
(`/v1/projects/…/locations/…/publishers/google/models/…`).
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import InvalidRequest, Refusal
from govmiddleware.protocols import gemini_errors
from govmiddleware.protocols.gemini_reader import JsonReader
from govmiddleware.protocols.models import read_model
from govmiddleware.protocols.route import Route

_PARAMETERS = frozenset({"alt", "key", "prettyPrint"})
"""Of the query. Others are the system parameters of Google's APIs, by which an answer comes without its usage
(`fields`), a request is another than the one that was judged (`$httpMethod`, `$req`), or somebody else pays
(`access_token`). Source: cloud.google.com/apis/docs/system-parameters."""


class GeminiRoute(Route):
    """Most of a WireProtocol, for those that add their name, what they recognise and how they are read."""

    methods: tuple[str, ...] = ()
    """Of the model, in lower case, that are this protocol's."""

    streams_json = True
    key_in_query = True

    def recognises(self, method: str, path: str) -> bool:
        resource, _, called = path.rpartition(":")
        return method == "POST" and called in self.methods and "/" in resource

    def read_address(self, body: RequestBody, path: str, query: bytes) -> str:
        """The model. Raises InvalidRequest for another one in the body, and for parameters of the query that may
        change what is asked or answered."""
        for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            if name not in _PARAMETERS:
                raise InvalidRequest(f"The parameter {name!r} is not supported here.", param=name)
        model = read_model(body, path)
        if "/models/" in model:
            raise InvalidRequest("The address names a model twice.", param="model")
        return model

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return gemini_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return gemini_errors.stream_error(refusal)
