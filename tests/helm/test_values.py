"""What the chart refuses, and how it says so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.helm.rendering import CHART, helm, render, values_of

AUDIT_KEY = {"name": "govmiddleware", "key": "audit-key"}
JOURNAL_URL = {"name": "govmiddleware", "key": "journal-url"}
UPSTREAM = {"upstream": "http://vllm:8000"}


def _documented() -> list[dict[str, Any]]:
    page = (CHART.parents[1] / "docs" / "kubernetes.md").read_text()
    return [helm.values_from_yaml(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"replicaCuont": 2}, "replicaCuont"),
        ({"drain": {"second": 10}}, "second"),
        ({"config": {**UPSTREAM, "idle_timout": 10}}, "idle_timout"),
        (
            {
                "config": {
                    **UPSTREAM,
                    "limits": [{"name": "a", "scope": "user", "meter": "requests", "rte": "1/day"}],
                }
            },
            "rte",
        ),
        ({"config": {**UPSTREAM, "limits": [{"name": "a", "scope": "user", "meter": "request"}]}}, "meter"),
        ({"secrets": {"settings": {"adm_token": AUDIT_KEY}}}, "adm_token"),
        ({"secrets": {"settings": {"admin_token": {"nmae": "a", "key": "b"}}}}, "nmae"),
        ({"resources": {"request": {"cpu": 1}}}, "request"),
        ({"litellm": {"enable": True}}, "enable"),
        ({"store": {"kind": "redis"}}, "kind"),
        ({"store": {"kind": "external", "url": "http://redis"}}, "url"),
    ],
)
def test_a_typo_fails_with_its_name(values: dict[str, Any], name: str) -> None:
    with pytest.raises(helm.HelmError) as caught:
        render({"config": UPSTREAM, **values})
    assert f"'{name}'" in str(caught.value) or f"/{name}'" in str(caught.value)


@pytest.mark.parametrize("name", ["upstream_api_key", "admin_token", "audit_key", "journal_url", "redis_url"])
def test_a_secret_is_taken_by_reference_alone(name: str) -> None:
    with pytest.raises(helm.HelmError, match=name):
        render({"config": {**UPSTREAM, name: "postgresql://gov:hunter2@db/gov"}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicaCount": 2}, "2 replicas need one store for all: store.kind is embedded"),
        ({"replicaCount": 2, "store": {"kind": "valkey"}}, "2 replicas need one journal for all: SQLite"),
        ({"autoscaling": {"enabled": True}}, "6 replicas need one store"),
        ({"secrets": {"settings": {"journal_url": JOURNAL_URL}}}, "audit_key is missing"),
        ({"secrets": {"settings": {"webhook_url": AUDIT_KEY}}}, "webhook_secret need each other"),
        ({"store": {"kind": "external"}}, "either store.url or secrets.settings.redis_url"),
        ({"store": {"url": "redis://redis"}}, "store.kind is embedded: store.url"),
        (
            {"store": {"kind": "external", "url": "redis://gov:hunter2@redis/0"}},
            "store.url has a password in it",
        ),
        ({"config": {}}, "set either config.upstream or config.upstreams"),
        ({"litellm": {"enabled": True, "image": {"tag": "v1"}}}, "leave out config.upstream"),
        (
            {
                "litellm": {"enabled": True, "image": {"tag": "v1"}},
                "config": {"upstreams": [{"name": "a", "url": "http://a"}]},
            },
            "none of config.upstreams has the url http://127.0.0.1:4000",
        ),
        ({"litellm": {"enabled": True}, "config": {}}, "litellm.image.tag is missing"),
        (
            {"config": {"upstreams": [{"name": "a", "url": "http://a", "api_key_env": "A_KEY"}]}},
            "A_KEY: put it into",
        ),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError) as caught:
        render({"config": UPSTREAM, **values})
    assert words in str(caught.value)


def test_a_password_may_stand_for_itself_nowhere_but_as_a_variable() -> None:
    values = values_of("production")
    assert "$(REDIS_PASSWORD)@" in values["store"]["url"]
    render(values)


@pytest.mark.parametrize("values", _documented())
def test_the_values_in_the_docs_are_accepted(values: dict[str, Any]) -> None:
    assert render(values)


def test_every_object_of_the_schema_is_closed() -> None:
    """But for those that are Kubernetes' or LiteLLM's own, and maps of names to texts."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones = [
        path for path, shape in _objects(schema, "") if shape.get("additionalProperties", True) is True
    ]
    described = [path for path, shape in _objects(schema, "") if "As " in shape.get("description", "")]
    assert set(open_ones) - set(described) == {"/properties/global"}


def _objects(shape: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(shape, list):
        return [found for index, each in enumerate(shape) for found in _objects(each, f"{path}/{index}")]
    if not isinstance(shape, dict):
        return []
    inside = [found for key, each in shape.items() for found in _objects(each, f"{path}/{key}")]
    return [(path, shape), *inside] if shape.get("type") == "object" else inside
