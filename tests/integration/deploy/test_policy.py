"""A linter of policies finds nothing in the manifests but what is told here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from charts import ROOT, of_kind, plain, pods

CHECKOV = ROOT / ".venv" / "peers" / "checkov" / "bin" / "checkov"

QUIETLY = ("--output", "json", "--skip-download", "--soft-fail")

MEANT = {
    # Who installs the chart names the images; a digest may be a part of the tag.
    "CKV_K8S_43": "image by digest",
    # Tags are versions.
    "CKV_K8S_15": "pull policy Always",
    # The service reads variables; its own processes alone have them.
    "CKV_K8S_35": "secrets as files",
}
MEANT_OF = {
    # Nobody sends it requests.
    "tunesmith-controller": {"CKV_K8S_9": "readiness probe"},
    # KubeRay writes this container's probes, if any.
    "autoscaler": {"CKV_K8S_8": "liveness probe", "CKV_K8S_9": "readiness probe"},
}


@pytest.mark.skipif(not CHECKOV.exists(), reason="checkov is absent; `make test` installs it")
def test_a_linter_finds_nothing_that_is_not_meant(tmp_path: Path) -> None:
    objects = plain()
    # The linter does not know RayCluster, so its pods are shown as pods.
    shown = [one for one in objects if one["kind"] != "RayCluster"]
    for pod in pods(of_kind(objects, "RayCluster")):
        metadata = {"name": pod.name, "namespace": "tunesmith", "labels": pod.labels}
        shown.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec})
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(shown), encoding="utf-8")

    ran = subprocess.run(
        [str(CHECKOV), "--framework", "kubernetes", "--directory", str(tmp_path), *QUIETLY],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )

    results = json.loads(ran.stdout)["results"]
    looked_at = {one["resource"] for one in results["passed_checks"]}
    assert {"Pod.tunesmith.ray-head", "Pod.tunesmith.ray-gaudi", "Pod.tunesmith.autoscaler"} <= (
        looked_at
    )
    assert {"Deployment.tunesmith.tunesmith-api"} <= looked_at
    found = [
        (one["check_id"], one["resource"], one["check_name"])
        for one in results["failed_checks"]
        if one["check_id"] not in MEANT | MEANT_OF.get(one["resource"].rpartition(".")[2], {})
    ]
    assert found == []
