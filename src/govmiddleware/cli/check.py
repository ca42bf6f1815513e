"""`check`: is this configuration right?"""

from __future__ import annotations

from govmiddleware.app import Governance
from govmiddleware.cli.common import Config
from govmiddleware.settings import load
from govmiddleware.upstream.target import checked_base_url


def check(*, config: Config = None) -> int:
    """Validate a configuration offline: nothing is connected to, nothing started."""
    settings = load(config)
    governance = Governance(settings)
    if settings.upstream is not None:
        checked_base_url(settings.upstream)
    print(
        f"ok: {len(governance.limits)} limits, {len(settings.api_tokens)} API tokens,"
        f" {len(settings.prices)} prices, upstream {settings.upstream or 'not set'}"
    )
    return 0
