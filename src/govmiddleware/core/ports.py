"""Ports: what services and middlewares ask of the rooms that do I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum, StrEnum
from typing import Protocol

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.limits import Counter, Hold
from govmiddleware.core.parts import NewPart
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.usage import ANYTHING, NO_USAGE, Reach, Usage

Headers = list[tuple[bytes, bytes]]
"""Lower-case names, in order, duplicates kept: as in ASGI."""


# The upstream ------------------------------------------------------------------------------------


class UpstreamResponse(Protocol):
    """An answer whose head has arrived."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers:
        """As received: names lower-cased, encoded bodies left encoded, hop-by-hop still in."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, still encoded, without waiting to fill a buffer.

        Raises UpstreamTimeout after `idle_timeout` without a byte, UpstreamUnreachable where the
        connection breaks before the body's end.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether the chunk just taken is known to be the last. Where it is not known, none may follow all the same."""
        ...


class UpstreamClient(Protocol):
    """A pooled HTTP client that streams in both directions and cancels at once."""

    def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        leaves: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Send one request. `url` is absolute and sent as given, its path not normalised.

        Leaving the context, or cancelling it, ends the call upstream at once unless its body was read
        to the end. Redirects are not followed; no header is added but `host` and the body's framing.
        Raises UpstreamUnreachable and UpstreamTimeout.

        Args:
            body: bytes, or an iterator where more is to come than is here.
            leaves: called once, when there is a connection and the body begins to leave; never without a body.
        """
        ...

    async def close(self) -> None: ...


# Wire protocols ----------------------------------------------------------------------------------


class RequestInfo(msgspec.Struct, frozen=True):
    """What a protocol reads out of a request body.

    Attributes:
        output_tokens: the output limit that the client asked for, one choice; None if it gave none.
        choices: how many answers are generated (`n`).
        generates: False for embeddings and their like, which have no output.
        needs_limit: whether nothing but a limit in the request ends what is generated, so that one is written
            whatever is known of the model.
        free: the provider charges nothing, whatever the model: no tokens are counted and no price is asked.
        overhead_tokens: what the format adds around the texts.
        texts: what has to be counted by the tokenizer.
        known_tokens, known_bytes: of texts that were counted before, which are not among these.
        new_parts: to be remembered, once their texts are counted.
        unknown_parts: parts whose size the request does not show (image URLs, file ids).
        user: the end user that the protocol's own fields name.
        predicted_texts: what may be billed as output beyond the output limit (rejected predictions).
        hides_output: whether the client asks for output that is billed and not shown, or for none such; None
            leaves it to the model.
        can_be_limited: whether the provider takes an output limit at all; else the call is made as a whole or not.
        runs_on: whether the provider goes on generating, and bills it, when the client is gone.
        reach: what it may be billed for beside text; without it, the dearest that its tokens can be is reserved.
        expected: what it is settled at where the answer does not say, beside its input as estimated.
    """

    model: str
    stream: bool = False
    output_tokens: int | None = None
    choices: int = 1
    generates: bool = True
    needs_limit: bool = False
    free: bool = False
    overhead_tokens: int = 0
    input_tokens: int = 0
    texts: Sequence[str] = ()
    known_tokens: int = 0
    known_bytes: int = 0
    new_parts: Sequence[NewPart] = ()
    unknown_parts: int = 0
    user: str | None = None
    predicted_texts: Sequence[str] = ()
    hides_output: bool | None = None
    can_be_limited: bool = True
    runs_on: bool = False
    reach: Reach = ANYTHING
    expected: Usage = NO_USAGE


class UsageReader(Protocol):
    """Taps one answer: told of each chunk, it finds the usage and counts what was delivered."""

    usage: Usage | None
    model: str | None
    """The model that the answer names."""
    service_tier: str | None
    """The tier of service that the answer names."""

    def feed(self, chunk: bytes) -> bytes:
        """Read one chunk of the decoded body; returns what the client shall get of it, which is the
        chunk itself unless something that we provoked has to be taken out."""
        ...

    def close(self) -> bytes:
        """The body has ended, as it should or not: what was held back, for the client."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the answer says of itself that it is whole."""
        ...

    def take_delivered(self) -> list[str]:
        """The texts that were delivered since the last call, to be counted where usage is missing.
        They are handed over and forgotten, so that memory does not grow with the stream."""
        ...

    def cut(self, usage: Usage, *, model: str, request_id: str) -> bytes:
        """The bytes that end a stream here in the protocol's own way, as if the model had reached its
        output limit; what `feed` held back is dropped, and nothing may follow. Only for a reader made
        with `may_be_cut`; nothing for an answer that is not a stream or has ended.

        Args:
            usage: what the end says was used, where it says so.
            model, request_id: stand in for what an answer that has not begun has not said.
        """
        ...


