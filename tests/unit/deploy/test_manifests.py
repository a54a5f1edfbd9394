"""The plain manifests are the chart's, with all that it has."""

from __future__ import annotations

from charts import MANIFESTS, PLAIN, needs_helm, of_kind, plain


def test_the_plain_manifests_are_what_the_chart_says() -> None:
    needs_helm()
    there = {
        path.name: path.read_text(encoding="utf-8")
        for path in PLAIN.glob("*.yaml")
        if path.name != "values.yaml"
    }

    assert there == MANIFESTS["plain"](), "Run `make manifests`."


def test_there_is_one_of_everything() -> None:
    assert {one["kind"] for one in plain()} == {
        "ConfigMap",
        "Deployment",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "RayCluster",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }


def test_no_secret_is_among_them_and_all_are_named() -> None:
    objects = plain()

    assert of_kind(objects, "Secret") == []
    names = {"tunesmith-artifacts", "tunesmith-database", "tunesmith-internal", "tunesmith-tls"}
    assert {name for one in objects for name in secrets_of(one)} == names


def test_plain_manifests_do_not_say_that_helm_looks_after_them() -> None:
    for one in plain():
        labels = one["metadata"]["labels"]
        assert "app.kubernetes.io/managed-by" not in labels
        assert one["metadata"]["namespace"] == "tunesmith"


def secrets_of(value: object, key: str = "") -> list[str]:
    """Return the names of the secrets that `value`, which is at `key`, refers to."""
    if isinstance(value, list):
        return [name for one in value for name in secrets_of(one, key)]
    if not isinstance(value, dict):
        return [str(value)] if key in ("secretName",) else []
    named = [value["name"]] if key in ("secretKeyRef", "secretRef", "credentials") else []
    return named + [name for inner, one in value.items() for name in secrets_of(one, inner)]
