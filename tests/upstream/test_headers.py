"""Which headers cross the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from govmiddleware.core.call import Attribution
from govmiddleware.core.ids import new_api_token
from govmiddleware.upstream.headers import (
    declared_length,
    request_headers,
    response_headers,
    with_litellms_names,
)

OURS = new_api_token().encode()


def sent(headers: list[tuple[bytes, bytes]], **options: Any) -> list[tuple[bytes, bytes]]:
    defaults: dict[str, Any] = {
        "upstream_auth": "replace",
        "upstream_api_key": None,
        "protocol": "openai.chat",
        "request_id": "req_1",
    }
    return request_headers([*headers, (b"x-request-id", b"theirs")], **(defaults | options))[:-1]


def test_headers_that_end_at_this_hop_are_not_sent_on() -> None:
    names = b"connection keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
    for name in [*names.split(), b"host", b"expect", b"content-length", b"x-gov-user"]:
        assert sent([(name, b"x"), (b"accept", b"*/*")]) == [(b"accept", b"*/*")], name


def test_headers_that_connection_names_end_here_too() -> None:
    given = [
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"connection", b"b"),
        (b"b", b"2"),
        (b"c", b"3"),
    ]
    assert sent(given) == [(b"c", b"3")]
    assert response_headers(given, 200) == [(b"c", b"3")]


def test_connection_cannot_take_back_what_the_gateway_says_of_a_call() -> None:
    judged = [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
    assert sent([(b"connection", b"content-type, accept-encoding"), *judged]) == judged


@pytest.mark.parametrize(
    "name",
    [
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-url",
        b"x-litellm-num-retries",
        b"x-litellm-timeout",
        b"x-rewrite-url",
        b"x-goog-fieldmask",
        b"x-vertex-ai-llm-shared-request-type",
        b"x-amzn-bedrock-service-tier",
        b"x-amzn-bedrock-performanceconfig-latency",
        b"proxy",
    ],
)
def test_headers_by_which_another_request_would_be_served_are_not_sent_on(name: bytes) -> None:
    assert sent([(name, b"x")]) == []


@pytest.mark.parametrize(
    "name", [b"x_gov_user", b"x_api_key", b"transfer_encoding", b"content_length", b"x_original_url"]
)
def test_a_name_with_underscores_is_what_wsgi_would_make_of_it(name: bytes) -> None:
    assert sent([(name, b"x"), (b"session_id", b"1")]) == [(b"session_id", b"1")]


def test_control_characters_in_a_value_become_spaces() -> None:
    given = [(b"x-a", b"\x001\x012\x7f3\t4\xff\x1f")]
    assert sent(given) == response_headers(given, 200) == [(b"x-a", b"1 2 3\t4\xff")]


def test_order_and_duplicates_are_kept() -> None:
    given = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"b", b"1")]
    assert sent(given) == given
    assert response_headers(given, 200) == given


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-litellm-api-key",
        b"ocp-apim-subscription-key",
        b"x-amz-security-token",
        b"cookie",
    ],
)
class TestACredentialOfTheClient:
    def test_is_replaced(self, name: bytes) -> None:
        assert sent([(name, b"theirs")]) == []

    def test_is_forwarded_where_that_is_configured(self, name: bytes) -> None:
        assert sent([(name, b"theirs")], upstream_auth="forward") == [(name, b"theirs")]

    @pytest.mark.parametrize(
        "value",
        [
            OURS,
            b"Bearer " + OURS,
            b"bearer  " + OURS,
            b"a=b; c=" + OURS,
            b'x="' + OURS + b'"',
            b"AWS4-HMAC-SHA256 Credential=" + OURS + b"/20261122/us-east-1",
        ],
        ids=["bare", "bearer", "two spaces", "cookie", "quoted", "signed"],
    )
    def test_is_never_forwarded_if_it_is_an_api_token_of_ours(self, name: bytes, value: bytes) -> None:
        assert sent([(name, value)], upstream_auth="forward") == []


def test_the_upstream_key_is_a_bearer_credential_or_what_anthropic_and_google_want() -> None:
    for protocol, expected in {
        "openai.chat": (b"authorization", b"Bearer sk"),
        "anthropic.messages": (b"x-api-key", b"sk"),
        "gemini": (b"x-goog-api-key", b"sk"),
        "ollama.chat": (b"authorization", b"Bearer sk"),
    }.items():
        headers = request_headers(
            [(b"authorization", b"Bearer x"), (b"x-api-key", b"x")],
            upstream_auth="replace",
            upstream_api_key="sk",
            protocol=protocol,
            request_id="req_1",
        )
        assert headers == [expected, (b"x-request-id", b"req_1")]


def test_the_upstream_key_is_not_added_to_a_forwarded_credential() -> None:
    assert sent([], upstream_auth="forward", upstream_api_key="sk") == []


def test_a_tag_called_tag_is_no_way_to_write_another_one_for_litellm() -> None:
    tags = (("tag", "team=other"), ("team", "search"))
    sent = dict(with_litellms_names([], Attribution(tags=tags)))
    assert sent == {b"x-litellm-tags": b"tag=team=other,team=search"}


def test_a_length_counts_unless_a_transfer_coding_overrides_it() -> None:
    assert declared_length([(b"content-length", b"5")]) == b"5"
    assert declared_length([(b"content-length", b"005")]) == b"5"
    assert declared_length([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]) is None
    assert declared_length([]) is None


def test_an_answers_length_is_kept_where_it_counts_the_bytes_that_follow() -> None:
    length = (b"content-length", b"5")
    assert response_headers([length], 200) == [length]
    assert response_headers([length], 304) == []
    assert response_headers([length], 204) == []
    assert response_headers([length, (b"transfer-encoding", b"chunked")], 200) == []
