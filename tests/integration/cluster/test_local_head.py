"""The head of one machine: adopted, kept alive, apart from others, ended to the last process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from integration.cluster.conftest import answers, await_true, has_ended
from tunesmith.cluster.head_process import HeadFolder
from tunesmith.cluster.local_head import LocalRay
from tunesmith.domain.errors import ClusterUnavailableError
from unit.cluster.contract import python

PROGRAM = "import os, time; print('process', os.getpid(), flush=True); time.sleep(600)"
OWNER = """
import sys, time
from pathlib import Path
from tunesmith.cluster.local_head import LocalRay
LocalRay(Path(sys.argv[1])).start()
time.sleep(600)
"""


def run_endless(cluster: LocalRay) -> tuple[str, psutil.Process]:
    """Submit an endless program; return its submission id and, once it runs, its process."""
    job = python(PROGRAM, cpus=0.5)
    cluster.submit(job)

    def said() -> list[str]:
        return [each for each in cluster.logs(job.id).splitlines() if each.startswith("process ")]

    await_true(said)
    return job.id, psutil.Process(int(said()[0].split()[1]))


def listening(folder: Path) -> set[tuple[str, int]]:
    """Return the addresses and ports on which the head of `folder` listens."""
    found = set()
    for process in HeadFolder(folder).members():
        # A worker that is not needed leaves when it likes.
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {
                (connection.laddr.ip, connection.laddr.port)
                for connection in process.net_connections(kind="tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def test_until_the_head_is_up_the_cluster_is_unavailable_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnavailableError, match="Ray is starting"):
        LocalRay(tmp_path / "ray").status("a")


def test_the_head_listens_on_no_fixed_port_and_keeps_its_secrets(
    shared_folder: Path, shared_head: LocalRay
) -> None:
    assert (shared_folder / "token").stat().st_mode & 0o777 == 0o600
    assert shared_folder.stat().st_mode & 0o777 == 0o700
    assert HeadFolder(shared_folder).temp.stat().st_mode & 0o777 == 0o700
    ports = {port for _, port in listening(shared_folder)}
    assert ports
    assert not ports & {6379, 8265, 10001, 52365, *range(10002, 10010)}


def test_the_dashboard_is_on_loopback_and_shows_nothing_without_the_token(
    shared_folder: Path, shared_head: LocalRay
) -> None:
    head = HeadFolder(shared_folder).find()
    assert head is not None
    places = {host for host, port in listening(shared_folder) if port == head.dashboard_port}
    assert places == {"127.0.0.1"}

    shown = ("/api/jobs/", "/api/v0/nodes", "/api/v0/logs/file?submission_id=a", "/timezone")
    asked = {
        "nobody": {},
        "a stranger": {"Authorization": "Bearer wrong"},
        "we": {"Authorization": f"Bearer {HeadFolder(shared_folder).token()}"},
    }
    answers = {
        who: [httpx.get(head.address + path, headers=headers).status_code for path in shown]
        for who, headers in asked.items()
    }
    assert answers["nobody"] == [401] * 4
    assert answers["a stranger"] == [403] * 4
    assert answers["we"][:2] == [200] * 2


def test_the_ports_that_a_head_is_told_are_never_handed_out_to_somebody_else_meanwhile(
    shared_folder: Path, shared_head: LocalRay
) -> None:
    """Ray's processes listen seconds after one another; one that finds its port taken ends all."""
    head = HeadFolder(shared_folder).find()
    assert head is not None
    command = psutil.Process(head.pid).cmdline()
    told = {
        int(value)
        for name, _, value in (each.partition("=") for each in command)
        if name.endswith("port") and value != "0"
    }
    handed_out = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    assert len(told) == 2
    assert head.dashboard_port in told
    assert max(told) < int(handed_out)


def test_a_head_whose_owner_was_killed_is_adopted_with_its_jobs(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder)]) as owner:
        try:
            await_true(lambda: HeadFolder(folder).find())
            launched = HeadFolder(folder).find()
        finally:
            owner.send_signal(signal.SIGKILL)
    first = LocalRay(folder)
    first.start()
    await_true(lambda: answers(first))
    job_id, process = run_endless(first)
    first.detach()
    second = LocalRay(folder)
    second.start()
    await_true(lambda: answers(second))
    assert HeadFolder(folder).find() == launched
    assert second.status(job_id) is not None
    assert process.is_running()

    launched_processes = HeadFolder(folder).members()
    assert process in launched_processes
    second.shutdown()
    assert all(has_ended(each) for each in launched_processes)
    assert not HeadFolder(folder).temp.exists()
    assert not (folder / "head.json").exists()


def test_a_head_that_died_comes_back_without_the_old_processes(
    folder: Path, shared_folder: Path, shared_head: LocalRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    neighbour_id, neighbour = run_endless(shared_head)
    cluster = LocalRay(folder)
    cluster.start()
    try:
        await_true(lambda: answers(cluster))
        job_id, process = run_endless(cluster)
        head = HeadFolder(folder).find()
        assert head is not None
        psutil.Process(head.pid).kill()
        await_true(lambda: not answers(cluster))
        await_true(lambda: answers(cluster))
        assert has_ended(process)
        assert cluster.status(job_id) is None
        assert shared_head.status(job_id) is None
    finally:
        cluster.shutdown()
    assert neighbour.is_running()
    assert shared_head.status(neighbour_id) is not None
    shared_head.stop(neighbour_id)


def test_shutting_down_in_mid_start_leaves_nothing(folder: Path) -> None:
    cluster = LocalRay(folder)
    cluster.start()
    await_true(lambda: HeadFolder(folder).find())
    cluster.shutdown()
    assert HeadFolder(folder).members() == []
    assert not HeadFolder(folder).temp.exists()
