"""Budgets for code without an event loop, in any number of threads: the same books, on the same store."""

from __future__ import annotations

import time
from typing import Any, Protocol, TypeVar, assert_never

from govmiddleware.budgets.book import Book, MembersOf, Operation, Question
from govmiddleware.budgets.caps import BudgetUsage, Caps, Money, Step
from govmiddleware.budgets.patience import PAUSES
from govmiddleware.core.adjustments import Adjustment, Look, SyncAdjustments
from govmiddleware.core.usage import Usage
from govmiddleware.errors import StoreUnavailable

T = TypeVar("T")


class SyncStore(Protocol):
    """A store that opens at its first use."""

    def adjustments(self) -> SyncAdjustments:
        """Opens it where it is not open. Raises StoreUnavailable."""
        ...

    def revive(self) -> None:
        """It did not answer: bring it back, where that is ours to do. Raises StoreUnavailable."""
        ...


class SyncRunner:
    """Runs the operations of one book on a store."""

    def __init__(self, store: SyncStore, book: Book) -> None:
        self._store = store
        self.book = book

    def run(self, operation: Operation[T]) -> T:
        """What the operation returns. Raises StoreUnavailable, and what the operation raises."""
        answer: Any = None
        while True:
            try:
                question = operation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = self._ask(question)

    def _ask(self, question: Question) -> object:
        for pause in PAUSES:
            try:
                return self._ask_once(question)
            except StoreUnavailable:
                time.sleep(pause)
                self._store.revive()
        return self._ask_once(question)

    def _ask_once(self, question: Question) -> object:
        adjustments, workspace = self._store.adjustments(), self.book.workspace
        match question:
            case Adjustment():
                return adjustments.adjust(workspace, question)
            case Look():
                return adjustments.look(workspace, question)
            case MembersOf(book):
                return adjustments.members(workspace, book)
            case _:
                assert_never(question)


class SyncAgentBudget:
    """As `AgentBudget`, for threads: see `Governance.sync_budget`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._run = runner.run
        self._book = runner.book

    def allows_step(self, user: str | None = None) -> Step:
        """As `AgentBudget.allows_step`."""
        return self._run(self._book.allows_step(user))

    def check(
        self,
        user: str | None = None,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
    ) -> None:
        """As `AgentBudget.check`."""
        self._run(self._book.check(user, Usage(input_tokens, output_tokens=output_tokens), model, cost_usd))

    def consume(
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
        """As `AgentBudget.consume`."""
        usage = Usage(input_tokens, cached_tokens, cache_write_tokens, output_tokens)
        return self._run(self._book.consume(user, usage, model, cost_usd, idempotency_key))

    def usage_for(self, user: str | None = None) -> BudgetUsage:
        """As `AgentBudget.usage_for`."""
        return self._run(self._book.usage_for(user))

    def all_usage(self) -> dict[str, BudgetUsage]:
        """As `AgentBudget.all_usage`."""
        return self._run(self._book.all_usage())

    def exists(self, user: str) -> bool:
        """As `AgentBudget.exists`."""
        return self._run(self._book.exists(user))

    def reset(self, user: str | None = None) -> None:
        """As `AgentBudget.reset`."""
        self._run(self._book.reset(user))

    def close(self, user: str | None = None) -> BudgetUsage | None:
        """As `AgentBudget.close`."""
        return self._run(self._book.close(user))


class SyncSessionBudgets:
    """As `SessionBudgets`, for threads: see `Governance.sync_session_budgets`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._run = runner.run
        self._book = runner.book

    @property
    def default(self) -> Caps:
        """As `SessionBudgets.default`."""
        return self._book.each

    @default.setter
    def default(self, caps: Caps) -> None:
        self._book.each = caps

    def open(self, session_id: str, caps: Caps | None = None) -> BudgetUsage:
        """As `SessionBudgets.open`."""
        return self._run(self._book.open(session_id, caps or self.default))

    def allows_step(self, session_id: str) -> Step:
        """As `SessionBudgets.allows_step`."""
        return self._run(self._book.allows_step(session_id))

    def check(
        self,
        session_id: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        cost_usd: Money | None = None,
    ) -> None:
        """As `SessionBudgets.check`."""
        usage = Usage(input_tokens, output_tokens=output_tokens)
        self._run(self._book.check(session_id, usage, model, cost_usd))

    def consume(
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
        """As `SessionBudgets.consume`."""
        usage = Usage(input_tokens, cached_tokens, cache_write_tokens, output_tokens)
        return self._run(self._book.consume(session_id, usage, model, cost_usd, idempotency_key))

    def usage_for(self, session_id: str) -> BudgetUsage:
        """As `SessionBudgets.usage_for`."""
        return self._run(self._book.usage_for(session_id))

    def all_usage(self) -> dict[str, BudgetUsage]:
        """As `SessionBudgets.all_usage`."""
        return self._run(self._book.all_usage())

    def exists(self, session_id: str) -> bool:
        """As `SessionBudgets.exists`."""
        return self._run(self._book.exists(session_id))

    def reset(self, session_id: str) -> None:
        """As `SessionBudgets.reset`."""
        self._run(self._book.reset(session_id))

    def close(self, session_id: str) -> BudgetUsage | None:
        """As `SessionBudgets.close`."""
        return self._run(self._book.close(session_id))
