"""Budgets for code that is not HTTP: an agent's loop, a batch job, a worker."""

from govmiddleware.budgets.asynchronous import AgentBudget, Runner, SessionBudgets
from govmiddleware.budgets.book import Book
from govmiddleware.budgets.caps import BudgetUsage, Caps, Step
from govmiddleware.budgets.options import BudgetOptions, SessionOptions, budget_book, session_book
from govmiddleware.budgets.synchronous import SyncAgentBudget, SyncRunner, SyncSessionBudgets

__all__ = [
    "AgentBudget",
    "SessionBudgets",
    "SyncAgentBudget",
    "SyncSessionBudgets",
    "Caps",
    "BudgetUsage",
    "Step",
    "BudgetOptions",
    "SessionOptions",
    "Book",
    "Runner",
    "SyncRunner",
    "budget_book",
    "session_book",
]
