"""What is fuzzed, and what must hold of it whatever the bytes: every request peek and every reader of answers of
every protocol in the registry.

Nothing of a protocol's own is named here, so that a new one is fuzzed as soon as it is registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from msgspec.structs import asdict

from govmiddleware.core.body import RequestBody
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.ports import UsageReader, WireProtocol
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.readers import LARGEST_COUNT
from govmiddleware.protocols.registry import PROTOCOLS

PATHS = (
    "",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    "/openai/deployments/gpt-4o/chat/completions",
    "/model/anthropic.claude-sonnet-4/converse",
)
"""Addresses that name a model, in each way that there is, and one that does not."""

_USED = Usage(input_tokens=11, output_tokens=7)


def read_request(protocol: WireProtocol, raw: bytes, path: str = "", query: bytes = b"") -> None:
    """Do with a request's body what Estimate and Meter do. Raises AssertionError where something does not hold that
    must, and whatever escapes that should not."""
    try:
        body = RequestBody(raw)
        info = protocol.read_request(body, path=path, query=query)
    except Refusal:
        return
    counted = count_tokens(info.texts, encoding=encoding_for(info.model))
    estimate = input_estimate(info, counted, 0)
    assert 0 <= estimate <= input_bound(estimate, info.model)
    assert info.choices >= 1
    assert info.output_tokens is None or info.output_tokens >= 0
    protocol.request_usage(body)
    protocol.bound_output(body, 100)
    assert len(body) == len(body.serialise())
    RequestBody(body.serialise())


def read_answer(
    protocol: WireProtocol, chunks: Sequence[bytes], *, usage_was_injected: bool = False, **keywords: bool
) -> dict[str, Any]:
    """Read an answer that comes in these chunks, and what it was found to say. Raises AssertionError where something
    does not hold that must, and whatever escapes that should not. The keywords are those of `usage_reader`."""
    reader = protocol.usage_reader(usage_was_injected=usage_was_injected, **keywords)
    passed, delivered = b"", ""
    for chunk in chunks:
        passed += reader.feed(chunk)
        delivered += "".join(reader.take_delivered())
    passed += reader.close()
    delivered += "".join(reader.take_delivered())
    if not usage_was_injected:
        assert passed == b"".join(chunks)
    _check_usage(reader)
    return {
        "passed": passed,
        "delivered": delivered,
        "usage": reader.usage,
        "model": reader.model,
        "service_tier": reader.service_tier,
        "finished": reader.finished,
    }


def end_stream(protocol: WireProtocol, chunks: Sequence[bytes]) -> bytes:
    """Read the beginning of a stream and end it there; how it is ended. Raises as `read_answer`."""
    reader = protocol.usage_reader(stream=True, usage_was_injected=False, may_be_cut=True)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.cut(_USED, model="asked-for", request_id="req_1")


def kinds_of_readers() -> Iterator[tuple[WireProtocol, dict[str, bool]]]:
    """Of each kind of reader a protocol that has it, and the keywords of `usage_reader` that make it."""
    seen = set()
    for protocol, (stream, injected, cut) in product(PROTOCOLS, product((True, False), repeat=3)):
        keywords = {"stream": stream, "usage_was_injected": injected, "may_be_cut": cut}
        kind = (type(protocol.usage_reader(**keywords)), *keywords.values())
        if kind not in seen and (stream or not (injected or cut)):
            seen.add(kind)
            yield protocol, keywords


def _check_usage(reader: UsageReader) -> None:
    if reader.usage is not None:
        for name, figure in asdict(reader.usage).items():
            assert 0 <= figure <= 8 * LARGEST_COUNT, (name, figure)
