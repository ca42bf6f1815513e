"""Links out of refusals: only what we signed is read, for a day, and none is longer than a link may be."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.attribution import LONGEST_NAME
from govmiddleware.core.call import Attribution, Call, Principal
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.refusals import (
    BudgetExhausted,
    Decision,
    Evaluation,
    ExpiredLink,
    LimitRefusal,
    RateLimited,
    Refusal,
    UnknownLink,
)
from govmiddleware.core.windows import window_named
from govmiddleware.protocols.registry import UNRECOGNISED
from govmiddleware.services.links import LIFE_SECONDS, Links, RefusedCall

NOW = 1_800_000_000
REFUSED = RefusedCall(
    "acme", "app", None, "ann", "req_1", "gpt-4o", "user-month", "user", "cost_usd", "ann", 2_000_000, NOW
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def links(clock: Clock | None = None, key: bytes = b"key") -> Links:
    return Links(lambda: key, "https://gov.example/gov", clock or Clock())


def refused(name: str = "month", value: str = "ann", *, rate: bool = False, asked: int = 1) -> Evaluation:
    window = window_named("60s" if rate else "month")
    limit = Limit(name, "user", Meter.REQUESTS, window, 10)
    return Evaluation(limit, value, 10, 0, 10 + asked, Decision.BLOCK)


def call(named: str = "ann", **principal: Any) -> Call:
    return Call(
        request_id="req_1",
        protocol=UNRECOGNISED,
        method="POST",
        path="/",
        model_call=True,
        principal=Principal("acme", "app", **principal),
        attribution=Attribution(user=named),
    )


def test_a_link_says_who_was_refused_by_what() -> None:
    refusal = BudgetExhausted("no", (refused("month"), refused("day")), None)
    link = links().link_for(call(), refusal)
    assert link is not None
    base, _, token = link.rpartition("/")
    assert base == "https://gov.example/gov/refusals"
    said = links().read(token)
    assert (said.workspace, said.api_token, said.user, said.on_behalf_of) == ("acme", "app", None, "ann")
    assert (said.limit, said.value, said.asked, said.at) == ("month", "ann", 1, NOW)
    person = said.person
    assert (person.name, person.role, person.workspace, person.user) == ("api_token:app", None, "acme", None)


def test_a_user_that_the_caller_only_names_is_not_who_asks() -> None:
    token = str(links().link_for(call("eve", user="ann"), BudgetExhausted("no", (refused(),), None)))
    said = links().read(token.rpartition("/")[2])
    assert (said.user, said.on_behalf_of) == ("ann", "eve")


@pytest.mark.parametrize(
    ("refusal", "limit"),
    [
        (RateLimited("no", (refused(rate=True),), 100), None),
        (RateLimited("no", (refused("large", rate=True, asked=11),), None), "large"),
        (BudgetExhausted("no", (refused("month"), refused("minute", rate=True)), None), "month"),
    ],
    ids=["frees by itself", "can never fit", "a budget and a rate"],
)
def test_only_what_waiting_does_not_help_has_a_link(refusal: LimitRefusal, limit: str | None) -> None:
    link = links().link_for(call(), refusal)
    assert (link and links().read(link.rpartition("/")[2]).limit) == limit


def test_names_that_are_as_long_as_they_may_be_fit_and_longer_ones_have_no_link() -> None:
    longest = "\N{PILE OF POO}" * LONGEST_NAME
    pair = f"{longest}\x1f{longest}"
    refusal = BudgetExhausted("no", (refused(value=pair),), None)
    assert len(str(links().link_for(call(longest), refusal))) < 4200
    beyond = BudgetExhausted("no", (refused(value=pair * 3),), None)
    assert links().link_for(call(longest), beyond) is None


def test_a_link_is_good_for_a_day() -> None:
    clock = Clock()
    token = links(clock).token(REFUSED)
    clock.now += LIFE_SECONDS
    assert links(clock).read(token) == REFUSED
    clock.now += 1
    with pytest.raises(ExpiredLink, match="Make the call again"):
        links(clock).read(token)


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_no_bit_of_a_link_can_be_changed(place: int, bit: int) -> None:
    token = links().token(REFUSED)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(UnknownLink):
        links().read(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


@given(
    token=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]{1,200}", fullmatch=True), st.just("A" * 5000))
)
def test_whatever_is_no_link_is_refused_as_such(token: str) -> None:
    with pytest.raises(UnknownLink):
        links().read(token)


def test_links_of_another_deployment_are_not_ours() -> None:
    with pytest.raises(Refusal):
        links(key=b"another").read(links().token(REFUSED))
