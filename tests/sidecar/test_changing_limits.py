"""A sidecar that runs takes up the limits that others store."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

HEADERS = {"authorization": f"Bearer {SECRET}"}
ADMIN = {"authorization": "Bearer the admin's own"}
CLOSED = {"scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 0}


def test_a_limit_set_at_one_sidecar_binds_at_all_of_them_within_three_seconds(
    run_sidecar: Callable[..., RunningSidecar],
) -> None:
    one, other = run_sidecar(admin_token="the admin's own"), run_sidecar()

    def status(sidecar: RunningSidecar) -> int:
        return httpx.get(f"{sidecar.url}/v1/models", headers=HEADERS).status_code

    assert (status(one), status(other)) == (200, 200)
    changed = time.monotonic()
    assert httpx.put(f"{one.url}/gov/api/v1/limits/closed", json=CLOSED, headers=ADMIN).status_code == 201
    assert status(one) == 429, "at once where it was changed"
    assert until(lambda: status(other) == 429)
    assert time.monotonic() - changed < 3
