"""Budgets for code on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, assert_never

from govmiddleware.budgets.book import Book, MembersOf, Operation, Question
from govmiddleware.budgets.caps import BudgetUsage, Caps, Money, Step
from govmiddleware.budgets.patience import PAUSES
from govmiddleware.core.adjustments import Adjustment, Adjustments, Look
from govmiddleware.core.usage import Usage
from govmiddleware.errors import StoreUnavailable

T = TypeVar("T")

Spawn = Callable[[Coroutine[Any, Any, object]], "asyncio.Task[object]"]


class Runner:
    """Runs the operations of one book on a store.

    Args:
        ready: awaited before each; opens the store.
        spawn: runs what changes the store beside the caller, whose cancellation must not lose it.
    """

    def __init__(
        self, adjustments: Adjustments, book: Book, ready: Callable[[], Awaitable[None]], spawn: Spawn
    ) -> None:
        self._adjustments = adjustments
        self._ready = ready
        self._spawn = spawn
        self.book = book

    async def run(self, operation: Operation[T]) -> T:
        """What the operation returns. Raises StoreUnavailable, and what the operation raises."""
        answer: Any = None
        while True:
            try:
                question = operation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(question, Adjustment):
                answer = await asyncio.shield(self._spawn(self._ask(question)))
            else:
                answer = await self._ask(question)

    async def _ask(self, question: Question) -> object:
        """Patiently: every question may be asked again, an adjustment too, since it has an id."""
        for pause in PAUSES:
            try:
                return await self._ask_once(question)
            except StoreUnavailable:
                await asyncio.sleep(pause)
        return await self._ask_once(question)

    async def _ask_once(self, question: Question) -> object:
        await self._ready()
        workspace = self.book.workspace
        match question:
            case Adjustment():
                return await self._adjustments.adjust(workspace, question)
            case Look():
                return await self._adjustments.look(workspace, question)
            case MembersOf(book):
                return await self._adjustments.members(workspace, book)
            case _:
                assert_never(question)


class AgentBudget:
    """A budget by name, for all that use it together and for each user by itself; see `Governance.budget`.

    Every process that makes one of the same name, on the same store and in the same workspace, shares its counters. Its
    caps are code's: they hold as this process states them. Every method raises StoreUnavailable where the store does not
    answer for some seconds, and ValueError for a user's name that is empty, not printable or longer than 128
    characters.
    """

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run
        self._book = runner.book

    async def allows_step(self, user: str | None = None) -> Step:
        """Whether no cap is reached, of all together or of the user. True or false by itself, and says why.

        It takes nothing: of steps made at the same time each may be allowed, and what they consume is counted in full.
        """
        return await self._run(self._book.allows_step(user))

    async def check(
        self,
        user: str | None = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
    ) -> None:
        """Whether what is estimated still fits; takes nothing. Raises BudgetExhaustedError where it does not."""
        await self._run(
            self._book.check(user, Usage(input_tokens, output_tokens=output_tokens), model, cost_usd)
        )

    async def consume(
        self,
        user: str | None = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
        idempotency_key: str | None = None,
    ) -> BudgetUsage:
        """Count what was used, past a cap too. Returns what the user, or else all together, have used now.

        Args:
            cached_tokens, cache_write_tokens: parts of the input.
            model: prices the tokens by the catalogue, unless `cost_usd` says what was spent.
            idempotency_key: of two with the same key, within five minutes, the second changes nothing. Give one to be
                able to repeat a call that raised StoreUnavailable: it may have counted.

        Raises ModelNotPriced for a model without a price, ValueError where a cap on cost is given neither.
        """
        usage = Usage(input_tokens, cached_tokens, cache_write_tokens, output_tokens)
        return await self._run(self._book.consume(user, usage, model, cost_usd, idempotency_key))

    async def usage_for(self, user: str | None = None) -> BudgetUsage:
        """What the user, or else all together, have used. Makes nobody known."""
        return await self._run(self._book.usage_for(user))

    async def all_usage(self) -> dict[str, BudgetUsage]:
        """Of each known user."""
        return await self._run(self._book.all_usage())

    async def exists(self, user: str) -> bool:
        """Whether the user is known: has used it, and was not idle since for too long. Makes nobody known."""
        return await self._run(self._book.exists(user))

    async def reset(self, user: str | None = None) -> None:
        """Begin again at nothing: the user, or all together and every one."""
        await self._run(self._book.reset(user))

    async def close(self, user: str | None = None) -> BudgetUsage | None:
        """Forget the user, or the whole budget. Returns the final figures; None where nothing is known."""
        return await self._run(self._book.close(user))


class SessionBudgets:
    """A budget for each session; see `Governance.session_budgets`.

    A session keeps the caps that were the default when it began, by `allows_step`, `check`, `consume` or `open`. Shared
    and bounded as `AgentBudget` is.
    """

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run
        self._book = runner.book

    @property
    def default(self) -> Caps:
        """The caps of sessions that begin in this process from now on."""
        return self._book.each

    @default.setter
    def default(self, caps: Caps) -> None:
        self._book.each = caps

    async def open(self, session_id: str, caps: Caps | None = None) -> BudgetUsage:
        """Begin a session, under caps of its own if given. One that has begun keeps those that it has."""
        return await self._run(self._book.open(session_id, caps or self.default))

    async def allows_step(self, session_id: str) -> Step:
        """As `AgentBudget.allows_step`."""
        return await self._run(self._book.allows_step(session_id))

    async def check(
        self,
        session_id: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
    ) -> None:
        """As `AgentBudget.check`."""
        usage = Usage(input_tokens, output_tokens=output_tokens)
        await self._run(self._book.check(session_id, usage, model, cost_usd))

    async def consume(
        self,
        session_id: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
        idempotency_key: str | None = None,
    ) -> BudgetUsage:
        """As `AgentBudget.consume`."""
        usage = Usage(input_tokens, cached_tokens, cache_write_tokens, output_tokens)
        return await self._run(self._book.consume(session_id, usage, model, cost_usd, idempotency_key))

    async def usage_for(self, session_id: str) -> BudgetUsage:
        """What it has used; nothing, under the default caps, where it has not begun. Begins none."""
        return await self._run(self._book.usage_for(session_id))

    async def all_usage(self) -> dict[str, BudgetUsage]:
        """Of each session."""
        return await self._run(self._book.all_usage())

    async def exists(self, session_id: str) -> bool:
        """Whether it has begun. Begins none."""
        return await self._run(self._book.exists(session_id))

    async def reset(self, session_id: str) -> None:
        """It begins again at nothing, under the caps that it has."""
        await self._run(self._book.reset(session_id))

    async def close(self, session_id: str) -> BudgetUsage | None:
        """Forget it. Returns the final figures; None for an unknown one."""
        return await self._run(self._book.close(session_id))
