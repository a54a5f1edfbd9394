"""One Ray head of this machine: its files, its start, its processes and their end."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import ValidationError

from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.domain.values import Value

_MARK = "TUNESMITH_RAY_HEAD"
"""Environment variable by which a process is known to descend from the head of a folder."""
_OBJECT_STORE_BYTES = 200_000_000
"""Ray's object store: training passes data by files, so it needs little."""
_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL; Ray's own processes would take any number of them."""
_LOOK_PERIOD = 0.1
"""Seconds between two looks at who is left."""
_PORTS = range(20_000, 32_000)
"""Ports to choose from: below those that Linux hands out to whoever asks for any port.

Ray's processes listen seconds after one another, and a head that finds its port taken by then
ends.
"""


class Head(Value):
    """A head that was launched."""

    pid: int
    """Process id of `ray start`, whose end is the end of the head."""
    dashboard_port: int
    """Port of the dashboard, which carries the Jobs API, on 127.0.0.1 at the least."""

    @property
    def address(self) -> str:
        """Return the URL of the dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"


class HeadFolder:
    """The head that belongs to one folder.

    <folder>/
      head.json  the `Head` that was launched last
      head.log   what `ray start` printed
      token      the secret that the head asks of everybody, mode 600
      lock       locked by who starts, adopts or ends the head
    """

    def __init__(self, folder: Path) -> None:
        """Look at the head of `folder`, which is made with mode 700 when it is needed."""
        self._folder = folder.resolve()
        # A unix socket's path has at most 107 bytes and Ray's own part takes 70 of them.
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:8]
        self.temp = Path(f"/tmp/tunesmith-{os.getuid()}-{name}")  # noqa: S108
        """Folder of mode 700 for Ray's sockets, logs and temporary files."""
        self.log = self._folder / "head.log"
        """What `ray start` printed."""
        self._launched: subprocess.Popen[bytes] | None = None

    def token(self) -> str:
        """Return the head's secret, which is made at the first call."""
        path = self._folder / "token"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            aside = path.with_suffix(".new")
            aside.touch(mode=0o600)
            aside.write_text(secrets.token_hex(32))
            aside.replace(path)
        return path.read_text()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes out of their `locked` blocks while this one lasts."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def find(self) -> Head | None:
        """Return the head of this folder that is still alive, if there is one."""
        try:
            head = Head.model_validate_json((self._folder / "head.json").read_text())
        except (FileNotFoundError, ValidationError):
            return None
        return head if self.alive(head) else None

    def alive(self, head: Head) -> bool:
        """Tell whether the process of `head` runs and is not a stranger with its old number."""
        try:
            return self._is_member(psutil.Process(head.pid))
        except psutil.NoSuchProcess:
            return False

    def launch(self, host: str = "127.0.0.1", port: int | None = None) -> Head:
        """Start a new head and return at once; whatever is left of an older one is ended first.

        Its dashboard listens on `host` and `port`, on any free one where that is `None`. The head
        outlives this process: it has its own session and none of our files.
        """
        self.end()
        self.token()
        self.temp.mkdir(mode=0o700)
        free, client = free_ports(2)
        port = port or free
        with self.log.open("ab") as log:
            self._launched = subprocess.Popen(  # noqa: S603
                self._command((host, port), client),
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        head = Head(pid=self._launched.pid, dashboard_port=port)
        (self._folder / "head.json").write_text(head.model_dump_json())
        return head

    def end(self) -> None:
        """End the head and all that it started, wait for them, and remove Ray's own folder.

        A zombie has ended: an orphan's stays for as long as the first process of a container
        does not collect it, which may be for ever. Raises `OSError` where Ray's folder is
        somebody else's and `ClusterUnavailableError` where a process outlives its SIGKILL.
        """
        for process in self.members():
            _signal(process, signal.SIGTERM)
        limit = time.monotonic() + _GRACE
        while (left := self.members()) and time.monotonic() < limit + _GRACE:
            if time.monotonic() > limit:
                for process in left:
                    _signal(process, signal.SIGKILL)
            time.sleep(_LOOK_PERIOD)
        if left:
            raise ClusterUnavailableError(f"The old Ray's processes do not end: {left}.")
        if self._launched is not None:
            self._launched.poll()
        if self.temp.exists():
            shutil.rmtree(self.temp)
        (self._folder / "head.json").unlink(missing_ok=True)

    def members(self) -> list[psutil.Process]:
        """Return the processes that descend from this folder's heads, dead heads included."""
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            if process.environ().get(_MARK) == str(self._folder):
                return True
            # Ray's workers write their title over the environment that would show the mark.
            return bool(process.name().startswith("ray") and process.cwd() == str(self._folder))
        except psutil.Error:
            return False

    def _environment(self) -> dict[str, str]:
        """Return ours without what is meant for other Rays, such as `RAY_ADDRESS`.

        Nor do the processes that train learn how to reach the database.
        """
        inherited = {
            name: text
            for name, text in os.environ.items()
            if name[:4] != "RAY_" and name not in {"TUNESMITH_DATABASE_URL", "PGPASSWORD"}
        }
        ours = {
            _MARK: str(self._folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._folder / "token"),
            "RAY_JOB_STOP_WAIT_TIME_S": "4",
            # Seconds between two counts of what is free, which Ray does here.
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        # The dashboard leaves its temporary folders behind when it is killed.
        return {"TMPDIR": str(self.temp)} | inherited | ours

    def _command(self, dashboard: tuple[str, int], client_port: int) -> list[str]:
        """Return the command of a head whose other ports are all free ones."""
        flags = {
            "port": 0,
            "dashboard-host": dashboard[0],
            "dashboard-port": dashboard[1],
            "ray-client-server-port": client_port,
            "dashboard-agent-listen-port": 0,
            "dashboard-agent-grpc-port": 0,
            "runtime-env-agent-port": 0,
            "metrics-export-port": 0,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "object-store-memory": _OBJECT_STORE_BYTES,
            # Ray opens this one to everybody, so it lies inside one that is not.
            "temp-dir": self.temp / "ray",
            "include-dashboard": "true",
            "include-log-monitor": "false",
        }
        # Ray counts what the machine has, or a limit of time; it does not see a choice of some.
        if len(allowed := os.sched_getaffinity(0)) < (os.cpu_count() or 0):
            flags["num-cpus"] = len(allowed)
        ray = [sys.executable, "-m", "ray.scripts.scripts"]
        options = [f"--{name}={value}" for name, value in flags.items()]
        return [*ray, "start", "--head", "--block", "--disable-usage-stats", *options]


def free_ports(count: int) -> list[int]:
    """Return ports of `_PORTS` on 127.0.0.1 that nobody listens on at this moment."""
    free: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(port)
        if len(free) == count:
            return free
    raise ClusterUnavailableError("No port for Ray is free on this machine.")


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
