"""On whose behalf: pins, headers, the protocol's own fields, and the limits that count over them."""

from __future__ import annotations

from typing import Any

import pytest

from govmiddleware.core import ids


def per(scope: str, **more: Any) -> dict[str, Any]:
    return {"name": scope, "scope": scope, "meter": "requests", "rate": "1/minute", **more}


async def codes(post: Any, app: Any, *requests: dict[str, Any]) -> list[int]:
    return [(await post(app, **request)).status_code for request in requests]


def named(**headers: str) -> dict[str, Any]:
    return {"headers": {name.replace("_", "-"): value for name, value in headers.items()}}


async def test_headers_say_on_whose_behalf(governed, inside, post) -> None:
    governance = await governed()
    headers = named(
        x_gov_user="ann", x_gov_session="s1", x_gov_agent="coder", x_gov_tags="team=search,urgent"
    )
    await post(governance.stack(inside), **headers)
    [found] = [call.attribution for call in inside.calls]
    assert (found.user, found.session, found.agent) == ("ann", "s1", "coder")
    assert found.tags == (("tag", "urgent"), ("team", "search"))


async def test_the_tokens_pins_beat_the_headers(governed, inside, post, secret) -> None:
    token = {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token(secret)}
    pins = {"user": "bot", "agent": "ci", "tags": {"team": "infra"}}
    governance = await governed(api_tokens=[token | pins])
    headers = named(x_gov_user="ann", x_gov_agent="x", x_gov_session="s1", x_gov_tags="team=search,env=dev")
    await post(governance.stack(inside), user="bob", **headers)
    [found] = [call.attribution for call in inside.calls]
    assert (found.user, found.session, found.agent) == ("bot", "s1", "ci")
    assert found.tags == (("env", "dev"), ("team", "infra"))


async def test_pinned_mode_believes_no_caller(governed, inside, post, secret) -> None:
    governance = await governed(attribution="pinned", limits=[per("user")])
    headers = named(x_gov_user="ann", x_gov_session="s1", x_gov_agent="x", x_gov_tags="team=search")
    assert await codes(
        post, governance.stack(inside), headers | {"user": "ann"}, named(x_gov_user="bob") | {"user": "bob"}
    ) == [200, 429]
    [found] = [call.attribution for call in inside.calls]
    assert (found.user, found.session, found.agent, found.tags) == ("anonymous",) * 3 + ((),)


async def test_the_protocols_own_user_counts_where_no_header_names_one(governed, inside, post) -> None:
    governance = await governed()
    app = governance.stack(inside)
    await post(app, user="ann")
    await post(app, user="ann", **named(x_gov_user="bob"))
    await post(app, safety_identifier="cem", user="ann")
    assert [call.attribution.user for call in inside.calls] == ["ann", "bob", "cem"]


@pytest.mark.parametrize("scope", ["user", "session", "agent"])
async def test_each_value_has_a_counter_of_its_own_and_the_nameless_share_one(
    governed, inside, post, scope
) -> None:
    governance = await governed(limits=[per(scope)])
    ann, bob = named(**{f"x_gov_{scope}": "ann"}), named(**{f"x_gov_{scope}": "bob"})
    found = await codes(post, governance.stack(inside), ann, bob, ann, {}, {}, bob)
    assert found == [200, 200, 429, 200, 429, 429]


async def test_who_takes_the_name_of_the_nameless_shares_their_counter(governed, inside, post) -> None:
    governance = await governed(limits=[per("user")])
    assert await codes(post, governance.stack(inside), {}, named(x_gov_user="anonymous")) == [200, 429]


async def test_a_limit_with_a_value_binds_that_value_alone(governed, inside, post) -> None:
    governance = await governed(limits=[per("user", value="ann")])
    ann, bob = named(x_gov_user="ann"), named(x_gov_user="bob")
    assert await codes(post, governance.stack(inside), ann, ann, bob, bob, {}, {}) == [
        200,
        429,
        200,
        200,
        200,
        200,
    ]


async def test_the_same_name_in_two_workspaces_is_two_users(governed, inside, post) -> None:
    tokens = [
        {"name": "ci", "workspace": workspace, "sha256": ids.hash_api_token(workspace)}
        for workspace in ("acme", "umbrella")
    ]
    governance = await governed(api_tokens=tokens, limits=[per("user")])
    ann = named(x_gov_user="ann")
    found = await codes(
        post, governance.stack(inside), {"secret": "acme", **ann}, {"secret": "umbrella", **ann}
    )
    assert found == [200, 200]


@pytest.mark.parametrize("header", ["x-gov-user", "x-gov-session", "x-gov-agent", "x-gov-tags"])
@pytest.mark.parametrize("value", [b"\xff", b"a\x7fb", "a\u2028b".encode(), b"x" * 3000])
async def test_names_that_cannot_stand_in_a_counter_are_refused_by_header(
    governed, inside, post, header, value
) -> None:
    governance = await governed()
    answer = await post(governance.stack(inside), headers={header: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == header
    assert inside.reached == 0


async def test_well_known_clients_name_their_sessions(governed, inside, post) -> None:
    governance = await governed()
    app = governance.stack(inside)
    for header in ("x-gov-thread", "x-gov-conversation", "x-claude-code-session-id", "session-id"):
        await post(app, headers={header: "s1"})
    assert [call.attribution.session for call in inside.calls] == ["s1"] * 4


async def test_a_name_with_odd_characters_keeps_its_own_counter(governed, inside, post, journal) -> None:
    governance = await governed(limits=[per("user")])
    names = ["ann:smith", "{acme}", "ann smith", "änn", "*", "gov:x 1 2"]
    found = await codes(
        post,
        governance.stack(inside),
        *(named(x_gov_user=name.encode()) for name in names),  # type: ignore[arg-type]
    )
    assert found == [200] * len(names)
    counters = {counter for record in await journal(governance) for counter in record["holds"]}
    assert counters == {f"user:requests:60s:{name}" for name in names}
