"""What a call is charged: every row of the policy that `charge_for` states."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from govmiddleware.core.call import Call, Progress, Reading, Settlement
from govmiddleware.core.charge import Charge, Outcome
from govmiddleware.core.demand import NOTHING as FREE
from govmiddleware.core.demand import Bound, Demand
from govmiddleware.core.limits import Meter
from govmiddleware.core.model_price import ModelPrice, rates_of
from govmiddleware.core.prices import ConfiguredPrice, PriceBook
from govmiddleware.core.refusals import UpstreamTooSlow
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import UNRECOGNISED
from govmiddleware.services.settlement import charge_as_bound, charge_for, shadow_charge

INPUT, OUTPUT = 1000, 2000
"""nano-USD a token."""

RATES = rates_of({"input": INPUT * 10**6, "output": OUTPUT * 10**6})
PRICE = ModelPrice("m", 1000, "test", (RATES,))
ESTIMATE, DELIVERED = 100, 30
REPORTED = Usage(input_tokens=90, output_tokens=40, reasoning_tokens=10)
SO_FAR = Usage(input_tokens=90, cached_tokens=50, output_tokens=7)
DEMAND = Demand(120, output=500, fixed_cost=120 * INPUT, output_femto=OUTPUT * 10**6)
BOUND = Bound(120, 500, 120 * INPUT + 500 * OUTPUT)
RESERVED = Usage(120, output_tokens=500)
NOTHING = Usage()


def new_call(**fields: Any) -> Call:
    """A metered model call."""
    given = {
        "model": "m",
        "price": PRICE,
        "estimated_input_tokens": ESTIMATE,
        "demand": DEMAND,
        "reading": Reading.CUT,
        **fields,
    }
    return Call("req_1", UNRECOGNISED, "POST", "/v1/chat/completions", model_call=True, **given)


@dataclass(frozen=True)
class Row:
    what: str
    call: dict[str, Any]
    usage: Usage
    settlement: Settlement
    outcome: Outcome
    crashed: bool = False


complete = {"reading": Reading.WHOLE, "status": 200, "delivered_output_tokens": DELIVERED}
answering = {"reading": Reading.CUT, "status": 200, "delivered_output_tokens": DELIVERED}
unread = {"reading": Reading.UNREAD}
too_slow = {"status": 504, "refusal": UpstreamTooSlow("too slow")}
dispatched = {"progress": Progress.DISPATCHED}
stream = {"stream": True}

EXACT, ESTIMATED, ABORTED = Settlement.EXACT, Settlement.ESTIMATED, Settlement.ABORTED
delivered = Usage(ESTIMATE, output_tokens=DELIVERED)

TABLE = [
    Row("complete with usage", complete | {"usage": REPORTED}, REPORTED, EXACT, Outcome.ANSWERED),
    Row("stream with usage", complete | stream | {"usage": REPORTED}, REPORTED, EXACT, Outcome.ANSWERED),
    Row("complete without usage", complete, delivered, ESTIMATED, Outcome.ANSWERED),
    Row("stream without usage", complete | stream, delivered, ESTIMATED, Outcome.ANSWERED),
    Row("cut stream", answering | stream, delivered, ABORTED, Outcome.ABORTED),
    Row(
        "cut stream that reported its input already: the larger output counts",
        answering | stream | {"usage": SO_FAR},
        Usage(90, cached_tokens=50, output_tokens=DELIVERED),
        ABORTED,
        Outcome.ABORTED,
    ),
    Row("stream that crashed on its way", answering | stream, delivered, ABORTED, Outcome.ABORTED, True),
    Row(
        "cut stream of a call in the background, which goes on",
        answering | stream | {"runs_on": True},
        RESERVED,
        ABORTED,
        Outcome.ABORTED,
    ),
    Row(
        "call in the background that was accepted",
        unread | {"status": 200, "runs_on": True},
        RESERVED,
        ESTIMATED,
        Outcome.ANSWERED,
    ),
    Row(
        "free, whatever it counted",
        complete | {"demand": FREE, "usage": REPORTED},
        NOTHING,
        EXACT,
        Outcome.ANSWERED,
    ),
    Row("stream cut before its answer", dispatched | stream, Usage(ESTIMATE), ABORTED, Outcome.ABORTED),
    Row("crash before a stream's answer", dispatched | stream, RESERVED, ABORTED, Outcome.ABORTED, True),
    Row("unstreamed, cut before its answer", dispatched, RESERVED, ABORTED, Outcome.ABORTED),
    Row("unstreamed, cut in its answer", answering, RESERVED, ABORTED, Outcome.ABORTED),
    Row("unstreamed, timed out", dispatched | too_slow, RESERVED, ABORTED, Outcome.UPSTREAM_ERROR),
    Row("unstreamed, crashed before its answer", dispatched, RESERVED, ABORTED, Outcome.ABORTED, True),
    Row("unstreamed, crashed in its answer", answering, RESERVED, ABORTED, Outcome.ABORTED, True),
    Row("4xx without usage", complete | {"status": 400}, NOTHING, EXACT, Outcome.UPSTREAM_ERROR),
    Row("5xx without usage", complete | {"status": 503}, NOTHING, EXACT, Outcome.UPSTREAM_ERROR),
    Row("5xx, cut", answering | {"status": 500}, NOTHING, EXACT, Outcome.UPSTREAM_ERROR),
    Row(
        "4xx with usage",
        complete | {"status": 400, "usage": REPORTED},
        REPORTED,
        EXACT,
        Outcome.UPSTREAM_ERROR,
    ),
    Row(
        "failed connection",
        {"progress": Progress.UNREACHED, "status": 502},
        NOTHING,
        EXACT,
        Outcome.UPSTREAM_ERROR,
    ),
    Row(
        "nobody metered the answer",
        unread | {"status": 200},
        RESERVED,
        ESTIMATED,
        Outcome.ANSWERED,
    ),
    Row(
        "nobody metered, 4xx",
        unread | {"status": 404},
        NOTHING,
        EXACT,
        Outcome.UPSTREAM_ERROR,
    ),
    Row("nobody metered, crash", unread, RESERVED, ABORTED, Outcome.ABORTED, True),
    Row(
        "an error page of the app's own crash",
        unread | {"status": 500},
        RESERVED,
        ABORTED,
        Outcome.UPSTREAM_ERROR,
        True,
    ),
    Row(
        "not a model call",
        unread | {"demand": None, "price": None, "status": 200},
        NOTHING,
        EXACT,
        Outcome.ANSWERED,
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_a_call_is_charged_by_how_it_ended(row: Row) -> None:
    cost = row.usage.input_tokens * INPUT + row.usage.output_tokens * OUTPUT
    charge = charge_for(new_call(**row.call), crashed=row.crashed)
    assert charge == Charge(row.usage, cost, row.settlement, row.outcome)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_the_request_counts_whatever_it_cost_and_frees_its_slot(row: Row) -> None:
    charge = charge_for(new_call(**row.call), crashed=row.crashed)
    assert charge.amounts()[Meter.REQUESTS] == 1
    assert charge.amounts()[Meter.CONCURRENCY] == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_crash_after_the_whole_answer_changes_nothing_of_its_charge(streamed: bool) -> None:
    """A background task of the host app that fails, say: usage is known by then."""
    charge = charge_for(new_call(**complete, usage=REPORTED, stream=streamed), crashed=True)
    assert (charge.usage, charge.settlement) == (REPORTED, Settlement.EXACT)


def test_every_meter_is_settled_with_its_own_figure() -> None:
    charge = charge_for(new_call(**complete, usage=REPORTED), crashed=False)
    assert charge.amounts() == {
        Meter.REQUESTS: 1,
        Meter.INPUT_TOKENS: 90,
        Meter.OUTPUT_TOKENS: 40,
        Meter.TOTAL_TOKENS: 130,
        Meter.COST_USD: 90 * INPUT + 40 * OUTPUT,
        Meter.CONCURRENCY: 0,
        Meter.WALL_CLOCK: 0,
    }


def test_what_expires_is_charged_as_reserved() -> None:
    charge = charge_as_bound(BOUND, Settlement.EXPIRED, Outcome.EXPIRED)
    assert charge == Charge(RESERVED, BOUND.cost, Settlement.EXPIRED, Outcome.EXPIRED)
    nothing = charge_as_bound(None, Settlement.EXPIRED, Outcome.EXPIRED)
    assert nothing == Charge(NOTHING, 0, Settlement.EXPIRED, Outcome.EXPIRED)


def test_what_dry_run_leaves_a_call_caps_what_its_counters_are_charged() -> None:
    charge = charge_for(new_call(**complete, usage=REPORTED))
    assert shadow_charge(new_call(), charge) == charge
    assert shadow_charge(new_call(shadow_output=40), charge) == charge
    capped = shadow_charge(new_call(shadow_output=15), charge)
    assert capped.usage == replace(REPORTED, output_tokens=15)
    assert capped.cost == 90 * INPUT + 15 * OUTPUT


@pytest.mark.parametrize(
    ("price", "deployment_is_named", "charged_as"),
    [
        (ConfiguredPrice("group", same_as="gpt-4o"), True, "gpt-4o-mini"),
        # The model's own name for itself may mean anything, behind a name that an operator has priced.
        (ConfiguredPrice("group", same_as="gpt-4o"), False, "group"),
        (ConfiguredPrice("group", same_as="gpt-4o", input_usd_per_mtok=Decimal(1)), True, "group"),
    ],
    ids=["LiteLLM says who served", "the answer does", "a rate of its own"],
)
def test_a_price_that_stands_in_gives_way_to_that_of_the_deployment_that_served(
    price: ConfiguredPrice, deployment_is_named: bool, charged_as: str
) -> None:
    book = PriceBook([price])
    call = new_call(
        price=book.find("group"),
        find_price=book.find,
        model_served="openai/gpt-4o-mini",
        deployment_is_named=deployment_is_named,
    )
    assert call.settled_price == book.find(charged_as)
