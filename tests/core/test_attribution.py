"""On whose behalf, as the headers say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.attribution import LONGEST_NAME, read_attribution
from govmiddleware.core.call import Attribution, Principal
from govmiddleware.core.refusals import InvalidRequest

NOBODY = Principal("acme", "ci")


def read(headers: dict[str, Any], principal: Principal = NOBODY, *, trust_caller: bool = True) -> Attribution:
    given = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    return read_attribution(given, principal, trust_caller=trust_caller)


def test_who_is_not_named_is_anonymous() -> None:
    assert read({}) == Attribution("anonymous", "anonymous", "anonymous", ())


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("x-gov-user", "x-litellm-end-user-id"),
        ("x-litellm-end-user-id", "x-litellm-customer-id"),
    ],
)
def test_our_header_beats_those_of_others(first, then) -> None:
    assert read({then: "b", first: "a"}).user == "a"
    assert read({then: "b", first: ""}).user == "b", "an empty one names nobody"


@pytest.mark.parametrize(
    "header",
    [
        "x-gov-session",
        "x-gov-thread",
        "x-gov-conversation",
        "x-claude-code-session-id",
        "session-id",
        "x-litellm-session-id",
    ],
)
def test_sessions_have_many_names(header) -> None:
    assert read({header: "s1"}).session == "s1"


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("team=search,env=prod", {"team": "search", "env": "prod"}),
        (" team=search , env=prod ", {"team": "search", "env": "prod"}),
        ("urgent", {"tag": "urgent"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
        ("=b,,", {}),
        ("a=1,a=2", {"a": "2"}),
        ("team = search", {"team": "search"}),
    ],
)
def test_tags_are_pairs_and_bare_words(written, tags) -> None:
    found = read({"x-gov-tags": written}).tags
    assert dict(found) == tags
    assert list(found) == sorted(found)


def test_pins_beat_headers_and_tags_are_merged() -> None:
    pinned = Principal("acme", "ci", user="bot", agent="ci", tags=(("team", "infra"),))
    found = read({"x-gov-user": "ann", "x-gov-agent": "x", "x-gov-tags": "team=x,env=dev"}, pinned)
    assert (found.user, found.agent) == ("bot", "ci")
    assert found.tags == (("env", "dev"), ("team", "infra"))


def test_a_caller_that_is_not_trusted_names_nothing() -> None:
    headers = {"x-gov-user": "ann", "x-gov-session": "s", "x-gov-agent": "x", "x-gov-tags": "a=b"}
    assert read(headers, trust_caller=False) == Attribution()
    assert read({"x-gov-user": b"\xff"}, trust_caller=False) == Attribution()


def test_names_are_bounded_in_length_and_tags_in_number() -> None:
    assert read({"x-gov-user": "ä" * LONGEST_NAME}).user == "ä" * LONGEST_NAME
    with pytest.raises(InvalidRequest, match="x-gov-user"):
        read({"x-gov-user": "a" * (LONGEST_NAME + 1)})
    read({"x-gov-tags": ",".join(f"t{n}=v" for n in range(16))})
    with pytest.raises(InvalidRequest, match="16 tags"):
        read({"x-gov-tags": ",".join(f"t{n}=v" for n in range(17))})


@given(st.binary(max_size=300))
def test_whatever_a_header_holds_is_a_printable_name_or_refused(value: bytes) -> None:
    try:
        found = read({"x-gov-user": value, "x-gov-tags": value})
    except InvalidRequest:
        return
    assert found.user.isprintable()
    assert len(found.user.splitlines()) == 1
    assert all(name and name.isprintable() and text.isprintable() for name, text in found.tags)
