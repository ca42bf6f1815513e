"""Reading converse requests: what they ask, and what they may not say."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.bedrock_converse import JUDGED
from govmiddleware.protocols.registry import recognise, unrecognised

NOVA = "us.amazon.nova-micro-v1:0"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]
PDF = base64.b64encode(b"%PDF-1.4").decode()


def protocol_at(path: str) -> WireProtocol:
    protocol = recognise("POST", path)
    assert protocol is not None
    return protocol


def body_of(**fields: Any) -> RequestBody:
    given = {"messages": HELLO, **fields}
    return RequestBody(json.dumps({name: value for name, value in given.items() if value != ...}).encode())


def read(model: str = NOVA, query: bytes = b"", /, **fields: Any) -> RequestInfo:
    path = f"/model/{model}/converse"
    return protocol_at(path).read_request(body_of(**fields), path=path, query=query)


def refused(model: str = NOVA, query: bytes = b"", /, **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(model, query, **fields)
    return f"{caught.value.param}: {caught.value}"


def block(**member: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [member]}]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/model/{NOVA}/converse", "bedrock"),
        (f"/bedrock/Model/{NOVA}/converse-stream/", "bedrock"),
        (f"/model/{NOVA}/count-tokens", "bedrock.count_tokens"),
        (f"/model/{CLAUDE}/invoke", "bedrock.invoke"),
        (
            f"/model/arn:aws:bedrock:us-east-1:1:inference-profile/{CLAUDE}/invoke-with-response-stream",
            "bedrock.invoke",
        ),
        (f"/model/{NOVA}/invoke", None),
        ("/model/misanthropic.one/invoke", None),
        (f"/model/{CLAUDE}/invoke-with-bidirectional-stream", None),
        (f"/models/{NOVA}/converse", None),
        ("/converse", None),
    ],
)
def test_a_route_is_recognised_by_the_operation_on_a_model(path: str, name: str | None) -> None:
    found = recognise("POST", path)
    assert (found.name if found else None) == name
    assert recognise("GET", path) is None


def test_other_routes_of_an_aws_sdk_get_its_errors() -> None:
    headers = [(b"amz-sdk-request", b"attempt=1")]
    assert unrecognised(headers, "/guardrail/g/version/1/apply").name == "bedrock.unrecognised"


@pytest.mark.parametrize(
    ("model_id", "model"),
    [
        (NOVA, NOVA),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{NOVA}", NOVA),
        ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.titan-text", "amazon.titan-text"),
        *(
            (
                f"arn:aws:bedrock:us-east-1:123456789012:{kind}/abc",
                f"arn:aws:bedrock:us-east-1:123456789012:{kind}/abc",
            )
            for kind in ("application-inference-profile", "provisioned-model", "imported-model")
        ),
    ],
)
def test_a_model_has_one_name_however_its_id_is_written(model_id: str, model: str) -> None:
    assert read(model_id).model == model


def test_what_a_request_asks_for_is_read() -> None:
    info = read(inferenceConfig={"maxTokens": 7}, serviceTier={"type": "flex"})
    assert (info.model, info.output_tokens, info.stream, info.reach.service_tier) == (NOVA, 7, False, "flex")
    assert read(performanceConfig={"latency": "optimized"}).reach.service_tier == "optimized"
    assert read(performanceConfig={"latency": "standard"}).reach.service_tier is None
    path = f"/model/{NOVA}/converse-stream"
    info = protocol_at(path).read_request(body_of(), path=path)
    assert (info.stream, info.output_tokens) == (True, None)


def test_what_the_model_reads_is_counted_and_what_it_cannot_is_not() -> None:
    spec = {"name": "find", "description": "It finds.", "inputSchema": {"json": {"type": "object"}}}
    info = read(
        system=[{"text": "Be kind."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        messages=[
            {"role": "user", "content": [{"text": "Look"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "I look.", "signature": "s" * 500}}},
                {"toolUse": {"toolUseId": "t" * 20, "name": "find", "input": {"what": "it"}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t" * 20, "status": "success", "content": [
                    {"json": {"found": 1}}, {"text": "Here."},
                    {"searchResult": {"source": "a shelf", "title": "A title", "content": [{"text": "A page."}]}},
                ]}},
                {"citationsContent": {"content": [{"text": "So it says."}]}},
            ]},
        ],
        toolConfig={"tools": [{"toolSpec": spec}, {"cachePoint": {"type": "default"}}], "toolChoice": {"auto": {}}},
        additionalModelRequestFields={"top_k": 5},
    )  # fmt: skip
    assert sorted(info.texts) == sorted(
        [
            "Be kind.", "Look", "I look.", "find", '{"what":"it"}', '{"found":1}', "Here.", "a shelf", "A title",
            "A page.", "So it says.",
            '{"name":"find","description":"It finds.","inputSchema":{"type":"object"}}',
        ]
    )  # fmt: skip
    assert info.unknown_parts == 0
    assert (info.reach.cache_1h, info.reach.media) == (True, False)


@pytest.mark.parametrize(
    "fields",
    [
        block(image={"format": "png", "source": {"bytes": "AAAA"}}),
        block(video={"format": "mp4", "source": {"s3Location": {"uri": "s3://b/k"}}}),
        block(document={"format": "pdf", "name": "d", "source": {"bytes": PDF}}),
        block(
            toolResult={
                "toolUseId": "t",
                "content": [{"image": {"format": "png", "source": {"bytes": "AAAA"}}}],
            }
        ),
        block(reasoningContent={"redactedContent": "AAAA"}),
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        {"additionalModelRequestFields": {"tools": [{"type": "computer_20250124", "name": "computer"}]}},
    ],
)
def test_what_does_not_show_its_size_is_a_part_of_unknown_size(fields: dict[str, Any]) -> None:
    info = read(**fields)
    assert info.unknown_parts == 1
    assert info.reach.media
    assert "AAAA" not in info.texts


@pytest.mark.parametrize(
    ("source", "format_"),
    [
        ({"bytes": base64.b64encode(b"A long text.").decode()}, "txt"),
        ({"text": "A long text."}, "pdf"),
        ({"content": [{"text": "A long text."}]}, "pdf"),
    ],
)
def test_a_document_that_is_a_text_is_counted_as_one(source: dict[str, Any], format_: str) -> None:
    info = read(**block(document={"format": format_, "name": "d", "source": source, "context": "Of late."}))
    assert sorted(info.texts) == ["A long text.", "Of late.", "d"]
    assert info.unknown_parts == 0


@pytest.mark.parametrize(
    ("model", "more", "hides"),
    [
        (CLAUDE, {}, None),
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        (CLAUDE, {"thinking": {"type": "disabled"}}, False),
        (NOVA, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, True),
        (NOVA, {"topK": 20}, None),
    ],
)
def test_reasoning_that_may_not_be_shown_is_seen(
    model: str, more: dict[str, Any], hides: bool | None
) -> None:
    assert read(model, additionalModelRequestFields=more).hides_output is hides


def test_an_output_limit_is_written_and_thinking_stays_below_it() -> None:
    protocol = protocol_at(f"/model/{CLAUDE}/converse")
    for budget, limit, thinking in (
        (5000, 4096, {"type": "enabled", "budget_tokens": 4095}),
        (5000, 800, {"type": "disabled"}),
        (2000, 4096, {"type": "enabled", "budget_tokens": 2000}),
    ):
        more = {"thinking": {"type": "enabled", "budget_tokens": budget}, "top_k": 5}
        body = body_of(inferenceConfig={"temperature": 1}, additionalModelRequestFields=more)
        protocol.bound_output(body, limit)
        sent = json.loads(body.serialise())
        assert sent["inferenceConfig"] == {"temperature": 1, "maxTokens": limit}
        assert sent["additionalModelRequestFields"] == {"thinking": thinking, "top_k": 5}
    body = body_of()
    protocol.bound_output(body, 9)
    assert json.loads(body.serialise()) == {"messages": HELLO, "inferenceConfig": {"maxTokens": 9}}


def test_of_duplicate_keys_the_one_that_was_judged_is_sent_on() -> None:
    raw = b'{"messages":[],"inferenceConfig":{"maxTokens":99,"maxTokens":3}}'
    body = RequestBody(raw)
    path = f"/model/{NOVA}/converse"
    assert protocol_at(path).read_request(body, path=path).output_tokens == 3
    assert body.serialise() == b'{"messages":[],"inferenceConfig":{"maxTokens":3}}'


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messages": ...}, "messages: 'messages' is missing"),
        ({"messages": ["Hi"]}, "messages[0]: A message must be"),
        ({"messages": [{"content": "Hi"}]}, "messages[0]: A message must be"),
        ({"system": "Be kind."}, "system: Invalid 'system'"),
        ({"inferenceConfig": []}, "inferenceConfig: 'inferenceConfig' must be an object"),
        ({"inferenceConfig": {"maxTokens": 0}}, "maxTokens: 'maxTokens' must be between 1 and"),
        ({"inferenceConfig": {"maxtokens": 9}}, "maxtokens: Write 'maxTokens'"),
        ({"InferenceConfig": {"maxTokens": 9}}, "InferenceConfig: Write 'inferenceConfig'"),
        ({"model": "other"}, "model: 'model' is not supported here"),
        ({"modelId": "other"}, "modelId: 'modelId' is not supported here"),
        ({"maxTokens": 10**6}, "maxTokens: 'maxTokens' is not supported here"),
        *(
            ({"additionalModelRequestFields": more}, said)
            for more, said in (
                ({"max_tokens": 10**6}, "max_tokens: 'max_tokens' is not supported here"),
                ({"maxTokens": 10**6}, "maxTokens: 'maxTokens' is not supported here"),
                ({"MAX_TOKENS": 10**6}, "MAX_TOKENS: Write 'max_tokens'"),
                ({"inferenceConfig": {"max_new_tokens": 9}}, "max_new_tokens: 'max_new_tokens' is not supported"),
                ({"n": 3}, "n: 'n' is not supported here"),
                ({"speed": "ludicrous"}, "speed: 'speed' is supported as"),
                ({"thinking": {"budget_tokens": 9}}, "additionalModelRequestFields.thinking.budget_tokens: "),
                ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits: "),
            )
        ),
    ],
)  # fmt: skip
def test_what_would_escape_the_bound_or_the_price_is_refused(fields: dict[str, Any], said: str) -> None:
    assert refused(**({"inferenceConfig": {"maxTokens": 9}} | fields)).startswith(said)


def test_messages_of_invoke_are_read_without_the_fields_that_its_address_has() -> None:
    fields = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    for operation, streams in (("invoke", False), ("invoke-with-response-stream", True)):
        path = f"/model/{CLAUDE}/{operation}"
        info = protocol_at(path).read_request(body_of(**fields), path=path)
        assert (info.model, info.stream, info.output_tokens, info.texts) == (CLAUDE, streams, 9, ["Hi"])
        with pytest.raises(InvalidRequest, match="'model' is not supported"):
            protocol_at(path).read_request(body_of(**fields, model="claude-haiku-4-5"), path=path)


def test_an_address_names_one_model_and_asks_for_nothing_else() -> None:
    assert "no parameters" in refused(NOVA, b"model=other")
    assert "a model" in refused("arn:aws:bedrock:us-east-1:123456789012:prompt/ABC:1").replace("the", "a")
    assert "Name one model" in refused("a,b")
    assert "longer than" in refused("a" * 300)


ODD: list[Any] = [
    None,
    True,
    7,
    "x",
    [],
    {},
    [[]],
    [7],
    [{}],
    {"text": 7},
    {"content": {}},
    {"tools": "x"},
    {"type": []},
]
MEMBERS = [
    "text",
    "image",
    "document",
    "toolUse",
    "toolResult",
    "json",
    "reasoningContent",
    "cachePoint",
    "name",
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_request_does_more_than_be_refused(data: st.DataObject) -> None:
    odd = st.sampled_from(ODD)
    inner = data.draw(st.dictionaries(st.sampled_from(MEMBERS), odd, max_size=3))
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(JUDGED)), odd | st.just({"tools": [inner]})))
    content = [{data.draw(st.sampled_from(MEMBERS)): inner}]
    with suppress(InvalidRequest):
        read(**{"messages": [{"role": "user", "content": content}], **fields})
