"""Who may speak to whom."""

from __future__ import annotations

from typing import Any

import pytest

from charts import ALL, Object, one_of, plain, pods, rendered

PARTS = ("api", "controller", "ray-head", "ray-worker")
POLICIES = {part: one_of(plain(), "NetworkPolicy", part) for part in PARTS}


def ports(policy: Object, way: str, peer: str | None) -> set[int]:
    """Return the ports to or from `peer`: a component, or `None` for what is not of the release."""
    side = "from" if way == "ingress" else "to"
    found: set[int] = set()
    for rule in policy["spec"][way]:
        components = {
            one.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
            for one in rule.get(side, [{}])
        }
        if peer in components:
            found |= {port["port"] for port in rule.get("ports", [{"port": 0}])}
    return found


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_is_reached_by_no_others_than_are_named(part: str) -> None:
    spec = POLICIES[part]["spec"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] for rule in spec["ingress"])


@pytest.mark.parametrize("pod", list(pods(plain())), ids=lambda pod: pod.name)
def test_each_pod_has_its_policy(pod: Any) -> None:
    selected = [
        part
        for part, policy in POLICIES.items()
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.labels.items()
    ]
    assert len(selected) == 1


def test_the_api_reaches_the_head_and_the_models_there() -> None:
    assert ports(POLICIES["api"], "egress", "ray-head") == {8265, 8000}
    assert ports(POLICIES["ray-head"], "ingress", "api") == {8265, 8000}


def test_the_controller_reaches_the_heads_jobs_alone() -> None:
    assert ports(POLICIES["controller"], "egress", "ray-head") == {8265}
    assert ports(POLICIES["ray-head"], "ingress", "controller") == {8265}
    assert POLICIES["controller"]["spec"]["ingress"] == []


def test_nodes_reach_each_other_on_all_ports() -> None:
    for one, other in (("ray-head", "ray-worker"), ("ray-worker", "ray-head")):
        for way in ("ingress", "egress"):
            assert 0 in ports(POLICIES[one], way, other)
            assert 0 in ports(POLICIES[one], way, one)


def test_nodes_do_not_reach_the_database() -> None:
    for part in ("ray-head", "ray-worker"):
        assert 5432 not in ports(POLICIES[part], "egress", None)
    for part in ("api", "controller"):
        assert 5432 in ports(POLICIES[part], "egress", None)


def test_only_the_head_asks_kubernetes() -> None:
    reaching = {part for part in PARTS if 6443 in ports(POLICIES[part], "egress", None)}
    assert reaching == {"ray-head"}


def test_where_the_database_and_the_bucket_are_can_be_narrowed() -> None:
    database = [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    bucket = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "minio"}}}]
    narrowed = {
        "database": {"port": 5433, "to": database},
        "artifacts": {"port": 9000, "to": bucket},
        "kubernetesApi": {"ports": [443], "to": database},
    }
    objects = rendered({**ALL, "networkPolicy": narrowed})

    api = one_of(objects, "NetworkPolicy", "api")["spec"]["egress"]
    assert {"ports": [{"port": 5433, "protocol": "TCP"}], "to": database} in api
    assert {"ports": [{"port": 9000, "protocol": "TCP"}], "to": bucket} in api
    head = one_of(objects, "NetworkPolicy", "ray-head")["spec"]["egress"]
    assert {"ports": [{"port": 443, "protocol": "TCP"}], "to": database} in head


def test_the_service_the_ingress_and_prometheus_find_the_api() -> None:
    objects = plain()
    api = next(pod for pod in pods(objects) if pod.name == "tunesmith-api")
    service = one_of(objects, "Service")
    assert service["spec"]["selector"].items() <= api.labels.items()
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in api.container["ports"]}

    (rule,) = one_of(objects, "Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "tunesmith", "port": {"name": port["name"]}}
    (tls,) = one_of(objects, "Ingress")["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]

    monitor = one_of(objects, "ServiceMonitor")["spec"]
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["endpoints"][0]["port"] == port["name"]
    assert monitor["endpoints"][0]["path"] == "/metrics"
