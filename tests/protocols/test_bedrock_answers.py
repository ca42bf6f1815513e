"""Reading converse's answers: usage, the tier, what was delivered, in JSON and in streams; and Bedrock's errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.protocols.failures import budget_exhausted, evaluation, rate_limited

from govmiddleware.core.limits import Meter
from govmiddleware.core.refusals import (
    InvalidRequest,
    Refusal,
    Unavailable,
    UpstreamFailed,
)
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.aws_frames import read_frame
from govmiddleware.protocols.bedrock_ending import event
from govmiddleware.protocols.bedrock_errors import refusal_response, stream_error
from govmiddleware.protocols.bedrock_reader import JsonReader, StreamReader

ROUTED = {
    "promptRouter": {"invokedModelId": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0"}
}


def used(fresh: Any, output: Any, **more: Any) -> dict[str, Any]:
    return {"usage": {"inputTokens": fresh, "outputTokens": output, **more}}


def read_json(*content: dict[str, Any], **fields: Any) -> JsonReader:
    reader = JsonReader()
    message = {"role": "assistant", "content": [*content]}
    reader.feed(json.dumps({"output": {"message": message}, **fields}).encode())
    reader.close()
    return reader


def read_stream(*frames: bytes) -> StreamReader:
    reader = StreamReader(may_be_cut=False)
    for frame in frames:
        assert reader.feed(frame) == frame
    assert reader.close() == b""
    return reader


def test_the_input_is_the_sum_with_what_the_cache_read_and_was_written() -> None:
    details = [
        {"ttl": "1h", "inputTokens": 30},
        {"ttl": "5m", "inputTokens": 10},
        {"ttl": "1h", "inputTokens": 5},
    ]
    reported = used(7, 9, cacheReadInputTokens=100, cacheWriteInputTokens=45, cacheDetails=details)
    for reader in (read_json(**reported), read_stream(event("metadata", reported))):
        assert reader.usage == Usage(
            input_tokens=152,
            cached_tokens=100,
            cache_write_tokens=45,
            cache_write_1h_tokens=35,
            output_tokens=9,
        )
        assert reader.finished


def test_what_served_an_answer_is_read_where_it_says_so() -> None:
    said = used(1, 1) | {"trace": ROUTED, "serviceTier": {"type": "flex"}}
    for reader in (read_json(**said), read_stream(event("metadata", said))):
        assert (reader.model, reader.service_tier) == ("amazon.nova-pro-v1:0", "flex")
    assert read_json(**said | {"performanceConfig": {"latency": "optimized"}}).service_tier == "optimized"
    assert read_json(**used(1, 1), performanceConfig={"latency": "standard"}).service_tier is None


@pytest.mark.parametrize(
    "reported", [{}, {"usage": []}, used(-1, 2), used(1, 2**50), used(1, "2"), used(None, 2), used(True, 2)]
)
def test_what_cannot_be_believed_is_no_usage_and_what_was_delivered_is_told(reported: dict[str, Any]) -> None:
    reasoned = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}}
    called = {"toolUse": {"toolUseId": "t", "name": "find", "input": {"what": "it"}}}
    cited = {"citationsContent": {"content": [{"text": "So."}, 7], "citations": []}}
    reader = read_json(reasoned, {"text": "Hi"}, called, cited, **reported)
    assert reader.usage is None
    assert reader.take_delivered() == ["Hm.", "Hi", "find", '{"what":"it"}', "So."]


def test_what_a_stream_delivers_is_told_and_it_is_whole_when_it_says_what_was_used() -> None:
    frames = [
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}),
        event(
            "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}
        ),
        event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hi"}}),
        event("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"name": "find"}}}),
        event("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"wh'}}}),
        event("messageStop", {"stopReason": "tool_use"}),
    ]
    reader = read_stream(*frames)
    assert reader.take_delivered() == ["Hm.", "Hi", "find", '{"wh']
    assert (reader.finished, reader.usage) == (False, None)
    assert read_stream(*frames, event("metadata", used(1, 2))).finished
    assert read_stream(*frames, event("metadata", {})).finished


def test_an_exception_in_a_stream_does_not_make_it_whole() -> None:
    broken = stream_error(UpstreamFailed("It broke off."))
    reader = read_stream(event("messageStart", {"role": "assistant"}), broken)
    assert (reader.finished, reader.usage) == (False, None)


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "status", "kind", "in_stream"),
    [
        (
            rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1)),
            429,
            "ThrottlingException",
            "throttlingException",
        ),
        (budget_exhausted(), 429, "ThrottlingException", "throttlingException"),
        (InvalidRequest("No."), 400, "ValidationException", "validationException"),
        (UpstreamFailed("No."), 502, "ServiceUnavailableException", "modelStreamErrorException"),
        (Unavailable("No.", code="x"), 503, "ServiceUnavailableException", "serviceUnavailableException"),
    ],
)
def test_a_refusal_is_an_exception_that_bedrock_has(
    refusal: Refusal, status: int, kind: str, in_stream: str
) -> None:
    response = refusal_response(refusal, "req_1")
    assert (response.status, dict(response.headers)[b"x-amzn-errortype"]) == (status, kind.encode())
    frame = read_frame(stream_error(refusal))
    assert frame is not None
    assert frame.headers == {
        ":exception-type": in_stream,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    assert json.loads(frame.payload) == json.loads(response.body)
    assert not {"code", "Code", "__type"} & json.loads(response.body).keys()  # which would name the kind


def test_a_limit_s_refusal_says_how_long_to_wait_and_what_failed() -> None:
    response = refusal_response(
        rate_limited(evaluation(Meter.REQUESTS, 60, 58, 1), retry_after_ms=1_500), "req_1"
    )
    assert (b"x-amz-retry-after", b"1500") in response.headers
    assert (b"retry-after", b"2") in response.headers
    error = json.loads(response.body)
    assert (error["reason"], error["limits"][0]["maximum"]) == ("rate_limit_exceeded", 60)
    exhausted = refusal_response(budget_exhausted(), "req_1")
    assert (b"x-should-retry", b"false") in exhausted.headers
    assert b"x-amz-retry-after" not in dict(exhausted.headers)
