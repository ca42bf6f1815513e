"""What a sidecar tells a real collector of real calls."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.telemetry.conftest import CALLER, TRACE, TRACED, Story

NAMES = {"ann", "bob", "s1", "planner"}
"""Of people, sessions and agents."""


def test_a_call_is_part_of_its_clients_trace_and_the_upstream_part_of_the_call(story: Story) -> None:
    server, client = story.spans["traced"]
    assert (server.kind, client.kind) == ("server", "client")
    assert server.ids[0] == client.ids[0] == TRACE
    assert (server.ids[2], client.ids[2]) == (CALLER, server.ids[1])
    upstream = story.exchanges["traced"]
    assert upstream.header(b"traceparent") == f"00-{TRACE}-{client.ids[1]}-01".encode()
    assert upstream.header(b"tracestate") == TRACED["tracestate"].encode()
    assert upstream.header(b"baggage") == TRACED["baggage"].encode()


def test_a_call_without_a_trace_begins_one_which_the_log_names(story: Story) -> None:
    server, client = story.spans["alone"]
    assert server.ids[2] == ""
    assert (client.ids[0], client.ids[2]) == server.ids[:2]
    assert server.ids[0] != TRACE
    assert story.lines["alone"]["trace_id"] == server.ids[0]
    assert story.lines["traced"]["trace_id"] == TRACE


def test_a_request_is_found_by_the_ids_that_client_gateway_and_upstream_give_it(story: Story) -> None:
    for name, theirs in (("traced", "mine"), ("alone", None)):
        line, answer = story.lines[name], story.answers[name]
        assert line["request_id"] == answer.headers["x-gov-request-id"]
        assert line["client_request_id"] == theirs
        assert line["upstream_request_id"] == answer.headers["x-request-id"]
        sent = (story.exchanges[name].header(b"x-request-id") or b"").decode()
        assert sent == (theirs or line["request_id"])


def test_a_span_says_what_the_log_says_in_opentelemetrys_words(story: Story) -> None:
    server, client = story.spans["traced"]
    line = story.lines["traced"]
    assert server.name == "chat m*"
    assert not server.failed
    assert server.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": line["input_tokens"],
        "gen_ai.usage.output_tokens": line["output_tokens"],
        "gen_ai.conversation.id": "s1",
        "gen_ai.agent.name": "planner",
        "user.id": "ann",
        "govmiddleware.request_id": line["request_id"],
        "govmiddleware.client_request_id": "mine",
        "govmiddleware.upstream_request_id": line["upstream_request_id"],
        "govmiddleware.workspace": "acme",
        "govmiddleware.api_token": "ci",
        "govmiddleware.provider": "default",
        "govmiddleware.outcome": "answered",
        "govmiddleware.settlement": "exact",
        "govmiddleware.cost_usd": pytest.approx(float(line["cost_usd"])),
    }
    assert client.name == "POST"
    assert client.attributes["http.response.status_code"] == 200
    assert client.attributes["server.address"] == "127.0.0.1"
    assert not {name for name in client.attributes if name.startswith("gen_ai")}, "tokens count once a trace"


def test_a_stream_says_when_it_began(story: Story) -> None:
    server, _ = story.spans["stream"]
    assert server.attributes["gen_ai.request.stream"] is True
    duration = (server.span.end_time_unix_nano - server.span.start_time_unix_nano) / 1e9
    assert 0 < server.attributes["gen_ai.response.time_to_first_chunk"] <= duration + 0.01
    [point] = [point for point in story.points if point.metric == "gen_ai.server.time_to_first_token"]
    assert (point.count, point.unit) == (2, "s"), "of the streams alone: the one that its client left too"


def test_a_refusal_is_a_span_without_an_upstream_and_no_error_of_ours(story: Story) -> None:
    [server] = story.spans["refused"]
    assert story.answers["refused"].status_code == 429
    assert not server.failed
    said = server.attributes
    assert (said["error.type"], said["govmiddleware.limit"]) == ("insufficient_quota", "poor")
    [unknown] = story.spans["unknown"]
    assert unknown.attributes["error.type"] == "invalid_api_key"
    assert unknown.name == "chat"


def test_what_the_upstream_failed_is_an_error(story: Story) -> None:
    for name, status in (("failed", 500), ("limited", 429)):
        server, client = story.spans[name]
        assert (client.failed, client.attributes["error.type"]) == (True, str(status))
        assert (server.failed, server.attributes["error.type"]) == (status == 500, str(status))


def test_names_that_clients_invent_name_no_span_and_no_series(story: Story) -> None:
    server, _ = story.spans["invented"]
    assert server.name == "chat m*"
    assert server.attributes["gen_ai.request.model"] == "mine"
    models = {point.attributes["gen_ai.request.model"] for point in story.points}
    assert models == {"m*", "other"}


def test_a_stream_that_its_client_leaves_is_told_with_what_was_delivered(story: Story) -> None:
    server, client = story.spans["left"]
    said = server.attributes
    assert (said["govmiddleware.outcome"], said["govmiddleware.settlement"]) == ("aborted", "aborted")
    assert said["gen_ai.usage.output_tokens"] > 0
    assert not client.failed


def test_the_metrics_are_the_sums_of_what_was_settled_and_name_nobody(story: Story) -> None:
    lines = list(story.lines.values())
    for kind in ("input", "output"):
        points = [point for point in story.points if point.attributes.get("gen_ai.token.type") == kind]
        assert {(point.metric, point.unit) for point in points} == {("gen_ai.client.token.usage", "{token}")}
        assert sum(point.sum for point in points) == sum(line[f"{kind}_tokens"] or 0 for line in lines)
    costs = [point for point in story.points if point.metric == "govmiddleware.cost"]
    assert sum(point.sum for point in costs) == pytest.approx(
        sum(float(line["cost_usd"] or 0) for line in lines)
    )
    durations = [point for point in story.points if point.metric == "gen_ai.server.request.duration"]
    assert sum(point.count for point in durations) == len(lines)
    assert not NAMES & {str(value) for point in story.points for value in point.attributes.values()}


def test_each_process_is_an_instance_of_one_service(story: Story) -> None:
    resource = story.spans["alone"][0].resource
    assert resource["service.name"] == "govmiddleware"
    assert resource["deployment.environment.name"] == "tests"
    assert UUID(resource["service.instance.id"]).version == 4, "by chance: the workers' differ"
