"""What Bedrock's routes have in common: the model in the address, AWS's errors, events in frames.

POST …/model/MODEL/OPERATION. Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html.
"""

from __future__ import annotations

from collections.abc import Iterable

from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import InvalidRequest, Refusal
from govmiddleware.protocols import bedrock_errors
from govmiddleware.protocols.readers import NothingUsed
from govmiddleware.protocols.route import Route


class BedrockRoute(Route):
    """Most of a WireProtocol, for those that add their name, what they recognise and how they are read."""

    operations: tuple[str, ...] = ()
    """Of a model, that are this protocol's."""

    def recognises(self, method: str, path: str) -> bool:
        resource, _, operation = path.rpartition("/")
        return method == "POST" and operation in self.operations and "/model/" in resource

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return NothingUsed()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return bedrock_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return bedrock_errors.stream_error(refusal)


def refuse_look_alikes(names: Iterable[str], judged: Iterable[str]) -> None:
    """Refuse names that differ from a judged one by letter case alone, by which another parser may read them. Raises
    InvalidRequest."""
    meant = {field.casefold(): field for field in judged}
    for name in names:
        field = meant.get(name.casefold(), name)
        if field != name:
            raise InvalidRequest(f"Write {field!r} for {name!r}.", param=name)