class RefusalResponse(msgspec.Struct, frozen=True):
    """A refusal in a protocol's own envelope."""

    status: int
    headers: Headers
    body: bytes


class WireProtocol(Protocol):
    """One wire protocol. Pure: no I/O, no state between calls."""

    @property
    def name(self) -> str:
        """As in the journal: `openai.chat`."""
        ...

    @property
    def streams_json(self) -> bool:
        """Whether a stream that was asked for may come as `application/json`; elsewhere that is an answer as a
        whole."""
        ...

    @property
    def takes_forms(self) -> bool:
        """Whether requests may be forms with files in them (RFC 7578)."""
        ...

    @property
    def is_batch(self) -> bool:
        """Whether a call submits requests that are answered later."""
        ...

    @property
    def history(self) -> str | None:
        """The field with the conversation, whose elements come again with every turn."""
        ...

    @property
    def preamble(self) -> Sequence[str]:
        """The fields that come again as they are: definitions of tools, and what stands before the conversation."""
        ...

    @property
    def key_in_query(self) -> bool:
        """Whether clients may send their credential as `?key=`."""
        ...

    def recognises(self, method: str, path: str) -> bool:
        """By method and path suffix, whatever the prefix. Both `folded`: POST, and a path in lower case
        without a slash at its end."""
        ...

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        """Raises InvalidRequest where a field that matters has the wrong type, or where the request
        names another model in its address (the decoded path, the raw query string) than in its body."""
        ...

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """Write an output limit into the body."""
        ...

    def request_usage(self, body: RequestBody) -> bool:
        """Edit the body so that the stream reports usage; whether an edit was needed."""
        ...

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        """A reader for one answer.

        Args:
            usage_was_injected: takes out of the stream what `request_usage` provoked.
            may_be_cut: `feed` passes whole events only, so that `cut` can end the stream after any of them.
        """
        ...

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse: ...

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        """An error in mid-stream, as the protocol's SDKs understand it."""
        ...


# The ledger --------------------------------------------------------------------------------------


class Step(StrEnum):
    """What an acquire does to a reservation."""

    OPEN = "open"
    EXTEND = "extend"  # by counters that it does not hold yet; a refusal releases those that it holds
    GROW = "grow"  # by more of what it holds; a refusal leaves it as it is


class Output(msgspec.Struct, frozen=True):
    """Output tokens of each choice that a call wants: the most, and the least that is of use to it."""

    most: int
    least: int


NO_OUTPUT = Output(0, 0)


class Crossing(msgspec.Struct, frozen=True):
    """A limit's soft or hard value was crossed, for the first time in this window.

    Attributes:
        window: names the window among those of its counter.
    """

    limit: str
    is_hard: bool
    window: str


class CounterState(msgspec.Struct, frozen=True):
    """A counter as the store saw it when it decided. Amounts in the meter's unit.

    Attributes:
        asked: what was added to it or, in a refusal, is the least that would have been.
        frees_in_ms: after how long the amount asked for fits at the latest; None where it fits now or
            time alone does not free it.
        crossings: those to tell of.
        left: of each of the hold's overrides, what it adds now.
    """

    consumed: int
    reserved: int
    asked: int
    frees_in_ms: int | None = None
    crossings: tuple[Crossing, ...] = ()
    left: tuple[int, ...] = ()


