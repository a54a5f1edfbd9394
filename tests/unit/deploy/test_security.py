"""Every pod keeps the standard "restricted" of Kubernetes, and some rules of our own."""

from __future__ import annotations

import pytest

from charts import ALL, SHARED, Pod, plain, pods, rendered

PODS = [pytest.param(pod, id=pod.name) for pod in pods(plain())]

SAFE_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""The kinds of volumes that "restricted" allows."""


def test_all_pods_are_looked_at() -> None:
    assert {pod.name for pod in pods(plain())} == {
        "tunesmith-api",
        "tunesmith-controller",
        "ray-head",
        "autoscaler",
        "ray-cpu",
        "ray-gaudi",
        "ray-gpu",
    }


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_restricted(pod: Pod) -> None:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        assert name not in pod.spec
    assert pod.spec["securityContext"]["runAsNonRoot"] is True
    assert pod.spec["securityContext"]["runAsUser"] > 0
    assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in pod.spec["securityContext"]
    assert "initContainers" not in pod.spec
    for volume in pod.spec["volumes"]:
        assert set(volume) - {"name"} <= SAFE_VOLUMES


@pytest.mark.parametrize("pod", PODS)
def test_a_container_is_restricted(pod: Pod) -> None:
    held = pod.container["securityContext"]

    assert held["runAsNonRoot"] is True
    assert held["allowPrivilegeEscalation"] is False
    assert held["capabilities"] == {"drop": ["ALL"]}
    assert held["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not held.keys() & {"privileged", "procMount", "seLinuxOptions", "runAsUser"}
    assert all("hostPort" not in port for port in pod.container.get("ports", []))


@pytest.mark.parametrize("pod", PODS)
def test_a_container_writes_to_its_volumes_alone(pod: Pod) -> None:
    assert pod.container["securityContext"]["readOnlyRootFilesystem"] is True
    written = {
        mount["mountPath"]
        for mount in pod.container["volumeMounts"]
        if not mount.get("readOnly", False)
    }
    assert {"/tmp", "/home/user"} <= written <= {"/tmp", "/home/user", "/data", "/hugepages-2Mi"}


@pytest.mark.parametrize("pod", PODS)
def test_no_pod_is_given_kubernetes_own_token(pod: Pod) -> None:
    assert pod.spec["automountServiceAccountToken"] is False
    tokens = [mount for mount in pod.container["volumeMounts"] if mount["name"] == "kubernetes"]
    assert bool(tokens) is (pod.name == "autoscaler")


@pytest.mark.parametrize("pod", PODS)
def test_a_container_has_bounds_and_a_version(pod: Pod) -> None:
    resources = pod.container["resources"]
    for kind in ("requests", "limits"):
        assert {"cpu", "memory"} <= resources[kind].keys()
    _, _, tag = pod.container["image"].partition(":")
    assert tag[:1].isdigit()


@pytest.mark.parametrize("pod", [one for one in PODS if one.id != "autoscaler"])
def test_a_container_is_asked_how_it_is(pod: Pod) -> None:
    assert "livenessProbe" in pod.container
    # Nobody sends the controller requests.
    expected = pod.name != "tunesmith-controller"
    assert ("readinessProbe" in pod.container) is expected


@pytest.mark.parametrize("pod", PODS)
def test_each_mount_has_its_volume(pod: Pod) -> None:
    volumes = {volume["name"] for volume in pod.spec["volumes"]}
    assert {mount["name"] for mount in pod.container["volumeMounts"]} <= volumes


def test_pods_are_as_restricted_with_a_shared_folder() -> None:
    for pod in pods(rendered(SHARED)):
        test_a_pod_is_restricted(pod)
        test_a_container_is_restricted(pod)
        test_a_container_writes_to_its_volumes_alone(pod)
        test_each_mount_has_its_volume(pod)


def test_without_autoscaling_no_pod_has_a_token() -> None:
    fixed = {**ALL, "ray": {**ALL["ray"], "autoscaling": {"enabled": False}}}
    found = list(pods(rendered(fixed)))

    assert "autoscaler" not in {pod.name for pod in found}
    assert all(volume["name"] != "kubernetes" for pod in found for volume in pod.spec["volumes"])
