"""Every object has the shape that Kubernetes, KubeRay, Prometheus' operator and Ray take."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter
from referencing import Registry, Resource

from charts import Object, one_of, plain, rendered
from tunesmith.domain.node_groups import NodeGroup

VERSIONS = ("1.27.0", "1.31.0", "1.37.0")
"""From the oldest Kubernetes that the chart takes to the newest whose schemas there are."""

OWN = Path(__file__).parent / "shapes.json"
"""What RayCluster and ServiceMonitor may hold, as far as the chart uses it; what they take over
from Kubernetes is referred to."""


def schemas(version: str) -> Path:
    found = find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        pytest.skip("kubernetes-validate, which holds the schemas of Kubernetes, is absent")
    folder = Path(found.origin).parent / "kubernetes-json-schema"
    return folder / f"v{version}-local-strict"


def check(one: Object, version: str) -> None:
    folder = schemas(version)
    definitions = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    registry: Registry[Any] = Resource.from_contents(definitions) @ Registry()
    group, _, last = one["apiVersion"].rpartition("/")
    if group in ("ray.io", "monitoring.coreos.com"):
        schema = json.loads(OWN.read_text(encoding="utf-8"))
        schema = {**schema, "$ref": f"#/$defs/{one['kind']}"}
    else:
        name = f"{one['kind'].lower()}-{'-'.join(filter(None, (group.split('.')[0], last)))}.json"
        schema = json.loads((folder / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema, registry=registry).validate(one)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", plain(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_an_object_has_the_shape_that_kubernetes_takes(one: Object, version: str) -> None:
    check(one, version)


def test_the_volume_that_all_share_has_its_shape() -> None:
    claim = one_of(rendered({"artifacts": {"url": ""}}), "PersistentVolumeClaim", "-data")
    for version in VERSIONS:
        check(claim, version)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("Deployment", ("spec", "template", "spec", "containers")),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "containers")),
        ("RayCluster", ("spec", "autoscalerOptions", "volumeMounts")),
    ],
)
def test_a_word_that_is_misspelt_is_found(kind: str, place: tuple[str, ...]) -> None:
    one = json.loads(json.dumps(next(found for found in plain() if found["kind"] == kind)))
    within = one
    for key in place:
        within = within[key]
    within[0]["imagepullpolicy"] = "Always"

    with pytest.raises(jsonschema.ValidationError, match="imagepullpolicy"):
        check(one, VERSIONS[-1])


def test_rays_autoscaler_reads_what_each_group_has() -> None:
    kuberay = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    cluster = one_of(plain(), "RayCluster")
    # Only what asks Kubernetes' API has it.
    read = kuberay._derive_autoscaling_config_from_ray_cr(
        {**cluster, "metadata": {**cluster["metadata"], "namespace": "tunesmith"}}
    )

    groups = {
        name: (group["resources"], group["min_workers"], group["max_workers"])
        for name, group in read["available_node_types"].items()
    }
    assert groups["headgroup"][0]["CPU"] == 0
    assert groups["cpu"] == ({"CPU": 8, "memory": 32 * 2**30}, 1, 4)
    assert groups["gaudi"] == ({"CPU": 64, "memory": 400 * 2**30, "HPU": 8}, 0, 1)
    assert groups["gpu"] == ({"CPU": 8, "memory": 64 * 2**30, "GPU": 1}, 0, 1)
    assert read["idle_timeout_minutes"] == 10.0

    # The controller knows the same of them.
    [told] = [
        variable["value"]
        for container in deployment_containers("controller")
        for variable in container["env"]
        if variable["name"] == "TUNESMITH_NODE_GROUPS"
    ]
    known = TypeAdapter(dict[str, NodeGroup]).validate_json(told)
    assert groups.keys() - known.keys() == {"headgroup"}
    for name, group in known.items():
        assert groups[name] == (group.resources, group.least, group.most)


def deployment_containers(component: str) -> list[dict[str, Any]]:
    deployment = one_of(plain(), "Deployment", component)
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return containers
