"""One exchange through the stack's own Estimate and Meter, with its recorded answer in the upstream's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import unquote

from msgspec.structs import replace
from starlette.types import Message, Receive, Scope, Send

from govmiddleware.core.attribution import read_attribution
from govmiddleware.core.body import RequestBody
from govmiddleware.core.call import Call, Principal, Settlement
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.ports import Headers, WireProtocol
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.providers import Provider
from govmiddleware.core.refusals import Refusal, RouteNotMetered
from govmiddleware.core.usage import Usage
from govmiddleware.metrics import Metrics
from govmiddleware.middleware import Estimate, Meter
from govmiddleware.middleware._enter import STATE_KEY
from govmiddleware.protocols.registry import PROTOCOLS, recognise
from govmiddleware.replay.lines import Exchange
from govmiddleware.services.calibration import Calibrator
from govmiddleware.services.settlement import charge_for


@dataclass(frozen=True, slots=True)
class Played:
    """What an exchange came to.

    Attributes:
        call: as the stack has it; where `refusal` is set, as far as it came.
        refusal: what the stack would have answered in place of the upstream, whatever the limits.
        usage: what the answer says, or what was counted in it; None where neither is known.
        cost: nano-USD; None without a price.
    """

    call: Call
    refusal: Refusal | None
    usage: Usage | None
    settlement: Settlement | None
    cost: int | None


def protocol_of(exchange: Exchange) -> WireProtocol | None:
    """By its path, as the stack knows it; without one by the name of the protocol."""
    if exchange.path:
        return recognise(_method(exchange), unquote(exchange.path))
    return next((each for each in PROTOCOLS if each.name == exchange.protocol), None)


class Player:
    """Plays exchanges.

    Args:
        providers: who serves which models. The prices are those of whoever answered, by its host.
        default_max_output_tokens, unknown_size_tokens, max_body_bytes: as Estimate takes them.
        bound_coverage: of input bounds, which learn from each exchange that is played, as the stack's do.
    """

    def __init__(
        self,
        prices: PriceBook,
        providers: Sequence[Provider],
        *,
        default_max_output_tokens: int,
        unknown_size_tokens: int,
        max_body_bytes: int,
        batches: Literal["refuse", "reserve"],
        bound_coverage: float = 0.99,
    ) -> None:
        self._prices = prices
        self._providers = providers
        self._default_max_output_tokens = default_max_output_tokens
        self._unknown_size_tokens = unknown_size_tokens
        self._max_body_bytes = max_body_bytes
        self._batches = batches
        self._calibrator = Calibrator(MemoryCalibration(), Metrics(), coverage=bound_coverage)

    async def play(self, exchange: Exchange, at: datetime) -> Played:
        """Raises RouteNotMetered where no protocol reads it, InvalidRequest for names that cannot be counted
        under."""
        protocol = protocol_of(exchange)
        if protocol is None:
            route = f"{_method(exchange)} {exchange.path or exchange.protocol}"
            raise RouteNotMetered(f"No protocol here reads {route}.")
        call = _call(exchange, protocol)
        meter = Meter(_Answer(exchange))
        estimate = Estimate(
            meter,
            prices=self._prices,
            providers=[self._as_recorded(each, exchange) for each in self._providers],
            max_body_bytes=self._max_body_bytes,
            default_max_output_tokens=self._default_max_output_tokens,
            unknown_size_tokens=self._unknown_size_tokens,
            batches=self._batches,
            input_bound=self._calibrator.bound,
            clock=lambda: at,
        )
        await estimate(_scope(exchange, call), _body_of(exchange), _drop)
        if call.refusal is None:
            call.status = exchange.status
            charge = charge_for(call)
            self._calibrator.settled(call, charge)
            await self._calibrator.refresh()
            return Played(call, None, charge.usage, charge.settlement, charge.cost)
        read = await self._read(exchange, protocol, meter)
        read.model_served = read.model_served or call.model
        return Played(call, call.refusal, *self._charge(exchange, read, at))

    async def _read(self, exchange: Exchange, protocol: WireProtocol, meter: Meter) -> Call:
        """What the answer says to a request that the stack refuses."""
        call = _call(exchange, protocol)
        call.body = RequestBody(b"{}")
        await meter(_scope(exchange, call), _body_of(exchange), _drop)
        return call

    def _charge(
        self, exchange: Exchange, read: Call, at: datetime
    ) -> tuple[Usage | None, Settlement | None, int | None]:
        if read.usage is None:
            return None, None, None
        price = self._prices.find(read.model_served or "", at, url=_address(exchange))
        cost = None if price is None else price.cost(read.usage, service_tier=read.service_tier)
        return read.usage, Settlement.EXACT, cost

    def _as_recorded(self, provider: Provider, exchange: Exchange) -> Provider:
        return provider if exchange.host is None else replace(provider, url=_address(exchange))


class MemoryCalibration:
    """The port `core.calibration.CalibrationStore` for one replay, which nobody shares."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, bytes]] = {}

    async def read(self, workspace: str) -> Mapping[str, bytes]:
        return dict(self._kept.get(workspace, {}))

    async def replace(
        self, workspace: str, seen: Mapping[str, bytes | None], changed: Mapping[str, bytes]
    ) -> bool:
        self._kept.setdefault(workspace, {}).update(changed)
        return True


class _Answer:
    """An upstream that says what was recorded."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._exchange
        usual = "application/json" if exchange.response_text is None else "text/event-stream"
        headers = [(b"content-type", (exchange.content_type or usual).encode("latin-1", "replace"))]
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
        await send({"type": "http.response.body", "body": exchange.answer, "more_body": False})


def _call(exchange: Exchange, protocol: WireProtocol) -> Call:
    call = Call(new_request_id(), protocol, _method(exchange), unquote(exchange.path), model_call=True)
    call.principal = Principal(exchange.workspace or "default", exchange.api_token or "replay")
    call.attribution = read_attribution(_names(exchange), call.principal, trust_caller=True)
    return call


def _names(exchange: Exchange) -> Headers:
    """On whose behalf, in the headers in which clients say it."""
    tags = ",".join(f"{name}={value}" for name, value in (exchange.tags or {}).items())
    named = {"user": exchange.user, "session": exchange.session, "agent": exchange.agent, "tags": tags}
    return [(f"x-gov-{name}".encode(), value.encode()) for name, value in named.items() if value]


def _scope(exchange: Exchange, call: Call) -> Scope:
    return {
        "type": "http",
        "method": call.method,
        "path": call.path,
        "query_string": (exchange.query or "").encode("utf-8", "replace"),
        "headers": [(b"content-type", b"application/json")],
        "state": {STATE_KEY: call},
    }


def _method(exchange: Exchange) -> str:
    return "POST" if exchange.request_body else "GET"


def _address(exchange: Exchange) -> str | None:
    return None if exchange.host is None else f"https://{exchange.host}{exchange.path}"


def _body_of(exchange: Exchange) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": exchange.request_body, "more_body": False}

    return receive


async def _drop(message: Message) -> None:
    """Nobody reads the answer."""
