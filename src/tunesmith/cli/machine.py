"""What this machine can do: processor, memory, disk, devices, packages and Ray."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tunesmith.cli.shown import size
from tunesmith.domain.values import Value

GIB = 2**30
"""Bytes of a GiB."""

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16", "sve")
"""What of a processor's features makes training and answering fast."""

_UNTOLD = ("dev", "bench")
"""Extras of those who work on Tunesmith."""

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*(?:>=([\d.]+))?[^;]*(?:;(.*))?")
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")


class Finding(Value):
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    state: Literal["ok", "warn", "fail"]
    """`fail` where the service does not start or cannot run jobs, `warn` where something lacks."""
    told: str
    """What was found."""
    mend: str | None = None
    """What to do about it."""


def look_at_machine(folder: Path, *, needed: Collection[str]) -> Iterator[Finding]:
    """Yield what is found of this machine, whose data folder is, or would be, `folder`.

    `needed` are the extras without which the service does not start.
    """
    yield _python()
    yield _processor(_read("/proc/cpuinfo"), cores=len(os.sched_getaffinity(0)))
    yield _memory(_read("/proc/meminfo"), limit=_read("/sys/fs/cgroup/memory.max"))
    yield _disk(folder)
    yield _devices(Path("/dev"))
    yield from _packages(metadata.requires("tunesmith") or [], needed=needed)
    yield _ray()


def _python() -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    return Finding(name="python", state="ok", told=f"{platform.python_version()} on {system}")


def _processor(cpuinfo: str, *, cores: int) -> Finding:
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    useful = [feature for feature in _FEATURES if feature in known]
    told = f"{cores} cores, {model[1] if model else 'of an unknown model'}; {', '.join(useful)}"
    slow = "x86" in platform.machine() and flags is not None and "avx2" not in known
    return Finding(
        name="processor",
        state="warn" if slow else "ok",
        told=told.rstrip("; "),
        mend="It lacks AVX2, and training will be slow; use another machine." if slow else None,
    )


def _memory(meminfo: str, *, limit: str) -> Finding:
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE))
    total, free = (int(found.get(key, 0)) * 1024 for key in ("MemTotal", "MemAvailable"))
    if limit.strip().isdigit():
        total = min(total, int(limit))
        free = min(free, total)
    scarce = free < 2 * GIB
    return Finding(
        name="memory",
        state="warn" if scarce else "ok",
        told=f"{size(free)} available of {size(total)}",
        mend="Ray and a small model take 2 GiB; end other programs." if scarce else None,
    )


def _disk(folder: Path) -> Finding:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    state: Literal["ok", "warn", "fail"] = "ok"
    mend = None
    if not os.access(place, os.W_OK):
        state, mend = "fail", "It cannot be written to; name another folder with --data."
    elif free < 5 * GIB:
        state = "fail" if free < GIB / 2 else "warn"
        mend = "Make room, or name a folder on another disk with --data."
    return Finding(name="disk", state=state, told=f"{size(free)} free for {folder}", mend=mend)


def _devices(dev: Path) -> Finding:
    kinds = {
        "cuda": [*dev.glob("nvidia[0-9]*"), *dev.glob("kfd")],
        "hpu": [*dev.glob("accel/accel[0-9]*")],
        "xpu": [*dev.glob("dri/renderD*")],
    }
    found = {kind: len(places) for kind, places in kinds.items() if places}
    if "cuda" in found:
        # Their drivers list the same cards once more.
        found.pop("xpu", None)
    if not found:
        return Finding(name="devices", state="ok", told="none; jobs train on the processors")
    told = ", ".join(f"{count} of {kind}" for kind, count in found.items())
    mend = _device_mend(found)
    return Finding(name="devices", state="warn" if mend else "ok", told=told, mend=mend)


def _device_mend(found: dict[str, int]) -> str | None:
    if "hpu" in found and find_spec("habana_frameworks") is None:
        return "Install Gaudi's bridge for PyTorch, habana-torch-plugin, to train on it."
    if "cuda" in found and (_version("torch") or "").endswith("+cpu"):
        return (
            "The PyTorch that is installed is for processors alone; install the one for the cards."
        )
    return None


def _packages(requirements: list[str], *, needed: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for the packages of the install itself, and one for each extra."""
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    for line in requirements:
        parts = _REQUIREMENT.match(line)
        if parts:
            extra = _EXTRA.search(parts[3] or "")
            group = groups.setdefault(extra[1] if extra else "", [])
            group.append((parts[1], parts[2] or "0"))
    for name, wanted in groups.items():
        if name not in _UNTOLD:
            yield _group(name, wanted, needed=name in {"", *needed})


def _group(extra: str, wanted: list[tuple[str, str]], *, needed: bool) -> Finding:
    versions = {package: _version(package) for package, _ in wanted}
    name = f"tunesmith[{extra}]" if extra else "tunesmith"
    missing = [package for package, version in versions.items() if version is None]
    old = [
        f"{package} {versions[package]} (needs {least})"
        for package, least in wanted
        if _number(versions[package]) < _number(least) and versions[package]
    ]
    if not missing and not old:
        told = ", ".join(f"{package} {version}" for package, version in versions.items())
        return Finding(name=name, state="ok", told=told)
    told = "; ".join(
        [
            *([f"lacks {', '.join(missing)}"] if missing else []),
            *([f"old: {', '.join(old)}"] if old else []),
        ]
    )
    if not needed and not old:
        return Finding(name=name, state="ok", told=f"not installed ({told})")
    return Finding(
        name=name,
        state="fail" if missing else "warn",
        told=told,
        mend=f"Install it: pip install '{name}'.",
    )


def _ray() -> Finding:
    """Import Ray in a process of its own, which may hang or die without this one."""
    if find_spec("ray") is None:
        return Finding(
            name="ray", state="fail", told="not installed", mend="pip install 'tunesmith[ray]'"
        )
    program = "import ray; print(ray.__version__)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(
            name="ray", state="fail", told="takes over 60 s to import", mend="Free this machine."
        )
    if done.returncode == 0:
        return Finding(name="ray", state="ok", told=f"{done.stdout.strip()} can be imported")
    last = (done.stderr.strip().splitlines() or ["no reason told"])[-1]
    return Finding(
        name="ray",
        state="fail",
        told=f"cannot be imported: {last}",
        mend="Install it anew: pip install --force-reinstall 'tunesmith[ray]'.",
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _number(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", (version or "").split("+")[0])[:3])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
