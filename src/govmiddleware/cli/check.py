"""`check`: is this configuration right?"""

from __future__ import annotations

from govmiddleware.app import Governance
from govmiddleware.cli.common import Config
from govmiddleware.settings import load


def check(*, config: Config = None) -> int:
    """Validate a configuration offline: nothing is connected to, nothing started."""
    settings = load(config)
    governance = Governance(settings)
    print(
        f"ok: {len(governance.limits)} limits, {len(settings.api_tokens)} API tokens,"
        f" {len(settings.prices)} prices, upstream {settings.upstream or 'not set'}"
    )
    return 0
