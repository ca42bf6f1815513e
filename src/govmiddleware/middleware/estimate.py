"""Estimate: reads the body once, speaks the protocol, chooses the provider, counts and prices the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.attribution import refuse_unprintable
from govmiddleware.core.body import RequestBody
from govmiddleware.core.call import Call
from govmiddleware.core.demand import NOTHING, Demand
from govmiddleware.core.estimate import family_of, input_bound, input_estimate, without_tokens
from govmiddleware.core.model_price import nano_from_femto
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.prices import ModelPrice, PriceBook
from govmiddleware.core.providers import Provider, provider_for
from govmiddleware.core.refusals import ModelNotFound, ModelNotPriced, Refusal, RouteNotMetered
from govmiddleware.core.scopes import ANONYMOUS
from govmiddleware.middleware._body import (
    body_chunks,
    read_body,
    refuse_encoding,
    replay,
    with_body_headers,
)
from govmiddleware.middleware._client import watch_client
from govmiddleware.middleware._enter import enter
from govmiddleware.middleware._form import is_form, read_form
from govmiddleware.middleware._refuse import refuse
from govmiddleware.protocols.escapes import refuse_dear_tier
from govmiddleware.services.counting import TokenCounter
from govmiddleware.services.turns import compute

_INLINE_BYTES = 16_384
"""Up to here a body is read in a millisecond, and in a few where it is made to take long; larger ones in a thread."""

_LOOKED_UP_BYTES = 262_144
"""Up to here that much of a body may be left to be read: it takes a millisecond to look up which parts are known."""


class Estimate:
    """Fills the Call's model, provider, price, estimate and bound; other routes pass with their body unread,
    to the first provider.

    Args:
        providers: who serves which models, the first match (see `core.providers`). A model that none of
            them takes is answered with 404.
        max_body_bytes, body_timeout: 413 and 408 past them; after decoding too.
        default_max_output_tokens: written into a request whose output nothing else bounds.
        unknown_size_tokens: for each part whose size the request does not show.
        batches: whether calls are refused that submit requests to be answered later, or reserved where it shows what
            they may cost.
        input_bound: what to reserve for a prompt, by its estimate; without it, as shipped.
        counter: counts the prompts.
        clock: tells the time for which prices are asked.
        metered: whether a Meter stands inside, which has the headers fit the body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        prices: PriceBook,
        providers: Sequence[Provider] = (Provider(),),
        max_body_bytes: int = 33_554_432,
        body_timeout: float = 30,
        default_max_output_tokens: int = 4096,
        unknown_size_tokens: int = 2000,
        batches: Literal["refuse", "reserve"] = "refuse",
        input_bound: Callable[[Call, RequestInfo, int], int] | None = None,
        counter: TokenCounter | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        metered: bool = False,
    ) -> None:
        self.app = app
        self.prices = prices
        self.providers = tuple(providers)
        self.max_body_bytes = max_body_bytes
        self.body_timeout = body_timeout
        self.default_max_output_tokens = default_max_output_tokens
        self.unknown_size_tokens = unknown_size_tokens
        self.batches = batches
        self._input_bound = input_bound or _shipped_bound
        self.counter = counter or TokenCounter()
        self._now = clock
        self.metered = metered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        receive = watch_client(call, receive)
        try:
            if call.protocol.is_batch and self.batches == "refuse":
                raise RouteNotMetered(
                    'Batches are refused here. batches = "reserve" admits those whose requests are in the call.'
                )
            if call.model_call:
                body, info = await self._read(call, scope, receive)
                await self.estimate(call, body, info)
                receive = replay(body, receive)
                if not self.metered:
                    scope = with_body_headers(scope, body)
            else:
                call.provider = self._provider_for(None).name
        except Refusal as refusal:
            await refuse(call, refusal, scope, send)
        else:
            await self.app(scope, receive, send)
        finally:
            if call.body is not None:
                call.body.close()

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> tuple[RequestBody, RequestInfo]:
        path, query = scope["path"], scope.get("query_string", b"")
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"")
        if call.protocol.takes_forms and is_form(content_type):
            refuse_encoding(headers)
            chunks = body_chunks(
                headers, receive, max_bytes=self.max_body_bytes, timeout_seconds=self.body_timeout
            )
            call.body = form = await read_form(content_type, chunks)
            return form, call.protocol.read_request(form, path=path, query=query)
        raw = await read_body(
            headers, receive, max_bytes=self.max_body_bytes, timeout_seconds=self.body_timeout
        )
        if len(raw) > _LOOKED_UP_BYTES:
            body, unknown = await compute(partial(self._looked_up, call, raw, path, query))
        elif len(raw) > _INLINE_BYTES:
            body, unknown = self._looked_up(call, raw, path, query)
        else:
            body, unknown = RequestBody(raw), len(raw)
        read = partial(call.protocol.read_request, body, path=path, query=query)
        return body, read() if unknown <= _INLINE_BYTES else await compute(read)

    def _looked_up(self, call: Call, raw: bytes, path: str, query: bytes) -> tuple[RequestBody, int]:
        """The body, with the parts of it that are known, and how many bytes of it are left to be read."""
        body, workspace = RequestBody(raw), _workspace_of(call)
        unknown = self.counter.look_up(body, call.protocol, path=path, query=query, workspace=workspace)
        return body, unknown

    async def estimate(self, call: Call, body: RequestBody, info: RequestInfo) -> None:
        """Fill the Call from what a request says. Raises ModelNotFound, ModelNotPriced, InvalidRequest."""
        refuse_unprintable(info.model, "model")
        call.body, call.model, call.stream, call.runs_on = body, info.model, info.stream, info.runs_on
        provider = self._provider_for(info.model)
        call.provider, call.trusts_cost = provider.name, provider.trust_cost_header
        if info.user:
            refuse_unprintable(info.user, "user")
            if call.trust_caller and call.attribution.user == ANONYMOUS:
                call.attribution = replace(call.attribution, user=info.user)
        if info.free:
            call.estimated_input_tokens, call.demand = 0, NOTHING
            return
        find_price = partial(self.prices.find, at=self._now(), url=provider.url)
        price = find_price(info.model)
        if price is None or not (price.counts_tokens or price.charges(info.reach.beside_tokens)):
            raise ModelNotPriced(f"The model {info.model!r} has no price here.", param="model")
        if not price.counts_tokens:
            info = without_tokens(info)
        call.expected = info.expected
        refuse_dear_tier(info.reach.service_tier, price.service_tiers)
        call.price, call.find_price, call.service_tier = price, find_price, info.reach.service_tier
        workspace = _workspace_of(call)
        counted = await self.counter.count_prompt(info, workspace=workspace)
        estimate = input_estimate(info, counted, self.unknown_size_tokens)
        call.estimated_input_tokens = estimate
        input_tokens = self._input_bound(call, info, estimate)
        # Of a predicted output, what is rejected is billed as output beside what is generated.
        predicted = 0
        if info.predicted_texts:
            predicted = await self.counter.count(info.predicted_texts, info.model, workspace=workspace)
        hides_output = (
            family_of(info.model).hides_reasoning if info.hides_output is None else info.hides_output
        )
        input_femto, output_femto = price.worst_rates(input_tokens, info.reach)
        call.demand = Demand(
            input_tokens=input_tokens,
            output=self._output_bound(call, body, info, price),
            choices=info.choices,
            predicted_tokens=predicted,
            fixed_cost=nano_from_femto(input_femto + predicted * output_femto),
            output_femto=output_femto,
            can_be_limited=info.can_be_limited,
            grows=info.stream and not hides_output,
        )

    def _provider_for(self, model: str | None) -> Provider:
        provider = provider_for(model, self.providers)
        if provider is None:
            problem = f"The model {model!r} does not exist here: no upstream takes it."
            raise ModelNotFound(problem, param="model")
        return provider

    def _output_bound(self, call: Call, body: RequestBody, info: RequestInfo, price: ModelPrice) -> int:
        """Of each choice: what the client asked for, else the model's maximum, else our default, which then
        must bind."""
        if not info.generates:
            return 0
        if info.output_tokens is not None:
            return info.output_tokens
        limit = price.max_output_tokens or self.default_max_output_tokens
        if price.max_output_tokens is None or info.needs_limit:
            call.protocol.bound_output(body, limit)
        return limit


def _workspace_of(call: Call) -> str:
    return call.principal.workspace if call.principal else ""


def _shipped_bound(call: Call, info: RequestInfo, estimate: int) -> int:
    return input_bound(estimate, info.model)
