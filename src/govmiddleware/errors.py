"""The error tree.

    GovError
    ├── ConfigurationError      a setting is wrong; names the key, the value and what would be right
    ├── MissingPredecessor      a middleware stands in a stack without the one it builds on
    ├── NoCaller                a call leaves from inside an app, and nobody says on whose behalf
    ├── WrongEventLoop          a Governance is open on another event loop, or would block its own
    ├── StoreUnavailable        Redis did not answer, or answered with an error
    │   └── StoreLost           it answers, and has lost what it counted, or nobody can tell
    ├── HistoryUnavailable      the journal's SQL database did not answer, or answered with an error
    ├── CannotRestore           counters cannot be restored from the journal now
    ├── BudgetExhaustedError    a budget of code that is not HTTP has no room for what is planned
    ├── UpstreamError
    │   ├── UpstreamUnreachable no connection, or it broke before the answer's end
    │   ├── UpstreamTimeout     no answer, or none of its bytes, in time
    │   └── UpstreamBusy        all connections that it may have are in use
    └── Refusal                 (core/refusals.py) the answer is no, with a status

Foreign exceptions (redis, aiohttp, httpx, OS) are mapped to these at the border of the room that
knows them, and nowhere else.
"""

from __future__ import annotations

from decimal import Decimal


class GovError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigurationError(GovError):
    """A setting cannot be used.

    Args:
        key: dotted name as the user wrote it, such as `limits[0].rate`.
        value: the offending value, shown with `repr`.
        expected: what would be right, in one phrase.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"{key} = {value!r}: expected {expected}")
        self.key = key
        self.value = value
        self.expected = expected


class MissingPredecessor(GovError):
    """A middleware needs another one outside it; the message names both."""

    def __init__(self, middleware: str, needs: str) -> None:
        super().__init__(f"{middleware} needs {needs} outside it in the stack")


class NoCaller(GovError):
    """A call leaves from inside an app where no governed request runs, and no principal was given."""


class WrongEventLoop(GovError):
    """A Governance is open on another event loop, or on one that has ended or would be blocked."""


class StoreUnavailable(GovError):
    """The store did not answer in time or not at all. What was sent may have been carried out."""


class StoreLost(StoreUnavailable):
    """The store has lost what it counted for a workspace, or nobody can tell whether it has. Nothing was done."""


class HistoryUnavailable(GovError):
    """The SQL database of the journal did not answer in time or not at all. What was sent may have been carried
    out."""


class CannotRestore(GovError):
    """The counters of a workspace cannot be restored from the journal now; the message says why."""


class BudgetExhaustedError(GovError):
    """A budget has no room for what is planned.

    Attributes:
        session_id: the session, or the user, or the budget where it is the cap over all.
        used, maximum: tokens or seconds, or USD where `reason` is a cost.
        reason: the name of the cap, as `max_tokens` or `per_user_max_cost_usd`.
    """

    def __init__(
        self, session_id: str, used: int | Decimal, maximum: int | Decimal, *, reason: str = "max_tokens"
    ) -> None:
        super().__init__(session_id, used, maximum)
        self.session_id = session_id
        self.used = used
        self.maximum = maximum
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.session_id!r} has used {self.used} of {self.maximum} ({self.reason}): there is no room left"


class UpstreamError(GovError):
    """The upstream could not be used. `str()` of it is safe to show a client: no address in it."""


class UpstreamUnreachable(UpstreamError):
    """No connection could be made, or it broke before the answer's end.

    Attributes:
        sent: whether any of the request may have reached the upstream. Only where it is False is the
            call certain to have cost nothing.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamTimeout(UpstreamError):
    """The upstream took longer than `first_byte_timeout` or `idle_timeout`. It may still be working."""


class UpstreamBusy(UpstreamError):
    """All connections that the upstream may have were in use for as long as the call could wait. Nothing was
    sent."""
