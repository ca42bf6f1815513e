"""Who may call: the ways to bring an API token, and what becomes of those that are no good."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis
from tests.middleware.conftest import SECRET

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.services.api_tokens import REMEMBERED_SECONDS


async def stored_token(governance: Governance, **fields: Any) -> tuple[str, StoredApiToken]:
    """A token in the store, and its secret."""
    secret = ids.new_api_token()
    token = StoredApiToken(
        **{
            "id": ids.new_api_token_id(),
            "name": "stored",
            "workspace": "acme",
            "role": "operator",
            "created_at": 1,
            **fields,
        }
    )
    await governance.api_token_store.add(token, ids.hash_api_token(secret))
    return secret, token


def commands(store: str) -> int:
    """How many commands of clients the store has carried out so far."""
    with Redis.from_url(store) as redis:
        found = redis.info("commandstats")
    internal = ("cmdstat_info", "cmdstat_client", "cmdstat_hello", "cmdstat_flushall", "cmdstat_config")
    return sum(stats["calls"] for name, stats in found.items() if not name.startswith(internal))


async def code(post: Any, app: Any, **options: Any) -> Any:
    answer = await post(app, **options)
    return answer.status_code if answer.is_success else (answer.status_code, answer.json()["error"]["code"])


UNKNOWN = (401, "invalid_api_key")


# Ways to bring it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer open sesame"},
        {"authorization": "bearer   open sesame "},
        {"x-api-key": "open sesame"},
        {"authorization": "Basic b3BlbjpzZXNhbWU=", "x-api-key": "open sesame"},
        {"authorization": "Bearer ", "x-api-key": "open sesame"},
    ],
)
async def test_a_token_comes_as_bearer_or_as_x_api_key(governed, inside, post, headers) -> None:
    governance = await governed()
    assert await code(post, governance.stack(inside), secret=None, headers=headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "open sesame"},
        {"authorization": "Basic open sesame"},
        {"authorization": "Bearer open"},
        {"authorization": "Bearer open sesame2"},
        {"authorization": "Bearer Open Sesame"},
        {"api-key": "open sesame"},
        {"authorization": b"Bearer \xff\xfe"},
        {"authorization": "Bearer " + "x" * 10_000},
    ],
)
async def test_anything_else_is_a_401_in_the_protocols_envelope(governed, inside, post, headers) -> None:
    governance = await governed()
    answer = await post(governance.stack(inside), secret=None, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == UNKNOWN
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-gov-request-id"].startswith("req_")
    assert inside.reached == 0


@pytest.mark.parametrize("secret", ["schlüssel 🗝", "日本語", "a:b=c/d+e", "sk-proj-Ab_9", "gov_mine"])
async def test_any_string_can_be_the_secret_of_a_configured_token(governed, inside, post, secret) -> None:
    token = {"name": "odd", "workspace": "acme", "sha256": ids.hash_api_token(secret).upper()}
    governance = await governed(api_tokens=[token])
    assert await code(post, governance.stack(inside), secret=secret) == 200


# Stored ones --------------------------------------------------------------------------------------


async def test_a_stored_token_is_its_principal_with_its_pins(governed, inside, post) -> None:
    governance = await governed()
    secret, token = await stored_token(
        governance, name="ide", user="ann", agent="coder", tags={"team": "x"}, role="admin"
    )
    assert await code(post, governance.stack(inside), secret=secret) == 200
    principal = inside.calls[0].principal
    assert (principal.api_token, principal.stored_id, principal.role) == ("ide", token.id, "admin")
    assert (principal.user, principal.agent, principal.tags) == ("ann", "coder", (("team", "x"),))


async def test_a_stored_token_is_looked_up_once_and_checked_at_every_admission(
    governed, inside, post, gov_store
) -> None:
    governance = await governed()
    secret, _ = await stored_token(governance)
    app = governance.stack(inside)
    asked = {}
    with Redis.from_url(gov_store) as redis:
        for each in (SECRET, secret):
            assert await code(post, app, secret=each) == 200
            redis.config_resetstat()
            assert await code(post, app, secret=each) == 200
            found = redis.info("commandstats")
            asked[each] = {name: stats["calls"] for name, stats in found.items()}
    assert asked[secret] == asked[SECRET] | {"cmdstat_sismember": 1}
    assert asked[secret]["cmdstat_evalsha"] == 1 + 1, "one admission, one settlement"


@pytest.mark.parametrize(
    "malformed",
    ["gov_", "gov_wrong", "gov_" + "A" * 36, ids.new_api_token()[:-1] + "!", ids.new_api_token() + "A"],
    ids=["empty", "short", "no checksum", "a strange character", "too long"],
)
async def test_a_malformed_token_never_asks_the_store(governed, inside, post, gov_store, malformed) -> None:
    governance = await governed()
    before = commands(gov_store)
    assert await code(post, governance.stack(inside), secret=malformed) == UNKNOWN
    assert commands(gov_store) == before
    await post(governance.stack(inside), secret=ids.new_api_token())
    assert commands(gov_store) == before + 2, "a well-formed one does: for it, and whether any were lost"


@pytest.mark.parametrize("secret", ["sk-1234", "schlüssel 🗝", "a:b=c/d+e"])
async def test_any_string_can_be_the_secret_of_a_stored_token_too(governed, inside, post, secret) -> None:
    governance = await governed()
    assert await code(post, governance.stack(inside), secret=secret) == UNKNOWN
    token = StoredApiToken(ids.new_api_token_id(), "brought", "acme", "operator", 1)
    await governance.api_token_store.add(token, ids.hash_api_token(secret))
    assert await code(post, governance.stack(inside), secret=secret) == 200
    assert inside.calls[0].principal.api_token == "brought"


async def test_a_token_that_was_rotated_ends_everywhere_when_its_overlap_does(
    governed, inside, post, monkeypatch
) -> None:
    governance = await governed()
    secret, token = await stored_token(governance)
    app, now = governance.stack(inside), time.time()
    assert await code(post, app, secret=secret) == 200
    successor = replace(token, id=ids.new_api_token_id())
    new = ids.new_api_token()
    await governance.api_token_registry.rotate(
        token, successor, ids.hash_api_token(new), old_until=int(now) + 3600, actor="cli"
    )
    assert await code(post, app, secret=secret) == await code(post, app, secret=new) == 200
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert await code(post, app, secret=secret) == 200, "until it is looked up again"
    later = time.monotonic() + REMEMBERED_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert await code(post, app, secret=secret) == (401, "invalid_api_key")
    assert await code(post, app, secret=new) == 200


async def test_a_well_formed_token_that_nobody_made_is_unknown(governed, inside, post) -> None:
    governance = await governed()
    assert await code(post, governance.stack(inside), secret=ids.new_api_token()) == UNKNOWN


async def test_an_expired_token_is_refused_and_says_why(governed, inside, post) -> None:
    governance = await governed()
    secret, _ = await stored_token(governance, expires_at=int(time.time()) - 1)
    answer = await post(governance.stack(inside), secret=secret)
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]
    secret, _ = await stored_token(governance, expires_at=int(time.time()) + 60)
    assert await code(post, governance.stack(inside), secret=secret) == 200


async def test_a_revoked_token_is_refused_by_a_replica_that_knew_it(governed, inside, post) -> None:
    here, there = await governed(), await governed()
    secret, token = await stored_token(here)
    app = there.stack(inside)
    assert await code(post, app, secret=secret) == 200
    assert await here.api_token_store.revoke(token)
    answer = await post(app, secret=secret)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["error"]["message"]
    assert inside.reached == 1


async def test_authenticate_alone_sees_a_revocation_too(governed, inside, post) -> None:
    from govmiddleware.middleware import Authenticate

    governance = await governed()
    secret, token = await stored_token(governance)
    app = Authenticate(inside, api_tokens=governance.api_tokens, reservations=governance.reservations)
    assert await code(post, app, secret=secret) == 200
    await governance.api_token_store.revoke(token)
    assert await code(post, app, secret=secret) == UNKNOWN


# The throttle of failed logins --------------------------------------------------------------------

THROTTLED = (429, "too_many_failed_logins")


async def test_failed_logins_are_throttled_by_address(governed, inside, post) -> None:
    governance = await governed(login_throttle="2/minute")
    app = governance.stack(inside)
    codes = [await code(post, app, secret="wrong") for _ in range(3)]
    assert codes == [UNKNOWN, UNKNOWN, THROTTLED]
    answer = await post(app, secret="wrong")
    assert answer.headers["retry-after"] == "60"
    assert await code(post, app, secret="wrong", peer=("192.0.2.2", 1)) == UNKNOWN


async def test_behind_a_throttled_address_tokens_known_to_be_good_still_pass(governed, inside, post) -> None:
    governance = await governed(login_throttle="1/minute")
    app = governance.stack(inside)
    assert await code(post, app) == 200
    secret, _ = await stored_token(governance)
    assert [await code(post, app, secret="wrong") for _ in range(2)] == [UNKNOWN, THROTTLED]
    assert await code(post, app) == 200
    assert await code(post, app, secret=secret) == THROTTLED, "nobody has seen this one before"


async def test_requests_without_a_token_are_not_failed_logins(governed, inside, post) -> None:
    governance = await governed(login_throttle="1/minute")
    app = governance.stack(inside)
    assert [await code(post, app, secret=None) for _ in range(3)] == [UNKNOWN] * 3
    assert await code(post, app) == 200


async def test_behind_a_trusted_proxy_the_client_it_names_is_throttled(governed, inside, post) -> None:
    governance = await governed(login_throttle="1/minute", trusted_proxies=["192.0.2.0/24"])
    app = governance.stack(inside)

    async def fail(forwarded: str) -> Any:
        return await code(post, app, secret="wrong", headers={"x-forwarded-for": forwarded})

    assert await fail("203.0.113.1") == UNKNOWN
    assert await fail("203.0.113.2") == UNKNOWN
    assert await fail("203.0.113.1") == THROTTLED
    assert await fail("1.1.1.1, 203.0.113.1") == THROTTLED, "what the client itself forwards is no word"


async def test_nobody_elses_x_forwarded_for_counts(governed, inside, post) -> None:
    governance = await governed(login_throttle="1/minute")
    app = governance.stack(inside)
    codes = [
        await code(post, app, secret="wrong", headers={"x-forwarded-for": f"203.0.113.{n}"}) for n in range(2)
    ]
    assert codes == [UNKNOWN, THROTTLED]
