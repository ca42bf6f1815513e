"""All commands put together, and what their errors look like: one line, and an exit code.

0 done, 1 the answer is no, 2 usage or configuration, 3 store or server unreachable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from govmiddleware.errors import ConfigurationError, HistoryUnavailable, StoreUnavailable

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3

app = App(
    name="govmiddleware",
    help="Governs LLM traffic: API tokens, rate limits and budgets that hold.",
    version=version("govmiddleware"),
    help_format="plaintext",
    result_action="return_value",
)
# By name: a command's module is imported when the command is used.
app.command("govmiddleware.cli.serve:serve", help="Govern what clients send to an upstream.")
app.command(
    "govmiddleware.cli.demo:demo",
    help="Show the main job: embedded store, mock provider, sample traffic, a table.",
)
app.command(
    "govmiddleware.cli.tokens:app", name="token", help="API tokens: create, list, rotate, import, revoke."
)
app.command("govmiddleware.cli.limits:app", name="limit", help="Limits: set, list, show, delete, import.")
app.command(
    "govmiddleware.cli.overrides:app",
    name="override",
    help="Raise a limit for a while: request, list, approve, deny, revoke.",
)
app.command("govmiddleware.cli.usage:usage", help="Show what was used.")
app.command("govmiddleware.cli.prices:app", name="prices", help="Prices: show what a model costs, and why.")
app.command(
    "govmiddleware.cli.replay:replay",
    help="Say what recorded exchanges cost, and what limits would have decided.",
)
app.command("govmiddleware.cli.check:check", help="Validate a configuration offline.")
app.command("govmiddleware.cli.audit:audit", help="Compare every counter with the journal.")
app.command("govmiddleware.cli.doctor:doctor", help="Say what works on this machine.")


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        result = app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return USAGE
    except ConfigurationError as error:
        _complain(error)
        return USAGE
    except StoreUnavailable as error:
        print(f"govmiddleware: the store (redis_url) cannot be used: {error}", file=sys.stderr)
        return UNREACHABLE
    except HistoryUnavailable as error:
        print(f"govmiddleware: the database (journal_url) cannot be used: {error}", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else DONE


def _complain(error: Exception) -> None:
    for line in (str(error), *getattr(error, "__notes__", ())):
        print(f"govmiddleware: {line}", file=sys.stderr)
