"""`check`: is this configuration right?"""

from __future__ import annotations

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, print_json
from govmiddleware.settings import load, stray_variables
from govmiddleware.upstream.target import checked_base_url


def check(*, config: Config = None, json: AsJson = False) -> int:
    """Validate a configuration offline: nothing is connected to, nothing started."""
    settings = load(config)
    governance = Governance(settings)
    if settings.upstream is not None:
        checked_base_url(settings.upstream)
    stray = stray_variables()
    if json:
        print_json(
            {
                "ok": True,
                "limits": len(governance.limits),
                "api_tokens": len(settings.api_tokens),
                "prices": len(settings.prices),
                "upstream": settings.upstream,
                "stray_variables": stray,
            }
        )
        return 0
    print(
        f"ok: {len(governance.limits)} limits, {len(settings.api_tokens)} API tokens,"
        f" {len(settings.prices)} prices, upstream {settings.upstream or 'not set'}"
    )
    for name in stray:
        print(f"note: {name} is in the environment, and there is no setting of this name")
    return 0
