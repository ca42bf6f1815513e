"""All commands put together, and what their errors look like: one line, and an exit code.

0 done, 1 the answer is no, 2 usage or configuration, 3 store or server unreachable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from govmiddleware.cli import audit, check, demo, doctor, limits, serve, tokens, usage
from govmiddleware.errors import ConfigurationError, StoreUnavailable

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3

app = App(
    name="govmiddleware",
    help="Governs LLM traffic: API tokens, rate limits and budgets that hold.",
    version=version("govmiddleware"),
    help_format="plaintext",
    result_action="return_value",
)
app.command(serve.serve)
app.command(demo.demo)
app.command(tokens.app)
app.command(limits.app)
app.command(usage.usage)
app.command(check.check)
app.command(audit.audit)
app.command(doctor.doctor)


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
        _complain(error)
        return UNREACHABLE
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else DONE


def _complain(error: Exception) -> None:
    for line in (str(error), *getattr(error, "__notes__", ())):
        print(f"govmiddleware: {line}", file=sys.stderr)
