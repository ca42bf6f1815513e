"""Large JSON is decoded in steps, and says the same as if it were decoded at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols import large_json
from govmiddleware.protocols.fields import read
from govmiddleware.protocols.large_json import decode, plain_texts
from govmiddleware.protocols.registry import recognise

SAID = st.sampled_from(
    ["", "Hi", "}, {", '"', '},{"role":', "data:text/plain;base64,AAAA", "\ud83d\ude00"]
) | st.text(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | SAID,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=60,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": SAID}), max_size=12
)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", ":")])


@pytest.fixture(scope="module", autouse=True)
def _nearly_everything_is_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "LARGE", 40)
        yield


def text_of(value: object, spaces: tuple[str, str], ascii_only: bool) -> bytes:
    return json.dumps(value, separators=spaces, ensure_ascii=ascii_only).encode("utf-8", "replace")


def outcome(decoder: Callable[..., object], raw: bytes, kind: Any) -> object:
    try:
        return decoder(raw, type=kind) if decoder is msgspec.json.decode else decoder(raw, kind)
    except msgspec.ValidationError as error:
        return str(error)


@settings(max_examples=25)
@given(JSON, SPACES, st.booleans())
def test_in_steps_it_is_the_same(value: object, spaces: tuple[str, str], ascii_only: bool) -> None:
    raw = text_of(value, spaces, ascii_only)
    assert decode(raw) == msgspec.json.decode(raw)


@settings(max_examples=25)
@given(
    st.lists(JSON, max_size=9),
    SPACES,
    st.sampled_from([list[dict[str, Any]], list[str], str, dict[str, Any]]),
)
def test_its_type_is_held_to_and_faults_are_where_they_are(
    value: object, spaces: tuple[str, str], kind: Any
) -> None:
    raw = text_of(value, spaces, True)
    assert outcome(decode, raw, kind) == outcome(msgspec.json.decode, raw, kind)


def test_a_fault_far_down_a_large_field_is_named() -> None:
    body = RequestBody(json.dumps({"tools": [{"type": "function"}] * 50 + [7]}).encode())
    with pytest.raises(InvalidRequest) as raised:
        read(body, "tools", list[dict[str, Any]])
    assert raised.value.param == "tools[50]"


@settings(max_examples=25)
@given(MESSAGES, SPACES, st.booleans())
def test_plain_messages_are_seen_whatever_they_say(
    messages: list[dict[str, str]], spaces: tuple[str, str], ascii_only: bool
) -> None:
    raw = text_of(messages, spaces, ascii_only)
    texts = plain_texts(raw)
    assert texts is None or texts == [message["content"] for message in json.loads(raw)]


def test_a_long_history_is_plain() -> None:
    assert plain_texts(text_of([{"role": "user", "content": "Hi"}] * 50, (", ", ": "), True)) == ["Hi"] * 50


@pytest.mark.parametrize(
    "odd",
    [
        {"role": "tool", "content": "x"},
        {"role": "user", "content": "x", "name": "y"},
        {"role": "user"},
        "x",
        1,
    ],
)
def test_what_is_not_plain_is_left_to_who_reads_it_all(odd: object) -> None:
    plain = [{"role": "user", "content": "Hi"}] * 50
    assert plain_texts(text_of([*plain, odd, *plain], (",", ":"), True)) is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@settings(max_examples=25)
@given(messages=MESSAGES)
def test_plain_messages_make_the_same_prompt_as_any(path: str, messages: list[dict[str, str]]) -> None:
    protocol = recognise("POST", path)
    assert protocol is not None

    def estimated(asked: object) -> tuple[list[str], int, int, Reach]:
        body = RequestBody(json.dumps({"model": "m", "max_tokens": 1, "messages": asked}).encode())
        info = protocol.read_request(body)
        # Where messages hold nothing else, an escaped character in them cannot be a `cache_control`'s.
        reach = replace(info.reach, cache_1h=False)
        return [text for text in info.texts if text], info.overhead_tokens, info.unknown_parts, reach

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "LARGE", 1 << 20)
        expected = estimated(messages)
    assert estimated(messages) == expected
