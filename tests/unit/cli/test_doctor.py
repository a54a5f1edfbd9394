from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tunesmith.cli import doctor, machine
from tunesmith.cli.machine import Finding, look_at_machine
from tunesmith.cli.main import app
from tunesmith.cli.service import Service

NOWHERE = "http://127.0.0.1:9"
GIB = machine.GIB


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's import takes seconds, and other tests have it."""
    found = Finding(name="ray", state="ok", told="2 can be imported")
    monkeypatch.setattr(machine, "_ray", lambda: found)


def run(data: Path, *words: str, url: str = NOWHERE) -> Result:
    return CliRunner().invoke(app, ["doctor", "--data", str(data), "--url", url, *words])


def state(result: Result, name: str) -> str:
    checks = json.loads(result.stdout)["checks"]
    return next(str(check["state"]) for check in checks if check["name"] == name)


def test_it_needs_no_service_and_makes_no_folder(tmp_path: Path) -> None:
    told = run(tmp_path / "data")
    assert told.exit_code == 0, told.output
    assert "Start one with `tunesmith serve`" in told.stdout
    assert not (tmp_path / "data").exists()
    for name in (
        "python",
        "processor",
        "memory",
        "disk",
        "devices",
        "tunesmith[train]",
        "settings",
    ):
        assert f"  {name}: " in told.stdout


def test_a_setting_that_cannot_be_used_fails(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 'high'\n")
    told = run(tmp_path, "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["ok"] is False
    assert state(told, "settings") == "fail"


def test_a_model_that_is_not_in_its_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        f'[models.mine]\nsource = {{ kind = "folder", path = "{tmp_path}/gone" }}\n'
    )
    assert state(run(tmp_path, "--json"), "model mine") == "warn"


def test_a_service_that_is_not_ready_fails_and_says_what_is_missing(
    tmp_path: Path, url: str
) -> None:
    told = run(tmp_path, url=url)
    assert told.exit_code == 1
    assert f"{url}/v1 cannot run jobs: " in told.stdout


def test_an_extra_that_serving_needs_fails_where_it_is_missing() -> None:
    lines = ["gone>=2; extra == 'train'", "also-gone>=1; extra == 'wandb'", "pydantic>=2"]
    findings = {each.name: each for each in machine._packages(lines, needed={"train"})}

    assert findings["tunesmith"].state == "ok"
    assert findings["tunesmith[train]"].state == "fail"
    assert findings["tunesmith[train]"].mend == "Install it: pip install 'tunesmith[train]'."
    assert findings["tunesmith[wandb]"].state == "ok"
    assert findings["tunesmith[wandb]"].told == "not installed (lacks also-gone)"


def test_a_package_that_is_too_old_is_told_with_the_version_that_is_needed() -> None:
    [finding] = machine._packages(["pydantic>=2000.1"], needed=())
    assert finding.state == "warn"
    assert "(needs 2000.1)" in finding.told


def test_a_processor_is_told_by_what_makes_it_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    told = "model name\t: Xeon\nflags\t\t: fpu avx2 avx512f amx_bf16\n"
    assert machine._processor(told, cores=4).told == "4 cores, Xeon; avx2, avx512f, amx_bf16"
    slow = machine._processor("model name\t: Atom\nflags\t\t: fpu sse2\n", cores=2)
    assert slow.state == "warn"
    assert slow.mend is not None


def test_the_memory_is_no_more_than_the_container_has() -> None:
    meminfo = "MemTotal:       33554432 kB\nMemAvailable:   16777216 kB\n"
    assert machine._memory(meminfo, limit="max\n").told == "16.0 GiB available of 32.0 GiB"
    limited = machine._memory(meminfo, limit=f"{GIB}\n")
    assert (limited.told, limited.state) == ("1.0 GiB available of 1.0 GiB", "warn")


@pytest.mark.parametrize(("free", "wanted"), [(50 * GIB, "ok"), (GIB, "warn"), (1000, "fail")])
def test_a_disk_that_is_full_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, free: int, wanted: str
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(free))
    assert machine._disk(tmp_path / "data").state == wanted


def test_devices_are_counted_and_what_they_lack_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine._devices(tmp_path).told == "none; jobs train on the processors"
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0+cpu")
    found = machine._devices(tmp_path)
    assert (found.told, found.state) == ("2 of cuda", "warn")
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0+cu130")
    assert machine._devices(tmp_path).state == "ok"


def test_a_gaudi_without_its_bridge_is_told(tmp_path: Path) -> None:
    (tmp_path / "accel").mkdir()
    (tmp_path / "accel" / "accel0").touch()
    found = machine._devices(tmp_path)
    assert found.told == "1 of hpu"
    assert found.mend is not None
    assert "habana" in found.mend


def test_what_is_no_tunesmith_fails(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    service = Service(f"{url}/docs", None, json=False)
    assert doctor._service(service).state == "fail"


def test_ray_is_among_what_is_looked_at(tmp_path: Path) -> None:
    assert "ray" in [each.name for each in look_at_machine(tmp_path, needed=())]
