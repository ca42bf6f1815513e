"""One governed request: its state, filled by each middleware on the way in and out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from govmiddleware.core.body import RequestBody
from govmiddleware.core.limits import Hold
from govmiddleware.core.refusals import Evaluation, Refusal
from govmiddleware.core.scopes import ANONYMOUS, TAG, Scope
from govmiddleware.core.usage import Usage

if TYPE_CHECKING:
    from govmiddleware.core.ports import WireProtocol
    from govmiddleware.core.prices import ModelPrice


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


@dataclass(frozen=True, slots=True)
class Attribution:
    """On whose behalf: what limits on user, session and agent count over."""

    user: str = ANONYMOUS
    session: str = ANONYMOUS
    agent: str = ANONYMOUS
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a call may use at most: the amounts that are reserved. Cost in nano-USD."""

    input_tokens: int
    output_tokens: int
    cost: int


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


class Progress(StrEnum):
    """How far the call to the upstream came."""

    NOT_DISPATCHED = "not_dispatched"  # nothing left this process
    DISPATCHED = "dispatched"  # handed on; no answer yet
    UNREACHED = "unreached"  # nothing was sent: nothing can have been used
    ANSWERING = "answering"  # the answer has begun
    COMPLETE = "complete"  # the answer has ended as it should


@dataclass(slots=True)
class Reservation:
    """The hold of one request on its counters.

    Attributes:
        id: equal to the request's id.
        holds: all that it holds or, where an answer was lost, may hold.
        open: False once the ledger has closed it.
    """

    id: str
    workspace: str
    holds: list[Hold] = field(default_factory=list)
    open: bool = True


@dataclass(slots=True)
class Call:
    """The state of one governed request, at `scope["state"]["gov"]` and in `current_call`."""

    request_id: str
    protocol: WireProtocol
    method: str
    path: str
    model_call: bool
    """Whether a protocol recognised the route; else it is passed on, governed by requests alone."""
    governed: bool = True
    """False where Authenticate's `paths` leave the request out: the middlewares inside let it pass."""
    started: float = field(default_factory=time.monotonic)
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Our headers on the answer; the outermost middleware puts them there."""

    # Authenticate
    principal: Principal | None = None
    trust_caller: bool = True
    attribution: Attribution = field(default_factory=Attribution)

    # Estimate
    body: RequestBody | None = None
    model: str | None = None
    provider: str | None = None
    stream: bool = False
    """Whether a stream was asked for; Meter corrects it to what is answered."""
    price: ModelPrice | None = None
    estimated_input_tokens: int | None = None
    bound: Bound | None = None

    # RateLimit and Budget
    reservation: Reservation | None = None
    evaluations: list[Evaluation] = field(default_factory=list)

    conclude: Callable[[], Awaitable[None]] | None = None
    """Settles the reservation; whoever sees the whole answer first awaits it, before the client has it."""

    # Budget and the forwarder
    progress: Progress = Progress.NOT_DISPATCHED
    status: int | None = None

    # Meter
    reading: Reading = Reading.UNREAD
    model_served: str | None = None
    usage: Usage | None = None
    delivered_output_tokens: int = 0
    """Counted from what was delivered, where the answer did not report its usage."""

    refusal: Refusal | None = None

    def subject(self) -> dict[str, str]:
        """The value of each scope that the call has so far, for matching limits. Needs the principal."""
        principal = self.require_principal()
        subject: dict[str, str] = {
            Scope.DEPLOYMENT: Scope.DEPLOYMENT,
            Scope.WORKSPACE: principal.workspace,
            Scope.API_TOKEN: principal.api_token,
            Scope.USER: self.attribution.user,
            Scope.SESSION: self.attribution.session,
            Scope.AGENT: self.attribution.agent,
        }
        subject.update((TAG + name, value) for name, value in self.attribution.tags)
        if self.model is not None:
            subject[Scope.MODEL] = self.model
        if self.provider is not None:
            subject[Scope.PROVIDER] = self.provider
        return subject

    def require_principal(self) -> Principal:
        """The principal; a caller that may run before it is known checks for None instead."""
        assert self.principal is not None, "the principal is set before anything that counts"
        return self.principal


current_call: ContextVar[Call | None] = ContextVar("govmiddleware_call", default=None)
"""The governed request that the running code belongs to, for code inside a host app."""
