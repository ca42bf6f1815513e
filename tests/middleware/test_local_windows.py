"""Windows in a time zone and of days, from the settings to the store: they end when they should."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from govmiddleware.services.audit import audit
from govmiddleware.testing import Clock

ONE = {"name": "one", "scope": "workspace", "meter": "requests", "hard": 1}


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("window", "begins", "ends"),
    [
        # The day on which clocks go back: 25 hours, its midnights at 22:00 and 23:00 UTC.
        ({"window": "day", "timezone": "Europe/Berlin"}, ms(2026, 10, 24, 22), ms(2026, 10, 25, 23)),
        ({"window": "month", "timezone": "Asia/Tokyo"}, ms(2026, 6, 30, 15), ms(2026, 7, 31, 15)),
        ({"window": "hour", "timezone": "Asia/Kathmandu"}, ms(2026, 6, 1, 0, 15), ms(2026, 6, 1, 1, 15)),
        ({"window": "30d", "anchor": "2026-03-01"}, ms(2026, 1, 30), ms(2026, 3, 1)),
    ],
    ids=str,
)
async def test_a_window_ends_and_the_next_one_begins(
    governed, inside, post, window: dict[str, str], begins: int, ends: int
) -> None:
    clock = Clock()
    governance = await governed(limits=[ONE | window], clock=clock)
    app = governance.stack(inside)
    codes = []
    for moment in (begins - 1, begins, ends - 1, ends):
        clock.now_ms = moment
        codes.append((await post(app)).status_code)
    assert codes == [200, 200, 429, 200]
    assert (await audit(governance.journal)).ok


async def test_a_session_may_run_so_long_from_its_first_use(governed, inside, post) -> None:
    clock = Clock()
    clock.advance(-100)  # reports go by the time that it is
    limit = {"name": "run", "scope": "session", "meter": "wall_clock", "hard": 60}
    governance = await governed(limits=[limit], clock=clock)
    app = governance.stack(inside)
    codes = []
    for seconds in (0, 59, 1):
        clock.advance(seconds)
        codes.append((await post(app, headers={"x-gov-session": "a"})).status_code)
    codes.append((await post(app, headers={"x-gov-session": "b"})).status_code)
    assert codes == [200, 200, 429, 200]
    first, second = await governance.usage.limit_states()
    assert 100 <= first["used"] <= 200
    assert (first["value"], first["remaining"]) == ("a", 0)
    assert 40 <= second["used"] <= 140
    assert (await audit(governance.journal)).ok
