"""The JSON body: what was judged is what is sent on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=5)


@given(OBJECTS, st.booleans())
def test_a_body_is_sent_on_as_the_object_it_is(given_object: dict[str, object], ascii_only: bool) -> None:
    body = RequestBody(json.dumps(given_object, ensure_ascii=ascii_only).encode())
    assert json.loads(body.serialise()) == given_object


@given(OBJECTS, st.dictionaries(NAMES, JSON, max_size=3))
def test_its_length_is_known_without_building_it_and_after_every_edit(
    given_object: dict[str, object], edits: dict[str, object]
) -> None:
    body = RequestBody(json.dumps(given_object).encode())
    assert len(body) == len(RequestBody(json.dumps(given_object).encode()).serialise())
    for name, value in edits.items():
        body.set(name, value)
        before = len(body)
        assert before == len(body.serialise()) == len(body)
    assert json.loads(body.serialise()) == {**given_object, **edits}


def test_values_that_nobody_edits_stay_byte_for_byte() -> None:
    raw = b'{ "a" : 1.0e+2 ,"b":[ 1 , 2 ],"c":"\\u00e9" }'
    body = RequestBody(raw)
    body.set("d", 1)
    assert body.serialise() == b'{"a":1.0e+2,"b":[ 1 , 2 ],"c":"\\u00e9","d":1}'
    assert (body.raw("b"), body.raw("missing")) == (b"[ 1 , 2 ]", None)


def test_of_duplicates_the_last_wins_however_its_key_is_written() -> None:
    body = RequestBody(b'{"model": "cheap", "mod\\u0065l": "dear"}')
    assert body.serialise() == b'{"model":"dear"}'


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"1", b'{"a":1}{}', b"{'a':1}", b'{"a":}', b"\xff{}"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a valid JSON object"):
        RequestBody(raw)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        body = RequestBody(raw)
    except InvalidRequest:
        return
    assert len(body) == len(body.serialise())


@pytest.mark.parametrize(
    ("field", "name"),
    [("MODEL", "model"), ("Model", "model"), ("uſer", "user"), ("max_to\u212aens", "max_tokens")],
)
def test_look_alikes_of_judged_names_are_refused(field: str, name: str) -> None:
    body = RequestBody(json.dumps({field: 1}).encode())
    with pytest.raises(InvalidRequest, match=f"Write '{name}' in lower case") as raised:
        body.refuse_look_alikes(frozenset({"model", "user", "max_tokens"}))
    assert raised.value.param == field


def test_names_that_only_resemble_pass() -> None:
    body = RequestBody(b'{"model": 1, "models": 1, "mode1": 1, "X-Model": 1}')
    body.refuse_look_alikes(frozenset({"model"}))
