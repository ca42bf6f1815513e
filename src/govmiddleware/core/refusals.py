"""Refusals: every way in which the answer is no. A wire protocol gives each its shape.

Refusal
├── InvalidRequest 400           ├── ModelNotPriced 400       ├── ModelNotFound 404
├── Unauthenticated 401          ├── TooManyFailedLogins 429
├── Forbidden 403                ├── RouteNotMetered 403
├── BodyTooSlow 408              ├── BodyTooLarge 413      ├── UnsupportedEncoding 415
├── LimitNotFound 404            ├── LimitIsConfigured 409
├── OverrideNotFound 404         ├── SelfApproval 403
├── AlreadyDecided 409           ├── AlreadyApproved 409   ├── AlreadyRequested 409
├── TooManyRequested 429
├── LimitRefusal
│   ├── RateLimited 429          └── BudgetExhausted 429 (Anthropic: 402)
├── UpstreamFailed 502           ├── UpstreamTooSlow 504
└── Unavailable 503              store down, journal full, all connections to an upstream taken
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from govmiddleware.core.limits import Limit
from govmiddleware.errors import GovError


class Decision(StrEnum):
    """What a limit says of a call. What becomes of it is the limit's mode's to say."""

    ALLOW = "allow"
    WARN = "warn"  # past soft
    BLOCK = "block"


class Evaluation(msgspec.Struct, frozen=True):
    """What one limit said of one call. Amounts in the meter's unit.

    Attributes:
        value: the value of the limit's scope that the call counted under.
        consumed: settled before this call; `reserved`: held by open calls before it.
        projected: consumed + reserved + what this call takes; for a block, what it would take at least.
        frees_in_ms: for a block, after how long the amount fits at the latest if nothing else is
            admitted; None where time alone does not free it.
        raised: by how much overrides added to the limit's own room before this call.
        overrides: the ids of those.
    """

    limit: Limit
    value: str
    consumed: int
    reserved: int
    projected: int
    decision: Decision
    frees_in_ms: int | None = None
    raised: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def asked(self) -> int:
        return self.projected - self.consumed - self.reserved

    @property
    def can_never_fit(self) -> bool:
        """Whether the call is larger than the whole limit."""
        return self.asked > self.limit.hard + self.raised

    @property
    def room(self) -> int:
        """What the limit had room for before this call, with its overrides."""
        return max(0, self.limit.hard - self.consumed - self.reserved) + self.raised

    @property
    def left(self) -> int:
        """What it leaves for other calls, less than nothing where it has no room for this one."""
        taken = self.consumed + self.reserved
        return max(0, self.limit.hard - taken) + self.raised - (self.projected - taken)

    @property
    def percent(self) -> int:
        """How much of the hard value is projected."""
        return self.projected * 100 // self.limit.hard if self.limit.hard else 100


class Refusal(GovError):
    """The answer is no. `str()` of it is what the client reads.

    Attributes:
        status: HTTP status; a protocol may prefer another (Anthropic's 402).
        code: machine-readable, lower_snake_case, stable.
        param: the part of the request that is wrong, if there is one.
        retryable: whether the same call may succeed later; None leaves it to the status.
        retry_after_ms: when it is worth trying again.
    """

    status: ClassVar[int]
    code: str
    retryable: bool | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after_ms = retry_after_ms


class UnknownLink(Refusal):
    """On the control plane: a link that we did not make, or not as it is."""

    status = 404
    code = "unknown_link"


class ExpiredLink(Refusal):
    """On the control plane: a link that was ours, and is too old."""

    status = 410
    code = "link_expired"


class InvalidRequest(Refusal):
    status = 400
    code = "invalid_request"


class ModelNotPriced(Refusal):
    status = 400
    code = "model_not_priced"


class ModelNotFound(Refusal):
    """No upstream takes the model."""

    status = 404
    code = "model_not_found"


class LimitNotFound(Refusal):
    """On the control plane: there is no limit of that name."""

    status = 404
    code = "limit_not_found"


class LimitIsConfigured(Refusal):
    """On the control plane: the limit stands in the configuration file, which is read-only at run time."""

    status = 409
    code = "limit_is_configured"


class OverrideNotFound(Refusal):
    """There is no override of that id, or none that whoever asks may see."""

    status = 404
    code = "override_not_found"


class SelfApproval(Refusal):
    """Nobody approves what was asked by or for them."""

    status = 403
    code = "self_approval"


class AlreadyDecided(Refusal):
    """The override is not what it would have to be: somebody else, or time, was first."""

    status = 409
    code = "already_decided"


class AlreadyApproved(Refusal):
    """The second approval has to be another person's."""

    status = 409
    code = "already_approved"


class AlreadyRequested(Refusal):
    """Who asks has an undecided request for the same limit and value."""

    status = 409
    code = "already_requested"


class TooManyRequested(Refusal):
    """Who asks has so many undecided requests that nobody would read another one."""

    status = 429
    code = "too_many_requested"


class Unauthenticated(Refusal):
    status = 401
    code = "invalid_api_key"


class TooManyFailedLogins(Refusal):
    status = 429
    code = "too_many_failed_logins"


class Forbidden(Refusal):
    status = 403
    code = "forbidden"


class RouteNotMetered(Refusal):
    status = 403
    code = "route_not_metered"


class BodyTooSlow(Refusal):
    status = 408
    code = "request_timeout"


class BodyTooLarge(Refusal):
    status = 413
    code = "request_too_large"


class UnsupportedEncoding(Refusal):
    status = 415
    code = "unsupported_content_encoding"


class ClientClosed(Refusal):
    """The client left before its request was complete: nobody reads this answer, the journal does."""

    status = 499
    code = "client_closed_request"


class UpstreamFailed(Refusal):
    status = 502
    code = "upstream_unreachable"


class UpstreamTooSlow(Refusal):
    status = 504
    code = "upstream_timeout"


class Unavailable(Refusal):
    """The call cannot be governed or sent right now, so it does not pass. `code` says why:
    `store_unavailable`, `journal_unavailable`, `journal_full` or `upstream_busy`."""

    status = 503

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, retry_after_ms=1000)
        self.code = code


class LimitRefusal(Refusal):
    """Limits said no.

    Attributes:
        failures: every limit that failed, the one that answers first.
        link: a page that tells more of it and takes a request for an override; None where there is none.
    """

    def __init__(self, message: str, failures: tuple[Evaluation, ...], retry_after_ms: int | None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.failures = failures
        self.link: str | None = None


class RateLimited(LimitRefusal):
    status = 429
    code = "rate_limit_exceeded"

    @property
    def retryable(self) -> bool | None:  # type: ignore[override]
        """A request larger than its whole limit never fits: no use in trying again."""
        return False if any(failure.can_never_fit for failure in self.failures) else None


class BudgetExhausted(LimitRefusal):
    status = 429
    code = "insufficient_quota"
    retryable = False
