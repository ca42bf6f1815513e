"""The command line; one file a command group."""

from __future__ import annotations

import gc
import sys

_YOUNG_OBJECTS = 50_000
"""How many may be made before Python looks for garbage among them, instead of 700. What imports make stays: looking
through it again and again takes a fifth of the time that they take."""


def main() -> None:
    """The entry point of `govmiddleware`."""
    gc.set_threshold(_YOUNG_OBJECTS)
    try:
        from govmiddleware.cli.root import run
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":
            raise
        print("The command line needs an extra: pip install 'govmiddleware[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
