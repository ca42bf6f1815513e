"""`governance.call(...)`: a call that a block of code makes, whatever it uses to do so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from govmiddleware.core.attribution import first_named, read_attribution
from govmiddleware.core.body import RequestBody
from govmiddleware.core.call import Attribution, Call, Principal, Progress, Reading
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.inside.calls import InnerCalls
from govmiddleware.inside.libraries import never_sent
from govmiddleware.inside.loops import Home, call_on, run_on
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.registry import Unrecognised
from govmiddleware.services.reservations import Held

if TYPE_CHECKING:
    from govmiddleware.telemetry.spans import CallSpan


class _Code(Unrecognised):
    """The protocol of a call of which only the figures are known."""

    name = "code"


_CODE = _Code()


class GovernedBlock:
    """Reserves the bound of one call to a model, and settles it when the block ends: `async with`, or
    `with` in a thread.

    Settled exactly where the block reported its `usage`, else as reserved, also if it raised; where it
    raised because the provider could not be reached, at nothing.

    Args:
        model: whose price counts.
        input_tokens: what the prompt takes, where that is known; else it is counted from what follows.
        messages: the prompt, as OpenAI's chat completions have it.
        texts: the prompt, as plain texts.
        max_output_tokens: 0 for what has no output, such as embeddings. None: the model's maximum, or
            `default_max_output_tokens`, which the block must then pass on.
        attribution: on whose behalf, where that is not what the running request says.
        principal: who calls where no governed request runs.

    Entering raises a Refusal where the answer is no, a LimitRefusal where limits say so; NoCaller;
    WrongEventLoop.
    """

    def __init__(
        self,
        calls: InnerCalls,
        home: Home,
        model: str,
        *,
        input_tokens: int = 0,
        messages: Sequence[Mapping[str, Any]] = (),
        texts: Sequence[str] = (),
        max_output_tokens: int | None = None,
        attribution: Attribution | None = None,
        principal: Principal | None = None,
    ) -> None:
        if isinstance(texts, str):
            raise TypeError("texts is a list of texts, not one text")
        self._calls = calls
        self._home = home
        self._model = model
        self._input_tokens = input_tokens
        self._messages = messages
        self._texts = texts
        self._max_output_tokens = max_output_tokens
        self._attribution = attribution or Attribution()
        self._principal = principal
        self._call: Call | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hold: Held | None = None
        self._span: CallSpan | None = None

    @property
    def request_id(self) -> str:
        """The id of the call in the journal."""
        return self._entered.request_id

    @property
    def max_output_tokens(self) -> int:
        """The most that may be generated: to be passed on to the provider."""
        bound = self._entered.bound
        return bound.output_tokens if bound else 0

    @property
    def estimated_cost_usd(self) -> str:
        """What was reserved, in USD with 9 places."""
        bound = self._entered.bound
        return usd_text(bound.cost if bound else 0)

    def usage(
        self,
        *,
        input_tokens: int,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        model: str | None = None,
    ) -> None:
        """Report what was used. Input includes cached and cache-write tokens, output includes reasoning.
        A later report replaces an earlier one.

        Args:
            model: the model that the answer names.

        Raises ValueError for what is below 0.
        """
        used = Usage(input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens)
        if min(input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens) < 0:
            raise ValueError(f"{used}: expected no number below 0")
        call = self._entered
        call.usage, call.model_served, call.reading = used, model, Reading.WHOLE

    async def __aenter__(self) -> Self:
        call, self._loop = self._new_call(), self._home.for_task()
        await run_on(self._loop, self._open, call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None, "it was entered"
        await run_on(self._loop, self._close, kind, error, trace)

    def __enter__(self) -> Self:
        call, self._loop = self._new_call(), self._home.for_thread()
        call_on(self._loop, self._open, call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None, "it was entered"
        call_on(self._loop, self._close, kind, error, trace)

    @property
    def _entered(self) -> Call:
        if self._call is None:
            raise RuntimeError("the block of governance.call(...) was not entered")
        return self._call

    def _new_call(self) -> Call:
        call = self._calls.new_call(_CODE, "CALL", "", principal=self._principal)
        if self._calls.telemetry is not None:
            self._span = self._calls.telemetry.begin(call)
        return call

    async def _open(self, call: Call) -> None:
        calls = self._calls
        try:
            await calls.admit()
            pins = read_attribution((), call.require_principal(), trust_caller=False)
            outer = call.parent.attribution if call.parent else Attribution()
            call.attribution = first_named(pins, self._attribution, outer)
            await calls.estimate.estimate(call, RequestBody(b"{}"), self._info())
            hold = calls.reservations.hold(call, calls.limits)
            await hold.__aenter__()
        except Refusal as refusal:
            call.refusal, call.status = refusal, refusal.status
            self._end(call)
            raise
        except BaseException as error:
            self._end(call, error)
            raise
        call.progress = Progress.DISPATCHED
        self._call, self._hold = call, hold

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._entered
        assert self._hold is not None, "it was entered"
        if error is not None and call.usage is None and never_sent(error):
            call.progress = Progress.UNREACHED
        try:
            await self._hold.__aexit__(kind, error, trace)
        finally:
            self._end(call, error)

    def _end(self, call: Call, error: BaseException | None = None) -> None:
        if self._span is not None:
            self._span.end(error)
        self._calls.stack.report(call, error)

    def _info(self) -> RequestInfo:
        """Raises InvalidRequest for messages that are none."""
        overhead, texts, unknown, media = 0, list(self._texts), 0, False
        if self._messages:
            chat = {"model": self._model, "messages": self._messages}
            read = OpenAIChat().read_request(RequestBody(msgspec.json.encode(chat)))
            overhead, unknown, media = read.overhead_tokens, read.unknown_parts, read.reach.media
            texts += read.texts
        return RequestInfo(
            model=self._model,
            output_tokens=self._max_output_tokens,
            overhead_tokens=overhead,
            input_tokens=self._input_tokens,
            texts=texts,
            unknown_parts=unknown,
            reach=Reach(media=media, cache_1h=False),
        )
