"""Legacy completions and moderations: what is read out of requests, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import recognise


def read(path: str, **fields: Any) -> RequestInfo:
    protocol = recognise("POST", path)
    assert protocol is not None
    return protocol.read_request(RequestBody(json.dumps(fields).encode()), path=path)


def complete(**fields: Any) -> RequestInfo:
    return read("/v1/completions", **{"model": "gpt-3.5-turbo-instruct", "prompt": "Hello", **fields})


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b"], "best_of": 5}, 10),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": []}, 1),
        ({"prompt": None}, 1),
    ],
)
def test_each_prompt_has_all_its_choices(fields: dict[str, Any], choices: int) -> None:
    assert complete(**fields).choices == choices


def test_what_is_said_is_counted() -> None:
    info = complete(
        prompt=["A", [1, 2, 3]], suffix="B", max_tokens=7, stream=True, user="ann", documents="C" * 200
    )
    assert set(info.texts) == {"A", "B", '"' + "C" * 200 + '"'}
    assert (info.input_tokens, info.output_tokens, info.stream, info.user) == (3, 7, True, "ann")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": {}},
        {"prompt": [True]},
        {"max_tokens": 0},
        {"max_completion_tokens": 9},
        {"max_output_tokens": 9},
        {"prompt_embeds": ["x"]},
        {"n": 129},
        {"best_of": 0},
        {"service_tier": 7},
        {"fallbacks": ["gpt-4"]},
        {"model": "a,b"},
    ],
)
def test_what_could_lift_the_limit_or_the_price_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        complete(**fields)
    assert refused.value.param is not None


def test_the_model_may_stand_in_the_address() -> None:
    path = "/openai/deployments/davinci/completions"
    assert read(path, prompt="Hello").model == "davinci"
    with pytest.raises(InvalidRequest):
        read(path, prompt="Hello", model="babbage")


@pytest.mark.parametrize("stream", [True, False])
def test_usage_and_texts_are_read(stream: bool) -> None:
    protocol = recognise("POST", "/v1/completions")
    assert protocol is not None
    answer = {"model": "m", "choices": [{"index": 0, "text": "SAID", "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    for given, expected in (
        (answer, None),
        (answer | {"usage": usage}, Usage(input_tokens=5, output_tokens=2)),
    ):
        raw = json.dumps(given).encode()
        reader = protocol.usage_reader(stream=stream, usage_was_injected=False)
        reader.feed(b"data: " + raw + b"\n\ndata: [DONE]\n\n" if stream else raw)
        reader.close()
        assert (reader.usage, reader.finished) == (expected, True)
        assert reader.take_delivered() == ([] if expected and not stream else ["SAID"])


@pytest.mark.parametrize("model", [None, "omni-moderation-latest", "openai/text-moderation-stable"])
def test_moderations_by_openai_are_free(model: str | None) -> None:
    info = read("/v1/moderations", input="Hello", model=model)
    assert info.free
    assert info.model == model or model is None


def test_moderations_by_others_are_priced_by_their_input() -> None:
    info = read(
        "/v1/moderations",
        input=["Hello", {"type": "text", "text": "THERE"}],
        model="mistral-moderation-latest",
    )
    assert (info.free, info.generates, set(info.texts)) == (False, False, {"Hello", "THERE"})
