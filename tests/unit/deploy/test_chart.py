"""What the chart makes of its values."""

from __future__ import annotations

from typing import Any

import pytest

from charts import ALL, MANIFESTS, SHARED, Object, needs_helm, of_kind, one_of, pods, rendered

REFERENCED = {"TUNESMITH_DATABASE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def environment(container: Object) -> dict[str, Any]:
    """Return the variables of `container`: values, or the secrets' keys that hold them."""
    found = {}
    for one in container["env"]:
        held = one.get("valueFrom", {}).get("secretKeyRef")
        found[one["name"]] = (held["name"], held["key"]) if held else one["value"]
    return found


def container(objects: list[Object], pod: str) -> Object:
    (found,) = [one.container for one in pods(objects) if one.name.endswith(pod)]
    return found


def test_helms_own_linter_finds_no_fault() -> None:
    needs_helm()
    from helm_python import lint  # noqa: PLC0415

    found = lint(str(MANIFESTS["CHART"]), ALL, strict=True)

    assert found["errors"] == []
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]


def test_api_and_controller_run_alone_and_twice() -> None:
    objects = rendered()

    for part in ("api", "controller"):
        deployment = one_of(objects, "Deployment", part)
        assert deployment["spec"]["replicas"] == 2
        assert container(objects, part)["args"] == ["serve", "--only", part]
        budget = one_of(objects, "PodDisruptionBudget", part)
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_both_know_the_same_database_artifacts_and_cluster() -> None:
    objects = rendered()
    api, controller = (environment(container(objects, part)) for part in ("api", "controller"))

    # The controller alone asks for nodes.
    controller.pop("TUNESMITH_NODE_GROUPS")
    own = {"TUNESMITH_PORT": "8015"}, {"TUNESMITH_CONTROLLER_METRICS_PORT": "9015"}
    assert api.items() - own[0].items() == controller.items() - own[1].items()
    assert api.items() >= own[0].items()
    assert controller.items() >= own[1].items()
    assert api["TUNESMITH_DATABASE_URL"] == ("tunesmith-database", "url")
    assert api["TUNESMITH_ARTIFACTS_URL"] == "s3://tunesmith"
    # KubeRay names the head's service after the cluster.
    assert one_of(objects, "RayCluster")["metadata"]["name"] == "tunesmith"
    assert api["RAY_ADDRESS"] == "http://tunesmith-head-svc.tunesmith.svc:8265"


