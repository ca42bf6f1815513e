"""One governed request: its state, filled by each middleware on the way in and out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.demand import Bound, Demand
from govmiddleware.core.limits import Counter, Limit, Meter
from govmiddleware.core.refusals import Evaluation, LimitRefusal, Refusal
from govmiddleware.core.scopes import ANONYMOUS, TAG, Scope, counts_by_model
from govmiddleware.core.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from govmiddleware.core.charge import Charge
    from govmiddleware.core.ports import WireProtocol
    from govmiddleware.core.prices import ModelPrice

# Python 3.11 takes five times as long to find a member at its class as to find a name.
_WORKSPACE, _API_TOKEN, _USER, _SESSION, _AGENT, _MODEL, _PROVIDER, _DEPLOYMENT = Scope


class Role(StrEnum):
    """What an API token may do on the control plane. Model calls need no particular role."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        api_token: the token's public name, the value of scope `api_token`.
        stored_id: its id in the store, whose revocation every admission checks; None for static ones.
        user, agent, tags: pins, which beat what the request says.
    """

    workspace: str
    api_token: str
    role: Role = Role.OPERATOR
    stored_id: str | None = None
    user: str | None = None
    agent: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


class Attribution(msgspec.Struct, frozen=True):
    """On whose behalf: what limits on user, session and agent count over."""

    user: str = ANONYMOUS
    session: str = ANONYMOUS
    agent: str = ANONYMOUS
    tags: tuple[tuple[str, str], ...] = ()


class Settlement(StrEnum):
    """How sure the settled amounts are."""

    EXACT = "exact"  # the provider's own usage, or nothing was used
    ESTIMATED = "estimated"  # a complete answer that reported no usage
    ABORTED = "aborted"  # cut: the whole input, and the output delivered
    EXPIRED = "expired"  # the lease ran out: as reserved


class Reading(StrEnum):
    """What the metering of an answer came to."""

    UNREAD = "unread"  # nobody metered it, or it was not what its protocol says
    CUT = "cut"  # read as far as it came; at first, that is not at all
    WHOLE = "whole"  # read to its end


class AnswerEnd(StrEnum):
    """How an answer came to its end."""

    WHOLE = "whole"
    CLIENT_LEFT = "client_left"
    UPSTREAM_CUT = "upstream_cut"  # broken off, or a stream without the end that its protocol gives it
    LIMIT = "limit"


class Progress(StrEnum):
    """How far the call to the upstream came."""

    NOT_DISPATCHED = "not_dispatched"  # nothing left this process
    DISPATCHED = "dispatched"  # handed on; no answer yet
    UNREACHED = "unreached"  # nothing was sent: nothing can have been used
    ANSWERING = "answering"  # the answer has begun
    COMPLETE = "complete"  # the answer has ended as it should


class Reservation(msgspec.Struct, eq=False):
    """The hold of one request on its counters.

    Attributes:
        id: equal to the request's id.
        parts: by workspace, the counters that it holds or, where an answer was lost, may hold. Those of limits
            over the whole deployment are a part of their own, under `DEPLOYMENT_WORKSPACE`.
        open: False once the ledger has closed it.
        left: what the record says that is journaled if the lease runs out.
        limits: those whose holds were asked for so far.
        ahead: tokens of each choice by which the deployment's part has grown and the workspace's has not.
    """

    id: str
    workspace: str
    parts: dict[str, list[Counter]] = {}
    open: bool = True
    left: Bound | None = None
    ahead: int = 0
    limits: tuple[Limit, ...] = ()

    def counters(self) -> Iterator[Counter]:
        """Those of all parts."""
        return (counter for part in self.parts.values() for counter in part)


class Call(msgspec.Struct, eq=False):
    """The state of one governed request, at `scope["state"]["gov"]` and in `current_call`."""

    request_id: str
    protocol: WireProtocol
    method: str
    path: str
    model_call: bool
    """Whether a protocol recognised the route; else it is passed on, governed by requests alone."""
    governed: bool = True
    """False where Authenticate's `paths` leave the request out: the middlewares inside let it pass."""
    started: float = msgspec.field(default_factory=time.monotonic)
    parent: Call | None = None
    """The request of a host app that this call is made for, where it leaves from inside the app."""
    has_inner_calls: bool = False
    """Whether calls were made for this one: they are charged, and this one for no model any more."""
    answer_headers: list[tuple[bytes, bytes]] = []
    """Our headers on the answer; the outermost middleware puts them there."""
    client_request_id: str | None = None
    """What the client calls the request, by its `x-request-id`. Ours alone names anything here."""
    traceparent: str | None = None
    """Where it stands in a trace (W3C Trace Context): as its client says, or its own span."""
    first_byte: float | None = None
    """When the first of the answer's body went to the client, by `time.monotonic`."""

    # Authenticate
    principal: Principal | None = None
    trust_caller: bool = True
    attribution: Attribution = Attribution()

    # Estimate
    body: RequestBody | None = None
    model: str | None = None
    provider: str | None = None
    trusts_cost: bool = False
    """Whether the provider is believed what it says of its answers' cost."""
    stream: bool = False
    """Whether a stream was asked for; Meter corrects it to what is answered."""
    runs_on: bool = False
    """Whether the provider goes on generating when the client is gone."""
    price: ModelPrice | None = None
    """Of the model that was asked for: what its bound is reserved at."""
    find_price: Callable[[str], ModelPrice | None] = lambda model: None
    """Of other models, at the same provider and time."""
    service_tier: str | None = None
    """The tier of service that was asked for; Meter corrects it to what the answer names."""
    estimated_input_tokens: int | None = None
    shows_its_size: bool = False
    """Whether its estimate covers all of its prompt, so that its true input says how good estimates are."""
    demand: Demand | None = None
    expected: Usage = NO_USAGE
    """What it is settled at where the answer does not say, beside its input as estimated."""

    # RateLimit and Budget
    is_deferred: bool = False
    """Whether the opening of the reservation was put off, so that no refusal may be answered yet."""
    reservation: Reservation | None = None
    evaluations: list[Evaluation] = []
    granted_output: int | None = None
    """Tokens of each choice that the limits leave it, where they do not leave it all that it demands."""
    reserved_output: int | None = None
    """Tokens of each choice that are reserved so far, where that is not all that it may generate."""
    would_refuse: LimitRefusal | None = None
    """What limits in dry_run would have answered."""
    shadow_output: int | None = None
    """Tokens of each choice that limits in dry_run would have left it, where that is not all."""
    grow: Callable[[int], Awaitable[bool]] | None = None
    """Of a stream that is reserved in slices: sees to it that so many output tokens are reserved, all choices
    together; False where the limits have no room for them."""

    client_left: Callable[[], Awaitable[None]] | None = None
    """Returns when the client closes its connection, where somebody can tell."""

    conclude: Callable[[], Awaitable[None]] | None = None
    """Settles the reservation; whoever sees the whole answer first awaits it, before the client has it."""

    # Budget and the forwarder
    progress: Progress = Progress.NOT_DISPATCHED
    status: int | None = None
    upstream_request_id: str | None = None
    """What the upstream calls the request, as its answer's headers say."""
    upstream_failure: str | None = None
    """A refusal's code: why there was no answer, or why it broke off."""

    # Meter
    reading: Reading = Reading.UNREAD
    answer_end: AnswerEnd | None = None
    """Of an answer that has begun."""
    model_served: str | None = None
    deployment_is_named: bool = False
    """Whether it is a gateway behind us that says which model served, and not the model's own name for itself."""
    usage: Usage | None = None
    told_cost: int | None = None
    """nano-USD: what the answer says that it cost, where that is believed."""
    delivered_output_tokens: int = 0
    """Counted from what was delivered, where the answer did not report its usage."""

    charge: Charge | None = None
    """What it was settled at, once it was."""

    refusal: Refusal | None = None
    was_cut: bool = False
    """Whether a limit ended its stream."""
    without_room: tuple[Evaluation, ...] = ()
    """What the limits said that last had no room for more of its stream."""

    @property
    def trace_id(self) -> str | None:
        """Of the trace that it is part of, 32 hex digits."""
        return self.traceparent[3:35] if self.traceparent else None

    @property
    def bound(self) -> Bound | None:
        """What it may use at most."""
        demand, output = self.demand, self.granted_output
        if demand is None:
            return None
        return demand.whole if output is None else demand.bound(output)

    @property
    def reserved(self) -> Bound | None:
        """What is reserved of that."""
        demand, output = self.demand, self.reserved_output
        if demand is None:
            return None
        if output is None:
            output = self.granted_output
        return demand.whole if output is None else demand.bound(output)

    @property
    def settled_price(self) -> ModelPrice | None:
        """At what its use is settled: as the model that the answer names, which is what the provider bills. A price
        that an operator has set stands, but where it only stands in for the deployment that LiteLLM names."""
        if self.price is None or self.model_served is None:
            return self.price
        if self.price.is_configured and not (self.price.is_stand_in and self.deployment_is_named):
            return self.price
        return self.find_price(self.model_served) or self.price

    def subject(self) -> dict[str, str]:
        """The value of each scope that the call has so far, for matching limits. Needs the principal."""
        principal, attribution = self.require_principal(), self.attribution
        subject: dict[str, str] = {
            _DEPLOYMENT: _DEPLOYMENT,
            _WORKSPACE: principal.workspace,
            _API_TOKEN: principal.api_token,
            _USER: attribution.user,
            _SESSION: attribution.session,
            _AGENT: attribution.agent,
        }
        for name, value in attribution.tags:
            subject[TAG + name] = value
        if self.model is not None:
            subject[_MODEL] = self.model
        if self.provider is not None:
            subject[_PROVIDER] = self.provider
        return subject

    def counted_by_parent(self) -> Iterable[Counter]:
        """The counters in which the parent counts for this call too: its requests, and its slots while it
        runs. Per model and provider, each call counts for itself."""
        reservation = self.parent.reservation if self.parent else None
        if reservation is None:
            return ()
        meters = {Meter.REQUESTS, Meter.CONCURRENCY} if reservation.open else {Meter.REQUESTS}
        return (
            counter
            for counter in reservation.counters()
            if counter.meter in meters and not counts_by_model(counter.scope)
        )

    def require_principal(self) -> Principal:
        """The principal; a caller that may run before it is known checks for None instead."""
        assert self.principal is not None, "the principal is set before anything that counts"
        return self.principal


current_call: ContextVar[Call | None] = ContextVar("govmiddleware_call", default=None)
"""The governed request that the running code belongs to, for code inside a host app."""
