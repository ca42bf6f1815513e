"""Identifiers that we mint."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core import ids


def test_request_ids_are_unique_and_carry_their_time(monkeypatch) -> None:
    found = {ids.new_request_id() for _ in range(1000)}
    assert len(found) == 1000
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", each) for each in found)
    monkeypatch.setattr("time.time_ns", lambda: 0x0123456789AB * 1_000_000)
    assert ids.new_request_id().startswith("req_0123456789ab")


def test_request_ids_sort_by_time(monkeypatch) -> None:
    minted = []
    for milliseconds in (1, 15, 16, 1 << 40):
        monkeypatch.setattr("time.time_ns", lambda now=milliseconds: now * 1_000_000)
        minted.append(ids.new_request_id())
    assert minted == sorted(minted)


def test_a_new_api_token_is_well_formed_and_looks_like_one() -> None:
    secret = ids.new_api_token()
    assert re.fullmatch(r"gov_[0-9A-Za-z]{36}", secret)
    assert ids.is_well_formed_api_token(secret)
    assert ids.looks_like_api_token(secret)
    assert secret != ids.new_api_token()


@given(st.integers(4, 39), st.sampled_from("0aZ_é "))
def test_a_typo_in_an_api_token_is_noticed(place: int, character: str) -> None:
    secret = ids.new_api_token()
    wrong = secret[:place] + character + secret[place + 1 :]
    assert ids.is_well_formed_api_token(wrong) == (wrong == secret)


@given(st.text())
def test_nothing_that_clients_send_breaks_the_check(text: str) -> None:
    assert not ids.is_well_formed_api_token(text)
    assert not ids.is_well_formed_api_token("gov_" + text)
    assert ids.looks_like_api_token("gov_" + text)


@pytest.mark.parametrize("secret", ["open sesame", "schlüssel 🗝"])
def test_the_hash_is_the_sha256_of_the_text_in_utf_8(secret: str) -> None:
    assert ids.hash_api_token(secret) == hashlib.sha256(secret.encode()).hexdigest()


def test_the_hash_of_a_header_that_is_no_utf_8_is_of_its_bytes() -> None:
    header = b"\xff\xfe secret"
    text = header.decode("utf-8", "surrogateescape")
    assert ids.hash_api_token(text) == hashlib.sha256(header).hexdigest()


def test_api_token_ids_say_nothing_of_the_secret() -> None:
    assert re.fullmatch(r"tok_[0-9a-f]{16}", ids.new_api_token_id())
    assert ids.new_api_token_id() != ids.new_api_token_id()
