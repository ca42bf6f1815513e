"""The routes of the control plane, put together."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from govmiddleware.control.access import Access
from govmiddleware.control.audit import Audit, audit_routes
from govmiddleware.control.health import Readiness, Warnings, health_routes
from govmiddleware.control.limits import limit_routes
from govmiddleware.control.overrides import override_routes
from govmiddleware.control.pages import override_pages, refusal_pages, stylesheet
from govmiddleware.control.usage import usage_routes
from govmiddleware.control.usage_reset import reset_routes
from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.refusals import Refusal
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.metrics import Metrics
from govmiddleware.services.api_tokens import ApiTokens
from govmiddleware.services.limits import LimitRegistry
from govmiddleware.services.links import Links
from govmiddleware.services.overrides import Overrides
from govmiddleware.services.people import People
from govmiddleware.services.standing import Standings
from govmiddleware.services.usage import UsageReports
from govmiddleware.services.usage_reset import UsageReset


def control_plane(
    *,
    prefix: str,
    audit: Audit,
    usage: UsageReports,
    usage_reset: UsageReset,
    limits: LimitRegistry,
    overrides: Overrides,
    links: Links,
    standings: Standings,
    api_tokens: ApiTokens,
    people: People,
    readiness: Readiness,
    warnings: Warnings,
    metrics: Metrics,
    metrics_token: str | None,
    trusted_proxies: TrustedProxies,
) -> Starlette:
    """The app that serves everything under `prefix`."""
    access = Access(
        api_tokens,
        people,
        metrics_token=metrics_token,
        trusted_proxies=trusted_proxies,
    )
    routes = [
        *health_routes(readiness, warnings, metrics, access),
        *refusal_pages(links, overrides, standings, access),
        *override_pages(links, overrides, standings, access),
        stylesheet(),
        Mount(
            "/api/v1",
            routes=[
                *audit_routes(audit, access),
                *reset_routes(usage_reset, access),
                *usage_routes(usage, access),
                *limit_routes(limits, access),
                *override_routes(overrides, access),
            ],
        ),
    ]
    return Starlette(
        routes=[Mount(prefix, routes=routes)],
        exception_handlers={
            Refusal: access.refused,
            StoreUnavailable: access.without_store,
            HistoryUnavailable: access.without_history,
        },
    )