@pytest.mark.parametrize("part", ["api", "controller"])
def test_what_hangs_is_found_by_a_probe_on_a_port_that_it_listens_on(part: str) -> None:
    other = {"TUNESMITH_CONTROLLER_METRICS_PORT": "1", "TUNESMITH_HOST": "::1"}
    objects = rendered({"environment": other if part == "controller" else {}})
    found = container(objects, part)
    (port,) = found["ports"]
    for probe in ("startupProbe", "livenessProbe"):
        assert found[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    listens = environment(found)
    variable = "TUNESMITH_PORT" if part == "api" else "TUNESMITH_CONTROLLER_METRICS_PORT"
    assert listens[variable] == str(port["containerPort"])
    assert listens["TUNESMITH_HOST"] == "0.0.0.0"


@pytest.mark.parametrize(
    "ray",
    [{"autoscaling": {"enabled": False}}, {"enabled": False, "address": "http://theirs:8265"}],
)
def test_a_cluster_that_the_chart_does_not_let_grow_is_asked_for_no_nodes(
    ray: dict[str, Any],
) -> None:
    controller = environment(container(rendered({"ray": ray}), "controller"))
    assert "TUNESMITH_NODE_GROUPS" not in controller


def test_nodes_and_service_show_the_same_token() -> None:
    objects = rendered(ALL)

    for pod in pods(objects):
        found = environment(pod.container)
        assert found["RAY_AUTH_TOKEN"] == ("tunesmith-internal", "token")
        assert found.get("RAY_AUTH_MODE") == ("token" if pod.name[:9] != "tunesmith" else None)


def test_nodes_know_the_bucket_but_not_the_database() -> None:
    for pod in pods(rendered(ALL)):
        found = environment(pod.container)
        if pod.name.startswith("ray-"):
            assert "TUNESMITH_DATABASE_URL" not in found
            assert found["AWS_ACCESS_KEY_ID"] == ("tunesmith-artifacts", "access-key-id")


def test_without_keys_for_the_bucket_pods_have_an_identity_instead() -> None:
    for pod in pods(rendered({"artifacts": {"existingSecret": ""}})):
        assert not REFERENCED & environment(pod.container).keys() - {"TUNESMITH_DATABASE_URL"}


def test_with_a_bucket_no_folder_is_shared_but_the_secret_of_answers() -> None:
    objects = rendered(ALL)

    assert of_kind(objects, "PersistentVolumeClaim") == []
    for pod in pods(objects):
        if pod.name != "autoscaler":
            (data, answers) = (
                next(one for one in pod.spec["volumes"] if one["name"] == name)
                for name in ("data", "answers")
            )
            assert "emptyDir" in data
            assert answers["secret"]["secretName"] == "tunesmith-internal"
            paths = [mount["mountPath"] for mount in pod.container["volumeMounts"]]
            assert "/data/answers.token" in paths


@pytest.mark.parametrize(
    ("claim", "named", "made"), [("", "tunesmith-data", 1), ("files", "files", 0)]
)
def test_without_a_bucket_all_share_a_folder(claim: str, named: str, made: int) -> None:
    objects = rendered({**SHARED, "data": {"existingClaim": claim}})

    assert len(of_kind(objects, "PersistentVolumeClaim")) == made
    for pod in pods(objects):
        data = next(one for one in pod.spec["volumes"] if one["name"] == "data")
        assert data["persistentVolumeClaim"] == {"claimName": named}
        assert "TUNESMITH_ARTIFACTS_URL" not in environment(pod.container)
        assert "/data/answers.token" not in [m["mountPath"] for m in pod.container["volumeMounts"]]


def test_changed_settings_start_the_pods_anew() -> None:
    def mark(settings: str) -> str:
        template = one_of(rendered({"settings": settings}), "Deployment", "api")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert mark('organization = "acme"') != mark('organization = "other"')


def test_settings_are_handed_over_as_they_are() -> None:
    settings = '[models."in-house"]\nsource = { kind = "folder", path = "/models/in-house" }\n'

    assert one_of(rendered({"settings": settings}), "ConfigMap")["data"] == {
        "settings.toml": settings
    }


def test_a_device_group_asks_kubernetes_for_its_devices() -> None:
    found = {pod.name: pod for pod in pods(rendered(ALL))}

    gaudi, gpu = found["ray-gaudi"], found["ray-gpu"]
    assert gaudi.spec["runtimeClassName"] == "habana"
    assert gaudi.container["resources"]["limits"]["habana.ai/gaudi"] == 8
    assert gaudi.container["image"].endswith("-hpu")
    assert gpu.spec["runtimeClassName"] == "nvidia"
    assert gpu.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu.container["image"].endswith("-cuda")
    assert gpu.spec["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_a_cluster_of_somebody_elses_is_used_by_its_address() -> None:
    objects = rendered({"ray": {"enabled": False, "address": "http://ray.other:8265"}})

    assert of_kind(objects, "RayCluster") == []
    assert environment(container(objects, "api"))["RAY_ADDRESS"] == "http://ray.other:8265"
    names = {one["metadata"]["name"] for one in of_kind(objects, "NetworkPolicy")}
    assert names == {"tunesmith-api", "tunesmith-controller"}


def test_the_address_of_somebody_elses_cluster_is_asked_for() -> None:
    with pytest.raises(_helm_error(), match=r"ray\.address is needed"):
        rendered({"ray": {"enabled": False}})


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"apis": {}}, "apis"),
        ({"api": {"replicas": 0}}, "replicas"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"artifacts": {"url": "/data"}}, "url"),
        ({"environment": {"lower": "x"}}, "lower"),
        ({"ray": {"workerGroups": {"tpu": {"enabled": True}}}}, "tpu"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(values: dict[str, Any], place: str) -> None:
    with pytest.raises(_helm_error(), match=place):
        rendered(values)


def _helm_error() -> type[Exception]:
    needs_helm()
    from helm_python import HelmError  # noqa: PLC0415

    return HelmError
