"""Batches: many requests in one call, which the provider answers later, at its price for batches.

What one may cost is reserved where its requests are in the call, and is charged as it stands: what was really used is in
results that are fetched in the days after, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.escapes import STANDARD_TIERS
from govmiddleware.protocols.readers import JsonReader


class Accepted(JsonReader):
    """Of an answer to a batch, which says that it was accepted alone: it is never whole."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        """There is no usage in it."""
        self.finished = False


def refuse_fields_but(body: RequestBody, name: str) -> None:
    """Raises InvalidRequest for a field beside the one that has the requests."""
    for other in body.names():
        if other != name:
            raise InvalidRequest(f"A batch has nothing but '{name}' here.", param=other)


def added_up(requests: Sequence[RequestInfo], param: str) -> RequestInfo:
    """All requests of a batch as one. Raises InvalidRequest where there is none, for several models, and for tiers of
    service of their own.

    Args:
        param: where the requests are.
    """
    if not requests:
        raise InvalidRequest("The batch has no requests.", param=param)
    models = {request.model for request in requests}
    if len(models) > 1:
        raise InvalidRequest(
            "A batch is reserved for one model here: send the requests for each in a batch of its own.",
            param=param,
        )
    tiers = {request.reach.service_tier for request in requests} - {None, *STANDARD_TIERS}
    if tiers:
        raise InvalidRequest("A request of a batch has no tier of service of its own.", param=param)
    limits = [request.output_tokens for request in requests]
    are_limited = None not in limits
    return RequestInfo(
        model=models.pop(),
        output_tokens=sum((request.output_tokens or 0) * request.choices for request in requests)
        if are_limited
        else None,
        choices=1 if are_limited else sum(request.choices for request in requests),
        overhead_tokens=sum(request.overhead_tokens for request in requests),
        texts=list(chain.from_iterable(request.texts for request in requests)),
        unknown_parts=sum(request.unknown_parts for request in requests),
        hides_output=True,
        can_be_limited=False,
        reach=Reach(
            media=any(request.reach.media for request in requests),
            cache_1h=any(request.reach.cache_1h for request in requests),
            service_tier="batch",
            is_served=True,
            beside_tokens=sum((request.reach.beside_tokens for request in requests), Usage()),
        ),
    )
