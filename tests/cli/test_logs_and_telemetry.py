"""What `serve` writes and tells, with several workers."""

from __future__ import annotations

import json

from tests.cli.serving import CONFIGURATION
from tests.telemetry.conftest import collecting


def test_workers_write_json_alone_one_line_a_request_and_each_tells_a_collector(
    serve, configured, upstream, monkeypatch
) -> None:
    monkeypatch.setenv("GOV_LOG_FORMAT", "json")
    monkeypatch.setenv("GOV_TELEMETRY", "otlp")
    configured(CONFIGURATION)
    with collecting(monkeypatch) as collector:
        serving = serve("--upstream", upstream, "--workers", "2")
        for _ in range(2):
            serving.until(" serves")
        assert [serving.call() for _ in range(5)] == [200] * 5
        serving.process.terminate()
        assert serving.ended() == 0
    entries = [json.loads(line) for line in serving.lines]
    requests = [entry for entry in entries if entry["logger"] == "govmiddleware.requests"]
    assert len(requests) == 5
    assert sum("/v1/chat/completions" in line for line in serving.lines) == 5, "no access log beside it"
    told = {span.attributes["govmiddleware.request_id"] for span in collector.spans if span.kind == "server"}
    assert told == {entry["request_id"] for entry in requests}
    instances = {span.resource["service.instance.id"] for span in collector.spans}
    assert len(instances) == len({entry["process"] for entry in requests})
    durations = [point for point in collector.points if point.metric == "gen_ai.server.request.duration"]
    assert sum(point.count for point in durations) == 5
