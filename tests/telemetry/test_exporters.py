"""Exporters: what hangs or is away holds nobody up, and what is missing is named."""

from __future__ import annotations

import os
import sys

import httpx
import pytest
from opentelemetry import trace
from tests.sidecar.waiting import until
from tests.telemetry.collector import Collector
from tests.telemetry.conftest import BODY, SECRET, SETTINGS, TRACED, exporting

from govmiddleware.errors import ConfigurationError
from govmiddleware.host import govern
from govmiddleware.telemetry import otlp
from govmiddleware.testing import ScriptedProvider

BEARER = {"authorization": f"Bearer {SECRET}"}


async def called(app, headers=None) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        return (
            await http.post("/v1/chat/completions", json=BODY, headers=BEARER | (headers or {}))
        ).status_code


async def test_a_collector_that_never_answers_holds_up_neither_calls_nor_the_end(
    make_governance, collector: Collector, monkeypatch, caplog
) -> None:
    collector.hangs = True
    monkeypatch.setattr(otlp, "_FAREWELL_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    governance = make_governance(**SETTINGS)
    app = govern(ScriptedProvider(), governance)
    async with governance:
        assert await called(app) == 200
        until(collector.asked.is_set)  # from here on an exporter waits for it
        assert await called(app) == 200
    waiting = exporting()
    assert waiting, "the collector has not answered yet"
    assert all(each.daemon for each in waiting), "or the process would wait for them"
    assert "is lost" in caplog.text


async def test_a_collector_that_is_away_costs_what_it_was_to_be_told(make_governance, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setattr(otlp, "_FAREWELL_SECONDS", 0.1)
    governance = make_governance(**SETTINGS)
    async with governance:
        assert await called(govern(ScriptedProvider(), governance)) == 200
    until(lambda: not exporting())


async def test_the_app_inside_and_the_calls_it_makes_are_part_of_the_trace(
    make_governance, collector: Collector
) -> None:
    provider, seen = ScriptedProvider(), []
    governance = make_governance(**SETTINGS)
    transport = governance.transport(httpx.ASGITransport(provider))

    async def asks(scope, receive, send) -> None:
        seen.append(
            (dict(scope["headers"])[b"traceparent"], trace.get_current_span().get_span_context().span_id)
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://provider") as http:
            answer = await http.post("/v1/chat/completions", json=BODY)
        async with governance.call("m", input_tokens=5, max_output_tokens=5) as block:
            block.usage(input_tokens=5, output_tokens=2)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    async with governance:
        assert await called(govern(asks, governance), headers=TRACED) == 200
    spans = {(told.kind, told.name): told for told in collector.spans}
    server, call, block = spans["server", "chat m*"], spans["client", "chat m*"], spans["client", "code m*"]
    assert seen == [(f"00-{server.ids[0]}-{server.ids[1]}-01".encode(), int(server.ids[1], 16))]
    assert call.ids[2] == block.ids[2] == server.ids[1]
    [exchange] = provider.exchanges
    assert exchange.header(b"traceparent") == f"00-{call.ids[0]}-{call.ids[1]}-01".encode()
    assert block.attributes["gen_ai.usage.output_tokens"] == 2
    assert server.attributes["govmiddleware.cost_usd"] == 0, "its inner calls are charged"


async def test_the_sdks_own_variables_count(make_governance, collector: Collector, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our-gateway")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    provider, governance = ScriptedProvider(), make_governance(**SETTINGS)
    async with governance:
        assert await called(govern(provider, governance), headers=TRACED) == 200
    assert collector.spans == collector.points == []
    [exchange] = provider.exchanges
    sent = (exchange.header(b"traceparent") or b"").decode()
    assert sent.split("-")[1] == TRACED["traceparent"].split("-")[1]
    assert sent.endswith("-00"), "nobody records it, and so nobody further on need"


async def test_workers_that_the_environment_gives_one_name_are_instances_of_their_own(
    make_governance, collector: Collector, monkeypatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=shop.gov-0,service.version=ours")
    governance = make_governance(**SETTINGS)
    async with governance:
        assert await called(govern(ScriptedProvider(), governance)) == 200
    [span] = collector.spans
    assert span.resource["service.instance.id"] == f"shop.gov-0.{os.getpid()}"
    assert span.resource["service.version"] == "ours"


async def test_without_telemetry_a_trace_passes_as_it_came(make_governance) -> None:
    provider, governance = ScriptedProvider(), make_governance(**SETTINGS | {"telemetry": "none"})
    async with governance:
        assert await called(govern(provider, governance), headers=TRACED) == 200
    [exchange] = provider.exchanges
    assert {name: (exchange.header(name.encode()) or b"").decode() for name in TRACED} == TRACED


def test_without_the_extra_the_error_names_the_line_that_installs_it(make_governance, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("govmiddleware.telemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"telemetry.*otlp.*pip install 'govmiddleware\[otel\]'"):
        make_governance(telemetry="otlp")


async def test_what_the_sdk_cannot_read_is_an_error_at_every_start(
    make_governance, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "-1")
    governance = make_governance(telemetry="otlp", redis_url="embedded", data_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"OTEL_.*-1\.0.*OpenTelemetry"):
            await governance.open()
    assert not exporting()
    assert not (tmp_path / "valkey").exists(), "nor does a store run"


def test_a_protocol_that_the_extra_does_not_have_is_an_error(make_governance, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigurationError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL.*grpc.*http/protobuf"):
        make_governance(telemetry="otlp")
