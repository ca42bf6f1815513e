"""What the objects of the chart promise, over all value sets where nothing else is said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.helm.rendering import (
    NOTES,
    SETS,
    Object,
    container,
    deployment,
    objects,
    objects_in,
    of_kind,
    render,
    rendered,
    values_of,
)

each_set = pytest.mark.parametrize("name", SETS)

SETTLING_SECONDS = 15
"""What docs/operations.md asks for beside the drain."""


def _pods(name: str) -> list[Object]:
    return [
        each["spec"]["template"] for each in objects(name) if each["kind"] in ("Deployment", "StatefulSet")
    ]


def _containers(pod: Object) -> list[Object]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def _selected(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


# How pods run -------------------------------------------------------------------------------------


@each_set
def test_pods_keep_to_the_restricted_security_standard(name: str) -> None:
    for pod in _pods(name):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for each in _containers(pod):
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= each["resources"].keys()
            if each["name"] != "litellm":
                assert each["securityContext"]["readOnlyRootFilesystem"] is True


@each_set
def test_a_pod_outlives_its_streams(name: str) -> None:
    spec = deployment(name)["spec"]["template"]["spec"]
    arguments = dict(each.split("=") for each in container(name)["args"][1:])
    drain = int(arguments["--drain-seconds"])
    delay = int(arguments["--drain-delay-seconds"])
    assert drain >= 300
    assert delay > 0
    assert spec["terminationGracePeriodSeconds"] > delay + drain + SETTLING_SECONDS
    assert deployment(name)["spec"]["progressDeadlineSeconds"] > spec["terminationGracePeriodSeconds"]


@each_set
def test_health_is_asked_where_the_control_plane_is(name: str) -> None:
    prefix = values_of(name)["config"].get("control_prefix", "/gov")
    paths = {
        probe: container(name)[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    healthz, readyz = f"{prefix}/healthz", f"{prefix}/readyz"
    assert paths == {"startupProbe": healthz, "livenessProbe": healthz, "readinessProbe": readyz}


@each_set
def test_variables_that_kubernetes_makes_of_services_do_not_look_like_settings(name: str) -> None:
    """Those of a release `gov` would: GOV_GOVMIDDLEWARE_PORT."""
    assert deployment(name)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_litellm_is_up_before_us_ends_after_us_and_is_reached_past_us_by_nobody() -> None:
    [litellm] = deployment("litellm")["spec"]["template"]["spec"]["initContainers"]
    assert litellm["restartPolicy"] == "Always"
    assert "startupProbe" in litellm
    assert litellm["args"][litellm["args"].index("--host") + 1] == "127.0.0.1"
    assert "ports" not in litellm


# Books, and how many pods may keep them -----------------------------------------------------------


@each_set
def test_pods_are_replaced_one_after_the_other_where_their_disk_keeps_the_books(name: str) -> None:
    spec = deployment(name)["spec"]
    env = {each["name"]: each for each in container(name)["env"]}
    keeps_books = env["GOV_REDIS_URL"].get("value") == "embedded" or "GOV_JOURNAL_URL" not in env
    if keeps_books:
        assert spec["strategy"] == {"type": "Recreate"}
        assert spec["replicas"] == 1
    else:
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert of_kind(name, "PersistentVolumeClaim") == []


def test_the_claim_with_the_books_outlives_the_release() -> None:
    [claim] = of_kind("minimal", "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_trials_valkey_forgets_nothing() -> None:
    [valkey] = of_kind("trial", "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    options = dict(zip(valkey["args"][::2], valkey["args"][1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert "TRIAL" in rendered("trial")[NOTES]


# What refers to what ------------------------------------------------------------------------------


@each_set
def test_what_pods_mount_is_there(name: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects(name)}
    for pod in _pods(name):
        volumes = {each["name"] for each in pod["spec"].get("volumes", [])} | {"data"}
        for each in _containers(pod):
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there


@each_set
def test_selectors_find_the_pods_that_they_are_for_and_no_others(name: str) -> None:
    pods = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["metadata"]["labels"]
        for each in _pods(name)
    }
    for each in objects(name):
        spec = each.get("spec", {})
        selector: Any = spec.get("podSelector") or spec.get("selector") or {}
        wanted = "valkey" if each["metadata"]["name"].endswith("-valkey") else "gateway"
        if each["kind"] == "ServiceMonitor":
            services = [
                service["metadata"]["name"]
                for service in of_kind(name, "Service")
                if _selected(selector["matchLabels"], service["metadata"]["labels"])
            ]
            assert services == ["gov-govmiddleware"]
        elif selector:
            found = [
                pod
                for pod, labels in pods.items()
                if _selected(selector.get("matchLabels", selector), labels)
            ]
            assert found == [wanted], each["kind"]


@each_set
def test_routes_lead_to_the_service(name: str) -> None:
    [service] = [
        each for each in of_kind(name, "Service") if not each["metadata"]["name"].endswith("-valkey")
    ]
    [port] = service["spec"]["ports"]
    for ingress in of_kind(name, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
                assert path["backend"]["service"] == backend
    for route in of_kind(name, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]
    names = {each["name"] for each in container(name)["ports"]}
    assert port["targetPort"] in names


def test_the_monitor_scrapes_with_the_token_that_metrics_want() -> None:
    [monitor] = of_kind("monitoring", "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    [variable] = [each for each in container("monitoring")["env"] if each["name"] == "GOV_METRICS_TOKEN"]
    assert endpoint["authorization"]["credentials"] == variable["valueFrom"]["secretKeyRef"]
    assert endpoint["path"] == "/gov/metrics"


def test_links_to_runbooks_lead_to_where_the_operator_has_them() -> None:
    values = values_of("monitoring")
    values["prometheusRule"] = {**values["prometheusRule"], "runbooks": "https://wiki.example.com/gov/"}
    [rules] = [each for each in objects_in(render(values)) if each["kind"] == "PrometheusRule"]
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert alerts
    for alert in alerts:
        page = f"https://wiki.example.com/gov/docs/runbooks/{alert['alert']}.md"
        assert alert["annotations"]["runbook_url"] == page


def test_a_change_of_the_configuration_rolls_the_pods_and_nothing_else_does() -> None:
    def checksum(values: dict[str, Any]) -> str:
        [found] = [each for each in objects_in(render(values)) if each["kind"] == "Deployment"]
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    values = values_of("minimal")
    changed = {**values, "config": {**values["config"], "mode": "dry_run"}}
    assert checksum(values) != checksum(changed)
    assert checksum(values) == checksum({**values, "service": {"type": "NodePort"}})


@each_set
def test_no_secret_is_in_the_objects(name: str) -> None:
    assert of_kind(name, "Secret") == []
    text = "".join(rendered(name).values())
    assert re.findall(r"://[^/@\s]*:(?!\$\()[^/@\s]+@", text) == []
