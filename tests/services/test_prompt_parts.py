"""A prompt whose parts are known adds up to the same as one that is read as a whole, and less of it is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.protocols.exchanges import recorded

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest, Refusal
from govmiddleware.metrics import Metrics
from govmiddleware.protocols.registry import recognise
from govmiddleware.services import counting
from govmiddleware.services.calibration import _most
from govmiddleware.services.counting import TokenCounter

PATHS = {
    "openai.chat": "/chat/completions",
    "openai.responses": "/responses",
    "anthropic.messages": "/messages",
}


@pytest.fixture(autouse=True)
def _nearly_all_is_remembered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_LEAST_REMEMBERED", 24)
        patch.setattr(counting, "_LEAST_PART", 24)
        yield


class Reader:
    """Reads requests as Estimate does, with a memory or without."""

    def __init__(self, path: str, counter: TokenCounter | None = None) -> None:
        self.path, self.counter = path, counter
        self.unknown = 0

    async def read(self, request: object, workspace: str = "acme") -> tuple[RequestInfo, int, int]:
        """What is read, all tokens of its texts, and the most that it can be; its texts and parts left out."""
        protocol, body = recognise("POST", self.path), RequestBody(json.dumps(request).encode())
        assert protocol is not None
        if self.counter is not None:
            self.unknown = self.counter.look_up(
                body, protocol, path=self.path, query=b"", workspace=workspace
            )
        info = protocol.read_request(body, path=self.path)
        tokens = await (self.counter or TokenCounter()).count_prompt(info, workspace=workspace)
        plain = replace(info, texts=(), known_tokens=0, known_bytes=0, new_parts=())
        return plain, tokens, _most(info)


async def outcome(reader: Reader, request: object) -> object:
    try:
        return await reader.read(request)
    except Refusal as refusal:
        return refusal.code


@pytest.mark.parametrize("protocol", PATHS)
async def test_what_was_recorded_reads_the_same_from_memory(protocol: str) -> None:
    counter = TokenCounter()
    for exchange in recorded(protocol):
        path = unquote(exchange["path"])
        if recognise("POST", path) is not None and isinstance(exchange["request"], dict):
            whole = await outcome(Reader(path), exchange["request"])
            reader = Reader(path, counter)
            assert [await outcome(reader, exchange["request"]) for _ in range(2)] == [whole, whole]


TEXT = st.sampled_from(["Hi", "a longer text, of more than a few words", "caché", "x" * 60])
PNG = "iVBORw0KGgoAAAANSUhEUgAAAGQAAADICAIAAAC"


def _dicts(**members: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            name: value if isinstance(value, st.SearchStrategy) else st.just(value)
            for name, value in members.items()
        }
    )


BLOCKS = st.lists(
    st.one_of(
        _dicts(
            type="text", text=TEXT, cache_control=st.sampled_from([None, {"type": "ephemeral", "ttl": "1h"}])
        ),
        _dicts(type="thinking", thinking=TEXT, signature=st.just("s" * 600)),
        _dicts(type="tool_use", id="toolu_1", name="look", input=_dicts(at=TEXT)),
        _dicts(type="tool_result", tool_use_id="toolu_1", content=TEXT),
        _dicts(type="tool_result", content=st.just([{"type": "tool_reference", "tool_name": "later"}])),
        _dicts(type="image", source=_dicts(type="base64", media_type="image/png", data=PNG)),
        _dicts(type="image", source=_dicts(type="url", url="https://example.com/a.png")),
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.lists(_dicts(role=st.sampled_from(["user", "assistant"]), content=TEXT | BLOCKS), max_size=6)
LATER = {
    "name": "later",
    "description": "found when it is searched for",
    "input_schema": {},
    "defer_loading": True,
}
TOOLS = st.lists(
    st.sampled_from(
        [
            {"name": "look", "description": "Look it up.", "input_schema": {"type": "object"}},
            LATER,
            {"type": "web_search_20260209", "name": "web_search", "max_uses": 3},
            {"type": "bash_20250124", "name": "bash"},
        ]
    ),
    max_size=3,
)
CLAUDES = _dicts(
    model=st.sampled_from(["claude-sonnet-4-5", "claude-opus-4-8"]),
    max_tokens=100,
    messages=MESSAGES,
    tools=TOOLS,
    system=TEXT,
    tool_choice=st.sampled_from([{"type": "auto"}, {"type": "any"}]),
    context_management=st.sampled_from([None, {"edits": [{"type": "clear_thinking_20251015"}]}]),
)
CHATS = _dicts(
    model=st.sampled_from(["gpt-4o", "gpt-5.1", "mistral-large"]),
    messages=st.lists(
        _dicts(role=st.sampled_from(["user", "assistant"]), content=TEXT, name=st.sampled_from([None, "ann"]))
        | _dicts(
            role="user", content=st.just([{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}])
        )
        | _dicts(
            role="assistant",
            content=None,
            tool_calls=st.just([{"function": {"name": "f", "arguments": "{}"}}]),
        ),
        max_size=6,
    ),
    tools=st.lists(
        st.sampled_from(
            [
                {"type": "function", "function": {"name": "look", "description": "Look it up."}},
                {"type": "web_search", "name": "a hosted search"},
            ]
        ),
        max_size=2,
    ),
    tool_choice=st.sampled_from(["auto", "required"]),
)
RESPONSES = _dicts(
    model=st.sampled_from(["gpt-4o", "gpt-5.1", "gpt-5.6"]),
    instructions=TEXT,
    reasoning=st.sampled_from([None, {"context": "all_turns"}]),
    input=TEXT
    | st.lists(
        st.one_of(
            _dicts(role=st.sampled_from(["user", "assistant"]), content=TEXT),
            _dicts(type="reasoning", encrypted_content=st.just("e" * 1500), summary=st.just([])),
            _dicts(type="reasoning", content=st.just([{"type": "reasoning_text", "text": "let me think"}])),
            _dicts(type="function_call", name="look", arguments="{}", call_id="call_1"),
            _dicts(
                type="mcp_list_tools", tools=st.just([{"name": "look", "input_schema": {"type": "object"}}])
            ),
            TEXT,
        ),
        max_size=6,
    ),
    tools=st.lists(
        st.sampled_from(
            [
                {"type": "function", "name": "look", "description": "Look it up.", "parameters": {}},
                {"type": "web_search", "search_context_size": "low"},
                {"type": "mcp", "server_label": "a server of the client's"},
            ]
        ),
        max_size=2,
    ),
)


@pytest.mark.parametrize(
    ("path", "history", "requests"),
    [
        ("/v1/messages", "messages", CLAUDES),
        ("/v1/chat/completions", "messages", CHATS),
        ("/v1/responses", "input", RESPONSES),
    ],
    ids=["messages", "chat", "responses"],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_came_before_a_request_is_read_the_same(
    path: str, history: str, requests: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    first, second = data.draw(requests), data.draw(requests)

    async def compare() -> None:
        remembering, anew = Reader(path, TokenCounter()), Reader(path)
        for said in (first[history], second[history]):
            for length in range(len(said) + 1):
                for request in (first, {**second, "model": first["model"]}):
                    asked = {**request, history: said[:length]}
                    assert await outcome(remembering, asked) == await outcome(anew, asked)

    asyncio.run(compare())


def messages(count: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{number} {'word ' * 20}"} for number in range(count)]


async def test_of_a_conversation_that_grows_only_what_is_new_is_read() -> None:
    metrics = Metrics()
    reader = Reader("/v1/chat/completions", TokenCounter(metrics))
    request = {
        "model": "gpt-4o",
        "messages": messages(40),
        "tools": [{"type": "function", "function": {}}] * 9,
    }
    await reader.read(request)
    everything = reader.unknown
    await reader.read({**request, "messages": messages(41)})
    assert len(json.dumps(messages(1))) <= reader.unknown < everything / 10
    await reader.read(request, workspace="globex")
    known = metrics.registry.get_sample_value("govmiddleware_counted_characters_total", {"source": "memory"})
    assert known is not None
    assert known >= 40 * len("word " * 20)
    assert reader.unknown == everything, "what others sent is none of its business"
    await reader.read({**request, "model": "gpt-4"})
    assert reader.unknown > 0.9 * everything, "another model may count otherwise"


async def test_a_fault_in_a_later_message_is_named_whatever_came_before() -> None:
    reader = Reader("/v1/messages", TokenCounter())
    request: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 1, "messages": messages(3)}
    await reader.read(request)
    odd = {"role": "user", "content": 7, "name": "so that it is long enough"}
    for _ in range(2):
        with pytest.raises(InvalidRequest) as raised:
            await reader.read({**request, "messages": [*messages(3), odd]})
        assert raised.value.param == "messages[3].content"


async def test_a_short_message_among_long_ones_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_LEAST_REMEMBERED", 256)
    monkeypatch.setattr(counting, "_LEAST_PART", 64)
    long, call = (
        {"role": "user", "content": "word " * 200},
        {"role": "assistant", "content": "I look at it." * 5},
    )
    reader = Reader("/v1/messages", TokenCounter())
    request = {"model": "claude-sonnet-5", "max_tokens": 1, "messages": [long, call, long]}
    whole = await reader.read(request)
    assert await reader.read(request) == whole
    assert reader.unknown < len(json.dumps(call)), "what is left are fields of a few bytes"


def test_many_short_messages_are_left_to_be_read_together() -> None:
    body = RequestBody(json.dumps({"model": "m", "messages": [{"a": 1}] * 50, "tools": [1] * 50}).encode())
    protocol = recognise("POST", "/v1/chat/completions")
    assert protocol is not None
    TokenCounter().look_up(body, protocol, path="", query=b"")
    assert "messages" not in body.parts
