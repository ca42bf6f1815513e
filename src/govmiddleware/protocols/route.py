"""What most routes have in common, whoever's they are."""

from __future__ import annotations

from collections.abc import Sequence

from govmiddleware.core.body import RequestBody


class Route:
    """The part of a WireProtocol that a route has which generates nothing and whose answers always tell their usage;
    each maker's base adds its envelope and readers."""

    streams_json = False
    takes_forms = False
    is_batch = False
    key_in_query = False
    history: str | None = None
    preamble: Sequence[str] = ()

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """There is no output to bound."""

    def request_usage(self, body: RequestBody) -> bool:
        return False
