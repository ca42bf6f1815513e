"""What pictures, sounds and documents in a request take of its prompt, as OpenAI's and Anthropic's models read them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.core.test_media import PICTURES, jpeg, png
from tests.protocols.exchanges import answered

from govmiddleware.core.body import RequestBody
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.anthropic_prompt import RESULT_TOKENS
from govmiddleware.protocols.inline_media import file_tokens
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_responses import OpenAIResponses

PAGE = b"<< /Type /Page /Parent 1 0 R >>\n<< /Type /Pages >>\n"


def url_of(raw: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [  # the first eight as worked out in the documentation
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4.1-mini", (1024, 1024), "high", 1659),
        ("gpt-4.1-mini", (1800, 2400), "high", 2353),
        ("claude-sonnet-4-6", (1920, 1080), "auto", 1568),
        ("claude-opus-4-7", (1920, 1080), "auto", 2691),
        ("claude-haiku-4-5", (540, 360), "auto", 260),
        ("o3", (512, 512), "auto", 225),
        ("gpt-5.4", (3200, 3200), "high", 3000),
        ("gpt-5.4", (3200, 3200), "original", 12_000),
        ("gpt-5.6", (4000, 4000), "auto", 18_750),
        ("gpt-5-nano", (4000, 4000), "low", 630),
        ("gemini-2.5-pro", (4000, 4000), "auto", 258),
        ("gpt-4o", (1, 60_000), "high", 765),
        ("openai/gpt-4o-mini", (512, 512), "auto", 8500),
        ("pixtral-large", (512, 512), "auto", None),
    ],
)
def test_a_picture_counts_by_its_size_as_the_model_sees_it(
    model: str, size: tuple[int, int], detail: str, tokens: int | None
) -> None:
    assert file_tokens(model, url_of(png(*size)), detail=detail) == tokens


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_is_measured(kind: str) -> None:
    assert file_tokens("claude-haiku-4-5", base64.b64encode(PICTURES[kind]).decode()) == 260


def test_a_document_counts_by_its_pages_or_else_by_its_bytes() -> None:
    document = b"%PDF-1.4\n" + PAGE * 7
    for model, each in (("claude-opus-4-5", 2250), ("gpt-5", 1000), ("gemini-2.5-flash", 258)):
        assert file_tokens(model, base64.b64encode(document).decode()) == 7 * each
    for place in range(196_575, 196_612, 6):  # pages that lie across the pieces that are searched
        long = b"%PDF-1.4\n".ljust(place) + PAGE + PAGE
        assert file_tokens("gpt-5", url_of(long, "application/pdf")) == 2_000, place
    assert file_tokens("gpt-5", url_of(b"%PDF-1.7" + bytes(99_990), "application/pdf")) == 10_000


def test_a_sound_counts_by_its_length() -> None:
    minute = base64.b64encode(bytes(120_000)).decode()  # as many bytes as a minute of quiet speech
    assert file_tokens("gpt-audio", minute, "audio/webm") == 600
    assert file_tokens("gemini-3-pro", minute, "audio/webm") == 1920
    assert file_tokens("voxtral-small", minute, "audio/webm") is None


def test_what_a_file_says_is_text() -> None:
    part = {"type": "file", "file": {"file_data": url_of(b"Read me", "text/plain"), "filename": "a.txt"}}
    info = _read(OpenAIChat(), messages=[{"role": "user", "content": [part]}])
    assert "Read me" in info.texts
    assert info.unknown_parts == 0


def test_each_protocol_finds_the_files_in_its_parts() -> None:
    picture = url_of(jpeg(540, 360))
    data = picture.partition(",")[2]
    sound = {"data": base64.b64encode(bytes(1_998)).decode(), "format": "mp3"}
    parts = [
        {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
        {"type": "image_url", "image_url": picture},
        {"type": "input_audio", "input_audio": sound},
    ]
    _adds(85 + 425 + 10, OpenAIChat(), "messages", parts)
    items = [
        {"type": "input_image", "image_url": picture, "detail": "low"},
        {"type": "input_file", "file_data": base64.b64encode(b"%PDF-1.4" + PAGE).decode()},
        {"type": "input_audio", "input_audio": sound},
    ]
    _adds(85 + 1000 + 10, OpenAIResponses(), "input", items)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": data}}
    blocks = [image, {"type": "tool_result", "tool_use_id": "t", "content": [image]}]
    _adds(
        520 + RESULT_TOKENS, AnthropicMessages(), "messages", blocks, model="claude-haiku-4-5", max_tokens=9
    )


def test_recorded_pictures_count_as_the_provider_says() -> None:
    """Those whose size shows in the request."""
    seen = 0
    for protocol, reader in (
        ("openai.responses", OpenAIResponses()),
        ("anthropic.messages", AnthropicMessages()),
    ):
        for exchange, answer, stream in answered(protocol):
            if (
                '"image/jpeg"' not in (text := json.dumps(exchange["request"]))
                and "image/jpeg;base64" not in text
            ):
                continue
            info = reader.read_request(RequestBody(text.encode()))
            usage_reader = reader.usage_reader(stream=stream, usage_was_injected=False)
            usage_reader.feed(answer)
            usage_reader.close()
            assert usage_reader.usage is not None
            actual = usage_reader.usage.input_tokens
            counted = count_tokens(info.texts, encoding=encoding_for(info.model))
            estimate = input_estimate(info, counted, 2000)
            assert abs(estimate - actual) <= max(12, actual // 10)
            assert input_bound(estimate, info.model) >= actual
            seen += 1
    assert seen in (0, 2)  # none where there are no recordings


def _adds(tokens: int, protocol: WireProtocol, field: str, parts: list[Any], **more: Any) -> None:
    """That parts of a message add so much to it, and are no text."""
    without, whole = (
        _read(
            protocol,
            **{field: [{"role": "user", "content": [{"type": "text", "text": "What?"}, *some]}]},
            **more,
        )
        for some in ([], parts)
    )
    assert whole.overhead_tokens - without.overhead_tokens == tokens
    assert (whole.unknown_parts, sum(map(len, whole.texts)) < 50) == (0, True)
    assert (without.reach.media, whole.reach.media)[1]


def _read(protocol: WireProtocol, **fields: Any) -> RequestInfo:
    return protocol.read_request(RequestBody(json.dumps({"model": "gpt-4o", **fields}).encode()))