class Granted(msgspec.Struct, frozen=True):
    """All holds stand. `states` in the order of the holds, before this call.

    Attributes:
        output: tokens of each choice that are granted.
        shadow_output: those that the limits in dry_run would have granted too; -1 where they would have refused,
            in which case their counters hold nothing.
        expired: a few reservations of the workspace whose lease ran out, for sweeping.
    """

    states: tuple[CounterState, ...]
    output: int
    shadow_output: int
    expired: tuple[str, ...] = ()


class LimitsExceeded(msgspec.Struct, frozen=True):
    """Some counters are too full. Nothing was written; what an extension had held before is released."""

    states: tuple[CounterState, ...]
    expired: tuple[str, ...] = ()
    """As in Granted: it may be dead workers that fill them."""


class ApiTokenRevoked(msgspec.Struct, frozen=True):
    """The API token is not, or no longer, active."""


class ReservationGone(msgspec.Struct, frozen=True):
    """It was cancelled before, or an extension came after its lease ran out."""


class JournalFull(msgspec.Struct, frozen=True):
    """The journal holds as many records as it may."""


AcquireOutcome = Granted | LimitsExceeded | ApiTokenRevoked | ReservationGone | JournalFull


class Settled(Enum):
    """What a settlement came to."""

    WHOLE = "whole"
    IN_PART = "in part"  # the store knew only some of the holds: it has lost an extension
    NOT_OPEN = "not open"  # settled before, or lost by the store
    SWEPT = "swept"  # settled as reserved, for its lease ran out: it wants a correction


class Ledger(Protocol):
    """The counters. Each call is one atomic step; every one raises StoreUnavailable."""

    async def acquire(
        self,
        workspace: str,
        reservation_id: str,
        holds: Sequence[Hold],
        *,
        lease_ms: int,
        expired_record: bytes,
        step: Step = Step.OPEN,
        held: Sequence[Counter] = (),
        output: Output = NO_OUTPUT,
        drop_shadows: bool = False,
        api_token_id: str | None = None,
    ) -> AcquireOutcome:
        """Check all holds, then take all.

        Args:
            expired_record: the journal record to write if the lease runs out.
            held: what the reservation holds already.
            output: the largest output that fits is granted. Only where the whole does not fit, and for a
                sliding window only where it never would, is it less than the most.
            drop_shadows: give up what is held for limits in dry_run.
        """
        ...

    async def settle(
        self,
        workspace: str,
        reservation_id: str,
        counters: Sequence[Counter],
        amounts: Mapping[str, int],
        record: bytes | None,
        *,
        corrects: bool = False,
    ) -> Settled:
        """Replace what is reserved by what was used, by counter name (one left out: nothing), and
        journal `record` with the changes (None: a release, which leaves no record). Idempotent.

        Args:
            corrects: whether `record` is that of a correction, for a reservation that was swept.
        """
        ...

    async def cancel(
        self, workspace: str, reservation_id: str, counters: Sequence[Counter], *, lease_ms: int
    ) -> None:
        """Release a reservation whose acquire was not answered, now or whenever it arrives."""
        ...

    async def renew(self, workspace: str, reservation_id: str, lease_ms: int) -> bool:
        """Extend the lease. False where the reservation is not open any more."""
        ...

    async def sweep(self, workspace: str, reservation_id: str) -> bool:
        """Settle a reservation whose lease ran out, as reserved. False where there was nothing to do."""
        ...

    async def expired(self, workspace: str, count: int) -> list[str]:
        """The ids of up to `count` reservations whose lease has run out, the oldest first."""
        ...

    async def take_sweep_turn(self, turn_ms: int) -> bool:
        """Whether the walk over all workspaces is the caller's: of all that ask, one gets it in `turn_ms`.

        It is no lock: whoever dies in its walk costs the others the rest of the turn.
        """
        ...

    async def take_audit_turn(self, turn_ms: int) -> bool:
        """The same of the audit."""
        ...

    async def workspaces(self) -> list[str]:
        """All workspaces that ever had a reservation."""
        ...

    async def takes_writes(self) -> bool:
        """Whether the store takes writes now. One that answers may not: its disk or its memory is full, or its
        replicas are gone."""
        ...

    async def run_id(self) -> str:
        """Names the run of the store that answers: another one after a restart or a failover, either of
        which may have lost the last of what was acknowledged."""
        ...
