"""The compose files, and that the guides name what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyOptions

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "deploy" / "compose").glob("*.yaml"))
GUIDES = [ROOT / "docs" / "how-to" / f"deploy-{kind}.md" for kind in ("xeon", "gaudi", "gpu")]
PORTS = {"8015", "8265"}
STATE = {"/data", "/home/user/.cache/huggingface"}


def shown(path: Path) -> str:
    return path.name


def parsed(path: Path) -> dict[str, Any]:
    """Return what the file says, checked against the compose specification."""
    options = PyOptions()
    options.apply_merge = True
    compose = options.from_yaml(path.read_text(encoding="utf-8"))
    compose.validate()
    found: dict[str, Any] = json.loads(compose.to_json())
    return found


def services(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(path)["services"]
    return found


def environment(service: dict[str, Any]) -> dict[str, str]:
    given = service["environment"]
    if isinstance(given, dict):
        return {name: str(value) for name, value in given.items()}
    return dict(line.partition("=")[::2] for line in given)


def targets() -> set[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^FROM \S+ AS (\S+)", text))


@pytest.mark.parametrize("path", FILES, ids=shown)
class TestEachFile:
    def test_it_follows_the_compose_specification(self, path: Path) -> None:
        assert services(path)

    def test_its_images_are_built_from_targets_that_there_are(self, path: Path) -> None:
        for service in services(path).values():
            target = service["build"]["target"]
            assert target in targets()
            assert service["image"] == f"tunesmith:{target}"
            assert (path.parent / service["build"]["context"] / "Dockerfile").is_file()

    def test_it_publishes_to_loopback_alone(self, path: Path) -> None:
        published = [
            port for service in services(path).values() for port in service.get("ports", [])
        ]

        assert published
        for port in published:
            assert port in {f"127.0.0.1:{number}:{number}" for number in PORTS}
        assert all("network_mode" not in service for service in services(path).values())

    def test_all_state_outlives_the_containers(self, path: Path) -> None:
        found = parsed(path)
        for service in found["services"].values():
            mounts = dict(reversed(each.split(":")) for each in service["volumes"])
            assert "/data" in mounts
            assert set(mounts) <= STATE
            assert set(mounts.values()) <= set(found["volumes"])

    def test_jobs_have_time_to_save_before_the_service_is_killed(self, path: Path) -> None:
        (api,) = [
            each
            for each in services(path).values()
            if "127.0.0.1:8015:8015" in each.get("ports", [])
        ]
        assert api["stop_grace_period"] == "1m"

    def test_what_opeas_users_have_in_their_environment_is_handed_on(self, path: Path) -> None:
        names = {name for each in services(path).values() for name in environment(each)}
        assert {"HF_TOKEN", "RAY_ADDRESS", "http_proxy", "https_proxy", "no_proxy"} <= names

    def test_a_dashboard_that_is_published_asks_for_a_token(self, path: Path) -> None:
        for service in services(path).values():
            if "127.0.0.1:8265:8265" not in service.get("ports", []):
                continue
            given = environment(service)
            # The service's own Ray always has one.
            own = given.get("TUNESMITH_RAY_DASHBOARD_PORT") == "8265"
            assert own or given["RAY_AUTH_MODE"] == "token"


def test_an_unknown_key_is_found(tmp_path: Path) -> None:
    wrong = FILES[0].read_text(encoding="utf-8").replace("restart:", "restrat:")
    (tmp_path / "wrong.yaml").write_text(wrong, encoding="utf-8")

    with pytest.raises(ValueError, match="restrat"):
        parsed(tmp_path / "wrong.yaml")


def test_gaudi_gets_what_habanas_runtime_wants() -> None:
    (service,) = services(ROOT / "deploy/compose/gaudi.yaml").values()

    assert (service["runtime"], service["ipc"]) == ("habana", "host")
    assert service["cap_add"] == ["SYS_NICE"]
    assert {"HABANA_VISIBLE_DEVICES", "OMPI_MCA_btl_vader_single_copy_mechanism"} <= set(
        environment(service)
    )


@pytest.mark.parametrize("path", GUIDES, ids=shown)
class TestEachGuide:
    def test_it_names_targets_and_files_that_there_are(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"--target (\S+)", text)) | set(
            re.findall(r"\btunesmith:(\w+)", text)
        )

        assert named
        assert named <= targets()
        files = re.findall(r"deploy/compose/[\w.-]+", text)
        assert files
        assert all((ROOT / name).is_file() for name in files)

    def test_it_publishes_to_loopback_alone(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        ports = re.findall(r"(?:--publish|-p) (\S+)", text)

        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_it_says_what_was_tried_and_what_was_not(self, path: Path) -> None:
        assert "\n## What has been tried\n" in path.read_text(encoding="utf-8")


def test_each_compose_file_has_its_guide() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in GUIDES)

    assert [path.name for path in FILES if f"deploy/compose/{path.name}" not in told] == []
