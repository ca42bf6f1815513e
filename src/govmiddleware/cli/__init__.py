"""The command line; one file a command group."""

from __future__ import annotations

import sys

from govmiddleware.cli.garbage import collect_rarely


def main() -> None:
    """The entry point of `govmiddleware`."""
    collect_rarely()
    try:
        from govmiddleware.cli.root import run
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":
            raise
        print("The command line needs an extra: pip install 'govmiddleware[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
