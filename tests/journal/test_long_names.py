"""Names as long as callers may make them: one that a database could not take would keep all after it out."""

from __future__ import annotations

import random
from collections.abc import Callable

from govmiddleware.core.attribution import LONGEST_NAME, read_attribution
from govmiddleware.core.call import Principal
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.scopes import pair_value
from govmiddleware.journal.history import SqlHistory
from govmiddleware.protocols.fields import bounded_name
from tests.journal.test_history import entry

_random = random.Random(5)


def longest(check: Callable[[str], object]) -> str:
    """What passes, of characters of four bytes that no database compresses."""
    name = "".join(chr(_random.randrange(0x20000, 0x2A000)) for _ in range(20 * LONGEST_NAME))
    while name:
        try:
            check(name)
        except InvalidRequest:
            name = name[:-1]
        else:
            return name
    raise AssertionError("none passes")


def in_header(header: str, form: str = "{}") -> Callable[[str], object]:
    def check(name: str) -> object:
        headers = [(header.encode(), form.format(name).encode())]
        return read_attribution(headers, Principal("acme", "ci"), trust_caller=True)

    return check


async def test_the_longest_names_that_callers_may_have_are_drained(history: SqlHistory) -> None:
    user = longest(in_header("x-gov-user"))
    session = longest(in_header("x-gov-session"))
    agent = longest(in_header("x-gov-agent"))
    tag = longest(in_header("x-gov-tags", "{}=x"))
    team = longest(in_header("x-gov-tags", "team={}"))
    model = longest(lambda name: bounded_name(name, "model"))
    record = entry(
        "1-0",
        (f"user+model:cost_usd:month:{pair_value(user, model)}", 0, 5),
        (f"session+tag:team:cost_usd:month:{pair_value(session, team)}", 0, 5),
        api_token="t" * LONGEST_NAME,
        user=user,
        session=session,
        agent=agent,
        model_requested=model,
        tags={tag: "x", "team": team},
    )
    assert await history.append("acme", [record]) == 1
