"""What Helm makes of the chart, for the tests of `deploy/`."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PLAIN = ROOT / "deploy" / "kubernetes"
MANIFESTS = runpy.run_path(str(ROOT / "scripts" / "manifests.py"))
ALL: dict[str, Any] = yaml.safe_load((PLAIN / "values.yaml").read_text(encoding="utf-8"))
"""Values with which there is all that the chart has."""
SHARED: dict[str, Any] = {**ALL, "artifacts": {"url": ""}}
"""The same with a folder that all share, instead of S3."""

Object = dict[str, Any]


class Pod(NamedTuple):
    """A pod that Kubernetes or KubeRay makes of a template."""

    name: str
    spec: Object
    labels: dict[str, str]

    @property
    def container(self) -> Object:
        (container,) = self.spec["containers"]
        assert isinstance(container, dict)
        return container


def needs_helm() -> None:
    """Skip what calls it where Helm's library is absent."""
    pytest.importorskip("helm_python", reason="helm-python-sdk, which renders charts, is absent")


def rendered(values: dict[str, Any] | None = None) -> list[Object]:
    """Return the objects that Helm makes of the chart with `values`."""
    needs_helm()
    texts = MANIFESTS["render"](values or {}).values()
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def plain() -> list[Object]:
    """Return the objects of the plain manifests."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(PLAIN.glob("*.yaml"))]
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    return [one for one in found if "kind" in one]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def one_of(objects: list[Object], kind: str, suffix: str = "") -> Object:
    """Return the one object of `kind` whose name is the release's with `suffix`."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"].endswith(suffix)]
    return found


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Yield the pods that come of `objects`, with the autoscaler's container as one of its own."""
    for one in objects:
        if one["kind"] == "Deployment":
            yield _pod(one["metadata"]["name"], one["spec"]["template"])
        if one["kind"] == "RayCluster":
            spec = one["spec"]
            yield _pod("ray-head", spec["headGroupSpec"]["template"])
            for group in spec["workerGroupSpecs"]:
                yield _pod(f"ray-{group['groupName']}", group["template"])
            if spec["enableInTreeAutoscaling"]:
                yield _autoscaler(spec)


def _pod(name: str, template: Object) -> Pod:
    return Pod(name, template["spec"], template["metadata"]["labels"])


def _autoscaler(spec: Object) -> Pod:
    """Return the head's pod with the container that KubeRay puts beside the head's."""
    head = deepcopy(spec["headGroupSpec"]["template"])
    options = spec["autoscalerOptions"]
    image = head["spec"]["containers"][0]["image"]
    taken = ("env", "imagePullPolicy", "resources", "securityContext", "volumeMounts")
    head["spec"]["containers"] = [
        {"name": "autoscaler", "image": image, **{key: options[key] for key in taken}}
    ]
    return _pod("autoscaler", head)
