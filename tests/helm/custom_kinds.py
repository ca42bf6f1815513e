"""Shapes of the custom resources that the chart may make: what it uses of them, and nothing else.

From the API references of Prometheus Operator (monitoring.coreos.com/v1) and of the Gateway API
(gateway.networking.k8s.io/v1), which no package on PyPI carries.
"""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}
TEXTS: Shape = {"type": "object", "additionalProperties": TEXT}
DURATION: Shape = {"type": "string", "pattern": "^(0|(([0-9]+)(ms|s|m|h|d|w|y))+)$"}


def _list(items: Shape) -> Shape:
    return {"type": "array", "items": items}


def _object(*required: str, **properties: Shape) -> Shape:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _kind(spec: Shape) -> Shape:
    metadata = _object("name", "labels", name=TEXT, labels=TEXTS, annotations=TEXTS)
    return _object(
        "apiVersion", "kind", "metadata", "spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec
    )


SERVICE_MONITOR = _kind(
    _object(
        "selector",
        "endpoints",
        selector=_object(matchLabels=TEXTS),
        endpoints=_list(
            _object(
                "port",
                port=TEXT,
                path=TEXT,
                interval=DURATION,
                scrapeTimeout=DURATION,
                authorization=_object(type=TEXT, credentials=_object("name", "key", name=TEXT, key=TEXT)),
            )
        ),
    )
)

PROMETHEUS_RULE = _kind(
    _object(
        groups=_list(
            _object(
                "name",
                "rules",
                name=TEXT,
                interval=DURATION,
                rules=_list(
                    {
                        **_object(
                            "expr",
                            alert=TEXT,
                            record=TEXT,
                            expr={"type": ["string", "integer"]},
                            keep_firing_for=DURATION,
                            labels=TEXTS,
                            annotations=TEXTS,
                            **{"for": DURATION},
                        ),
                        "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
                    }
                ),
            )
        )
    )
)

HTTP_ROUTE = _kind(
    _object(
        parentRefs=_list(
            _object(
                "name",
                group=TEXT,
                kind=TEXT,
                name=TEXT,
                namespace=TEXT,
                sectionName=TEXT,
                port={"type": "integer"},
            )
        ),
        hostnames=_list(TEXT),
        rules=_list(
            _object(
                matches=_list(_object(path=_object(type={"enum": ["PathPrefix"]}, value=TEXT))),
                timeouts=_object(request={"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}),
                backendRefs=_list(_object("name", "port", name=TEXT, port={"type": "integer"})),
            )
        ),
    )
)

SHAPES = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HTTP_ROUTE,
}
