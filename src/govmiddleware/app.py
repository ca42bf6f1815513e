"""The composition root: settings become parts, parts become the stack."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self, Unpack

from starlette.types import ASGIApp

from govmiddleware.budgets import (
    AgentBudget,
    Book,
    BudgetOptions,
    Runner,
    SessionBudgets,
    SessionOptions,
    SyncAgentBudget,
    SyncRunner,
    SyncSessionBudgets,
    budget_book,
    session_book,
)
from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.call import Attribution, Principal
from govmiddleware.core.limits import Limit
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.reference_counter import O200K
from govmiddleware.core.refusals import Unavailable
from govmiddleware.core.tokens import load as load_encoding
from govmiddleware.core.webhook_signature import read_secret
from govmiddleware.errors import HistoryUnavailable, StoreLost, StoreUnavailable
from govmiddleware.inside import GovernedBlock, GovernedTransport, Home, InnerCalls, call_on, run_on
from govmiddleware.journal.missed_use import SqlMissedUse
from govmiddleware.journal.overrides import SqlOverrides
from govmiddleware.journal.registries import SqlRegistryCopy
from govmiddleware.journal.reports import SqlReports
from govmiddleware.ledger.api_tokens import RedisApiTokens
from govmiddleware.ledger.backfill import RedisBackfillNotes
from govmiddleware.ledger.calibration import RedisCalibration
from govmiddleware.ledger.connection import PROBE_SECONDS
from govmiddleware.ledger.limits import RedisLimits
from govmiddleware.ledger.overrides import RedisRaises
from govmiddleware.ledger.restoring import RedisRestoringTurns
from govmiddleware.metrics import Metrics
from govmiddleware.middleware import Authenticate, Budget, Estimate, Journal, Meter, RateLimit, Routes
from govmiddleware.middleware._request_log import RequestLog
from govmiddleware.services.api_token_registry import ApiTokenRegistry
from govmiddleware.services.api_tokens import ApiTokens
from govmiddleware.services.audit import Findings, audit
from govmiddleware.services.backfill import BACKFILL_SECONDS, Backfill
from govmiddleware.services.calibration import CALIBRATION_SECONDS, Calibrator
from govmiddleware.services.counting import TokenCounter
from govmiddleware.services.drain import DRAIN_SECONDS, Drainer
from govmiddleware.services.limit_events import LimitEvents
from govmiddleware.services.limits import REFRESH_SECONDS, Fields, LimitRegistry
from govmiddleware.services.links import Links
from govmiddleware.services.lost_settlements import LostSettlements
from govmiddleware.services.override_events import OverrideEvents
from govmiddleware.services.override_wait import LOOK_SECONDS, OverrideWait
from govmiddleware.services.overrides import CARE_SECONDS, Overrides
from govmiddleware.services.people import People
from govmiddleware.services.periodic_audit import PeriodicAudit
from govmiddleware.services.raises import Raises
from govmiddleware.services.rebuild import Rebuilding
from govmiddleware.services.refusal_log import SUMMARY_SECONDS, RefusalLog
from govmiddleware.services.registries import COPY_SECONDS, Registries
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.settlement_watch import CHECK_SECONDS, SettlementWatch
from govmiddleware.services.upkeep import Upkeep
from govmiddleware.services.usage import UsageReports
from govmiddleware.services.usage_reset import UsageReset
from govmiddleware.services.vital_signs import VITAL_SECONDS, VitalSigns
from govmiddleware.services.webhook_delivery import WebhookDelivery
from govmiddleware.settings import Settings, load
from govmiddleware.settings_limits import LimitSettings, read_limit
from govmiddleware.storage import Storage
from govmiddleware.telemetry import telemetry_to_otlp
from govmiddleware.upstream.clients import open_client

logger = logging.getLogger("govmiddleware.app")

_REVIVE_SECONDS = 1.0


class Governance:
    """Everything that governs, built from settings: one for each process and event loop.

    `async with governance:` opens and drains it, in an app's lifespan; without that the first request
    opens it. Its parts are public, so that middlewares can be put together by hand.

    Args:
        metrics: to put them on a registry of the app's own.
        clock: a test's clock, in Unix milliseconds, in place of the store's.
    """

    def __init__(
        self, settings: Settings, *, metrics: Metrics | None = None, clock: Callable[[], int] | None = None
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.metrics.know_limits(limit.name for limit in settings.limits)
        self.providers = tuple(upstream.provider() for upstream in settings.all_upstreams)
        self.prices = PriceBook(tuple(price.configured() for price in settings.prices))
        self.token_counter = TokenCounter(self.metrics)
        self.telemetry = telemetry_to_otlp() if settings.telemetry == "otlp" else None
        self.trusted_proxies = TrustedProxies(settings.trusted_proxies)

        self.storage = Storage(settings, clock, self._told_of_loss)
        self.history, self.journal = self.storage.history, self.storage.journal
        self.ledger, self.adjustments = self.storage.ledger, self.storage.adjustments
        self.audit_log = self.storage.audit_log
        redis, database = self.storage.redis, self.storage.database
        self.rebuilding = Rebuilding(
            self.ledger, self.journal, self.history, self.adjustments, RedisRestoringTurns(redis)
        )
        self.links = Links(
            lambda: self.storage.signing_keys.links, settings.public_url.rstrip("/") + settings.control_prefix
        )
        self._has_pages = "public_url" in settings.model_fields_set
        """Whether anybody serves the links' pages: the sidecar does, and a host app's settings say where."""
        limit_store = RedisLimits(redis, self.storage.epochs)
        registry_copy = SqlRegistryCopy(database, self.audit_log)
        self.api_token_store = RedisApiTokens(redis, self.storage.epochs)
        self.registries = Registries(
            registry_copy, limit_store, self.api_token_store, self.history, self.journal, self.audit_log
        )
        self.api_token_registry = ApiTokenRegistry(
            self.api_token_store,
            registry_copy,
            configured={token.sha256: (token.workspace, token.name) for token in settings.api_tokens},
        )
        self.limits = LimitRegistry(
            limit_store,
            map(self._registered, settings.limits),
            self._read_limit,
            copy=registry_copy,
        )

        raise_store = RedisRaises(redis)
        self._raises = Raises(raise_store)
        self.overrides = Overrides(
            SqlOverrides(database, self.audit_log),
            raise_store,
            self._raises,
            self.limits,
            self.adjustments,
            clock or (lambda: time.time_ns() // 1_000_000),
        )

        self.upkeep = Upkeep(
            self.ledger,
            self.metrics,
            lease_seconds=settings.lease_seconds,
            sweep_seconds=settings.sweep_seconds,
        )
        vital_signs = VitalSigns(self.ledger, self.upkeep, self.metrics)
        self.upkeep.also(VITAL_SECONDS, vital_signs.look)
        self.upkeep.also(0, vital_signs.sample_lag)
        if settings.audit_seconds:
            audits = PeriodicAudit(self.ledger, self.audit, self.metrics, seconds=settings.audit_seconds)
            self.upkeep.also(audits.look_seconds, audits.look)
        self.webhook = self._made_webhook()
        self.limit_events = LimitEvents(self.metrics, self.webhook)
        if self.webhook is not None:
            override_events = OverrideEvents(self.webhook, self.links)
            self.overrides.on_requested.append(override_events.tell)
            self.overrides.on_changed.append(override_events.tell)
        self.settlement_watch = SettlementWatch(
            self.ledger,
            self.journal,
            self.metrics,
            LostSettlements(self.history, self.adjustments, self.rebuilding),
        )
        self.upkeep.also(CHECK_SECONDS, self.settlement_watch.check)
        self.calibrator = Calibrator(RedisCalibration(redis), self.metrics, coverage=settings.bound_coverage)
        self.upkeep.also(CALIBRATION_SECONDS, self.calibrator.refresh)
        self.reservations = Reservations(
            self.ledger,
            self.upkeep,
            self.settlement_watch,
            self.metrics,
            lease_seconds=settings.lease_seconds,
            clamp_min_output_tokens=settings.clamp_min_output_tokens,
            slice_output_tokens=settings.slice_output_tokens,
            price_version=self.prices.version,
            tell=self.limit_events.tell,
            link=lambda call, refusal: self.links.link_for(call, refusal) if self._has_pages else None,
            raises=self._raises,
            wait=self._override_wait(),
            calibrator=self.calibrator,
        )
        self.upkeep.also(REFRESH_SECONDS, self.limits.refresh)
        self.upkeep.also(REFRESH_SECONDS, self._raises.refresh)
        self.upkeep.also(COPY_SECONDS, self.registries.complete_copy)
        self.upkeep.also(CARE_SECONDS, self.overrides.look_after)
        self.refusals = RefusalLog(self.journal, self.upkeep)
        self.upkeep.also(SUMMARY_SECONDS, self.refusals.flush)
        self.drainer = Drainer(self.journal, self.history, self.storage.drain_turn, self.metrics)
        self.upkeep.also(DRAIN_SECONDS, self.drainer.drain)
        if self.storage.embedded is not None:
            self.upkeep.also(_REVIVE_SECONDS, self.storage.revive)
        self.api_tokens = ApiTokens(
            {token.sha256.lower(): token.principal() for token in settings.api_tokens},
            self.api_token_store,
            failed_logins=settings.login_throttle,
        )
        self.people = People(
            self.api_tokens, settings.admin_token.get_secret_value() if settings.admin_token else None
        )
        self.usage = UsageReports(self.journal, self.history, SqlReports(database), self.limits)
        self.backfill = Backfill(
            self.limits,
            SqlMissedUse(database),
            RedisBackfillNotes(redis),
            self.adjustments,
            self.journal,
            self.history,
            clock or (lambda: time.time_ns() // 1_000_000),
        )
        self.upkeep.also(BACKFILL_SECONDS, self.backfill.look)
        self.usage_reset = UsageReset(
            self.limits, self.adjustments, self.audit_log, self.journal, self.history
        )
        self._inner_calls = InnerCalls(
            admit=self.admit,
            estimate=self._estimate,
            journal=self._journal,
            reservations=self.reservations,
            limits=self.limits,
            telemetry=self.telemetry,
        )
        self._home = Home()
        self._opening = asyncio.Lock()
        self._is_open = False

    @classmethod
    def from_settings(cls, settings: Settings | Path | str | None = None, **overrides: object) -> Self:
        """From settings, or from a configuration file and the environment (see `settings.load`).

        Args:
            overrides: settings by name, which win over both. Raises ConfigurationError.
        """
        if isinstance(settings, Settings):
            if overrides:
                raise TypeError("overrides go with a file, not with Settings that are made already")
            return cls(settings)
        return cls(load(None if settings is None else Path(settings), **overrides))

    async def open(self) -> None:
        """Start the embedded store, if it is the one, and the background work. Idempotent.

        Raises StoreUnavailable and ConfigurationError where the embedded store does not come up. A store
        at a URL may be down: calls get 503 until it is back. WrongEventLoop where it is open on another one.
        """
        self._home.check()
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                if self.telemetry is not None:  # first, for it raises: there is nothing to close yet
                    self.telemetry.start()
                if self.storage.embedded is not None:  # while its server starts, SQL's tables are made
                    self.upkeep.spawn(self.history.ping())
                await self.storage.open()
                with suppress(StoreUnavailable):  # no call passes until they are read
                    await self.limits.refresh()
                    await self._raises.refresh()
                if self.settings.log_prompt_characters:
                    logger.warning("log_prompt_characters is set: what users write stands in this log")
                if stale := self.prices.stale():
                    logger.warning("%s", stale)
                self.upkeep.start()
                # Last, for loading the vocabulary of most models takes most of a second, under the GIL.
                self.upkeep.spawn(asyncio.to_thread(load_encoding, O200K))
                self._home.enter()
                self._is_open = True

    async def close(self) -> None:
        """Let settlements finish, end the background work, and leave the store. Idempotent."""
        if self._is_open:
            await run_on(self._home.for_task(), self._close)
        self._home.stop_thread()

    async def _close(self) -> None:
        self._is_open = False
        await self.refusals.flush()
        await self.upkeep.stop()
        await self.refusals.flush()
        with suppress(StoreUnavailable, HistoryUnavailable):
            await self.settlement_watch.check()
        with suppress(StoreUnavailable):
            await self.calibrator.refresh()
        await self.drainer.close()
        await self._close_webhook()
        if self.telemetry is not None:
            await self.telemetry.stop()
        await asyncio.to_thread(self.storage.synchronous.close)
        await self.storage.close()
        self._home.leave()

    async def admit(self) -> None:
        """Open for a request. Raises Unavailable where the store does not come up."""
        try:
            await self.open()
        except StoreUnavailable as error:
            logger.error("the store does not come up, calls are refused: %s", error)
            raise Unavailable(
                "The store that keeps the limits does not come up; try again shortly.",
                code="store_unavailable",
            ) from error

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Self]:
        """The store alone, without the work beside requests: for commands that read or write it."""
        await self.storage.open()
        try:
            await self.ledger.ping(PROBE_SECONDS)  # the first node of a cluster may be down
            with suppress(StoreLost):  # which those say that read them
                await self.limits.refresh()
            yield self
        finally:
            await self._close_webhook()
            await self.storage.close()

    def _override_wait(self) -> OverrideWait | None:
        if not self.settings.override_wait_seconds:
            return None
        wait = OverrideWait(self.overrides, self._raises, seconds=self.settings.override_wait_seconds)
        self.upkeep.also(LOOK_SECONDS, wait.look)
        return wait

    def _told_of_loss(self) -> None:
        self.metrics.lost_workspaces.inc()
        self.settlement_watch.doubt()

    def _made_webhook(self) -> WebhookDelivery | None:
        url, secret = self.settings.webhook_url, self.settings.webhook_secret
        if url is None or secret is None:
            return None
        client = open_client(connect_timeout=5, first_byte_timeout=10, idle_timeout=10)
        key = read_secret(secret.get_secret_value())
        return WebhookDelivery(client, url.get_secret_value(), key, self.metrics)

    async def _close_webhook(self) -> None:
        """Gives what is not delivered yet a last try."""
        if self.webhook is not None:
            await self.webhook.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        """For threads, and scripts without an event loop: it starts nothing, as the first use opens what it needs."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_open:
            call_on(self._home.for_thread(), self._close)
        self._home.stop_thread()
        self.storage.synchronous.close()

    def transport(self, inner: Any = None, *, principal: Principal | None = None) -> Any:
        """A transport for clients of httpx and httpx2, synchronous and asynchronous, that governs the model
        calls of an app: see `inside.GovernedTransport`."""
        return GovernedTransport(self._inner_calls, self._home, inner, principal=principal)

    def call(
        self,
        model: str,
        *,
        input_tokens: int = 0,
        messages: Sequence[Mapping[str, Any]] = (),
        texts: Sequence[str] = (),
        max_output_tokens: int | None = None,
        attribution: Attribution | None = None,
        principal: Principal | None = None,
    ) -> GovernedBlock:
        """A block of code that calls a model: see `inside.GovernedBlock`."""
        return GovernedBlock(
            self._inner_calls,
            self._home,
            model,
            input_tokens=input_tokens,
            messages=messages,
            texts=texts,
            max_output_tokens=max_output_tokens,
            attribution=attribution,
            principal=principal,
        )

    def budget(self, name: str, **options: Unpack[BudgetOptions]) -> AgentBudget:
        """A budget for code that is not HTTP, such as an agent's loop; without caps it only counts.

        Args:
            options: `max_tokens`, `max_cost_usd`, `per_user_max_tokens` and more; see `BudgetOptions`.

        Raises ConfigurationError, and TypeError for an option that does not exist.
        """
        return AgentBudget(self._runner(budget_book(name, self.prices, options)))

    def session_budgets(self, name: str = "sessions", **options: Unpack[SessionOptions]) -> SessionBudgets:
        """A budget for each session, under the caps `default=Caps(…)`; see `SessionOptions`. Raises as `budget`."""
        return SessionBudgets(self._runner(session_book(name, self.prices, options)))

    def sync_budget(self, name: str, **options: Unpack[BudgetOptions]) -> SyncAgentBudget:
        """As `budget`, for threads: it needs no event loop. `with governance:` leaves the store at its end."""
        return SyncAgentBudget(SyncRunner(self.storage.synchronous, budget_book(name, self.prices, options)))

    def sync_session_budgets(
        self, name: str = "sessions", **options: Unpack[SessionOptions]
    ) -> SyncSessionBudgets:
        """As `session_budgets`, for threads."""
        return SyncSessionBudgets(
            SyncRunner(self.storage.synchronous, session_book(name, self.prices, options))
        )

    def _runner(self, book: Book) -> Runner:
        return Runner(self.adjustments, book, self.open, self.upkeep.spawn)

    async def readiness(self) -> list[str]:
        """What keeps calls from being governed right now, in words."""
        try:
            return await self.storage.problems() + self.limits.problems()
        except StoreUnavailable as error:
            return [f"the store does not answer: {error}"]

    async def audit(self, workspaces: Collection[str] | None = None) -> Findings:
        """Whether the books of these workspaces, or of all, balance, and the audit log is whole.

        Raises HistoryUnavailable and StoreUnavailable.
        """
        findings = await audit(self.journal, self.history, workspaces)
        findings.chain = await self.storage.verify_audit_log()
        return findings

    def _read_limit(self, fields: Fields) -> tuple[Limit, Fields]:
        return self._registered(read_limit(fields, [provider.name for provider in self.providers]))

    def _registered(self, limit: LimitSettings) -> tuple[Limit, Fields]:
        return limit.limit(self.settings.limit_defaults), limit.fields()

    def stack(self, app: ASGIApp, *, sidecar: bool = False) -> ASGIApp:
        """All middlewares around `app`, for requests that are to be governed.

        Args:
            sidecar: whether to mind what an upstream may make of a route, and `unmetered_routes`.
        """
        settings = self.settings
        self._has_pages = self._has_pages or sidecar
        if sidecar and self.telemetry is not None:
            urls = {provider.name: provider.url for provider in self.providers}
            app = self.telemetry.around_upstream(app, urls)
        app = Meter(app)
        app = Budget(app, reservations=self.reservations, limits=self.limits, metered=True)
        app = self._estimate(app)
        if sidecar:
            refuses = settings.unmetered_routes == "refuse"
            app = Routes(app, control_prefix=settings.control_prefix, refuse_unmetered=refuses)
        app = RateLimit(app, reservations=self.reservations, limits=self.limits, defers=True)
        app = Authenticate(
            app,
            api_tokens=self.api_tokens,
            reservations=self.reservations,
            opens=False,  # RateLimit or Budget does, in the same trip as their limits
            trust_caller=settings.attribution == "trusted",
            trusted_proxies=self.trusted_proxies,
        )
        if self.telemetry is not None:
            app = self.telemetry.around(app)
        return self._journal(app, in_app=not sidecar)

    def _journal(self, app: ASGIApp, *, in_app: bool = True) -> Journal:
        settings = self.settings
        log = RequestLog(settings.log_sample, settings.log_slow_seconds, settings.log_prompt_characters)
        return Journal(app, refusals=self.refusals, metrics=self.metrics, in_app=in_app, log=log)

    def _estimate(self, app: ASGIApp) -> Estimate:
        settings = self.settings
        return Estimate(
            app,
            prices=self.prices,
            providers=self.providers,
            max_body_bytes=settings.max_body_bytes,
            body_timeout=settings.body_timeout,
            default_max_output_tokens=settings.default_max_output_tokens,
            unknown_size_tokens=settings.unknown_size_tokens,
            batches=settings.batches,
            input_bound=self.calibrator.bound,
            counter=self.token_counter,
            metered=True,
        )
