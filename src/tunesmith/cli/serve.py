"""The composition root: wires the rooms into the two processes of `tunesmith serve`.

The command's own process answers HTTP. It starts the controller as a child,
starts it again if it dies, and tells it the settings and its own being alive
through a pipe to the child's standard input: when the pipe closes without a
SIGTERM, the API died, and the controller leaves Ray and its jobs running for
the next `tunesmith serve` to find.

Several services may share a data folder. One of their controllers leads; the
others stand by, and one of them takes over when it is gone.

Each process imports only what it needs, so that the API answers at once.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

from tunesmith import __version__
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.cli.clusters import find_ray, open_cluster
from tunesmith.cli.database import open_store
from tunesmith.cli.folder import open_folder, sharing
from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.errors import ClusterUnavailableError, SettingsError
from tunesmith.domain.liveness import CONTROLLER
from tunesmith.domain.log_context import MaskingFormatter
from tunesmith.settings import Settings, environment_secrets

if TYPE_CHECKING:
    import uvicorn

    from tunesmith.cluster.local_head import LocalRay
    from tunesmith.cluster.ray_jobs import RayJobs
    from tunesmith.controller.loop import Controller
    from tunesmith.store.protocol import Store

RESTART_PAUSE = 1.0
"""Seconds before a controller that died is started again; doubled for each quick death."""
LONGEST_PAUSE = 10.0
"""Seconds that the pause grows to at the most."""
STOP_PATIENCE = 6.0
"""Seconds that running jobs get to save a checkpoint; Ray kills them after 4."""
LEAVE_PATIENCE = 40.0
"""Seconds that the controller gets to end its jobs and Ray before it is killed."""

logger = logging.getLogger(__name__)


def serve_service(settings: Settings) -> None:
    """Run the service until SIGINT or SIGTERM.

    Raises `SettingsError` where the folder or the address cannot be used, and
    `FolderInUseError` where another process has the folder to itself.
    """
    _check_extras(settings)
    folder = open_folder(settings.data)
    _log_to_stderr(settings)
    with sharing(folder, patience=3.0), _bind(settings) as listener:
        store = open_store(folder)
        _check_keys(settings, listener, store=store)
        _serve_api(settings, listener, store=store)


def _check_extras(settings: Settings) -> None:
    """Raise `SettingsError` where the install lacks what the controller or its own Ray needs."""
    needed = {}
    if not settings.ray_address:
        needed = {"psutil": "ray", "ray": "ray"}
        needed |= {"torch": "train", "transformers": "train", "peft": "train"}
    elif not settings.ray_address.startswith(("http://", "https://")):
        # Ray itself knows where such an address leads.
        needed = {"ray": "ray"}
    missing = {extra for module, extra in needed.items() if find_spec(module) is None}
    if missing:
        raise SettingsError(
            f"This install lacks 'tunesmith[{','.join(sorted(missing))}]', which running jobs "
            "needs. Install it, or name a cluster that has it with RAY_ADDRESS."
            if "train" in missing
            else "This install lacks 'tunesmith[ray]', which finds Ray at such an address. Install "
            "it, or name the cluster's dashboard with RAY_ADDRESS, such as http://host:8265."
        )


def _serve_api(settings: Settings, listener: socket.socket, *, store: Store) -> None:
    import uvicorn

    from tunesmith.api.app import create_app
    from tunesmith.api.checks import FileChecks
    from tunesmith.api.page import mount_page
    from tunesmith.api.services import Services
    from tunesmith.cli.page import open_page
    from tunesmith.cluster.ray_serve import RayServe

    services = Services(
        store=store,
        artifacts=LocalArtifacts(settings.data),
        answering=RayServe(partial(find_ray, settings), data=settings.data),
        catalogue=settings.catalogue,
        organization=settings.organization,
        device=settings.device,
        push_folder=settings.push_folder,
        push_hub_owner=settings.push_hub_owner,
        clock=SystemClock(),
        max_upload_bytes=settings.max_upload_bytes,
        version=__version__,
        checks=FileChecks(TokenizerFolders(settings.data).folder, workers=os.cpu_count() or 1),
        open_without_keys=settings.allow_open or _on_loopback(listener),
        own_names=None if settings.allow_open else frozenset({settings.host.lower()}),
        limits=settings.project_limits,
    )
    app = create_app(services)
    mount_page(app, open_page(listener, data=settings.data))

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # They would go on for as long as their jobs, and the server waits for its answers.
            app.state.streams.close()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = Server(config)
    # uvicorn raises the signal again once it has shut down; the controller is still to be ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    controller = ControllerProcess(settings)
    watch = threading.Thread(target=controller.keep_alive, args=(server,), daemon=True)
    watch.start()
    _announce(settings, listener, store=store)
    try:
        server.run(sockets=[listener])
    finally:
        controller.end()
        watch.join(timeout=5)


class ControllerProcess:
    """The controller as a child process that is kept alive."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet."""
        self._settings = settings
        # The child that is started again takes up the lease of the one that died.
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._child: subprocess.Popen[bytes] | None = None
        self._leaving = threading.Event()
        self._lock = threading.Lock()

    def keep_alive(self, server: uvicorn.Server) -> None:
        """Start the child once `server` has started, and again whenever it dies."""
        while not server.started and not self._leaving.wait(0.01):
            pass
        pause = RESTART_PAUSE
        while not self._leaving.is_set():
            began = time.monotonic()
            end = self._run_one()
            lived = time.monotonic() - began
            pause = RESTART_PAUSE if lived > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            if not self._leaving.wait(pause):
                logger.error("The controller %s; it is started again.", end)

    def end(self) -> None:
        """Ask the child to leave, with its jobs and Ray where nobody stands by, and wait for it."""
        self._leaving.set()
        with self._lock:
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(LEAVE_PATIENCE)
        except subprocess.TimeoutExpired:
            logger.warning("The controller did not end in %.0f s; killing it.", LEAVE_PATIENCE)
            child.kill()
            child.wait()

    def _run_one(self) -> str:
        """Start the child and wait for its end; return what became of it."""
        try:
            with self._lock:
                if self._leaving.is_set():
                    return "is needed no more"
                child = self._child = self._start()
        except OSError as error:
            # There is no memory or process for it now, or it died before it had its settings.
            return f"could not be started: {error}"
        return f"ended with code {child.wait()}"

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: a terminal's Ctrl-C reaches the API alone, which then ends the rest.
        child = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.cli.serve", self._holder],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if child.stdin is not None:
            child.stdin.write(self._settings.model_dump_json().encode() + b"\n")
            child.stdin.flush()
        return child


def run_controller(settings: Settings, holder: str) -> None:
    """Run the controller until SIGTERM or the end of standard input.

    It stands by until it leads under the name `holder`, and ends where another takes over.
    """
    from tunesmith.controller.lead import holding, stand_by
    from tunesmith.controller.loop import collect_seldom

    _log_to_stderr(settings)
    collect_seldom()
    stop, deserted = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=(stop, deserted), daemon=True).start()
    store = open_store(settings.data)
    lease = stand_by(store, holder, stop=stop)
    if lease is None:
        return
    cluster = open_cluster(settings, leads=partial(_leads, store, holder))
    with holding(store, lease, given_up=deserted):
        controller = _controller(settings, store.fenced(lease), cluster=cluster, stop=stop)
        controller.run(stop)
    if stop.is_set() and not deserted.is_set():
        _leave(cluster, controller, store=store, holder=holder)


def _controller(
    settings: Settings, store: Store, *, cluster: LocalRay | RayJobs, stop: threading.Event
) -> Controller:
    """Return the controller, with what works beside it until `stop`."""
    from tunesmith.controller.doors import Doors
    from tunesmith.controller.launch import Launcher
    from tunesmith.controller.loop import Controller
    from tunesmith.controller.sweep import keep_swept
    from tunesmith.controller.webhooks import keep_delivering

    artifacts = LocalArtifacts(settings.data)
    doors = Doors(
        store=store,
        cluster=cluster,
        artifacts=artifacts,
        clock=SystemClock(),
        secrets=_secrets(settings),
    )
    launcher = Launcher(
        artifacts,
        location=str(settings.data),
        catalogue=settings.catalogue,
        keep_checkpoints=settings.keep_checkpoints,
        tracking=settings.tracking,
    )
    threading.Thread(target=keep_swept, args=(doors, stop), daemon=True).start()
    threading.Thread(target=keep_delivering, args=(doors, stop), daemon=True).start()
    return Controller(
        doors,
        launcher,
        crash_retries=settings.crash_retries,
        warm=settings.warm_processes,
    )


def _leads(store: Store, holder: str) -> bool:
    lease = store.lease(CONTROLLER)
    return lease is not None and lease.holder == holder


def _watch_parent(stop: threading.Event, deserted: threading.Event) -> None:
    """Set both events when the API's end of the pipe closes without a SIGTERM before."""
    # Not through `sys.stdin`, whose lock a thread that waits would hold at the interpreter's end.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    if not stop.is_set():
        deserted.set()
    stop.set()


def _leave(
    cluster: LocalRay | RayJobs, controller: Controller, *, store: Store, holder: str
) -> None:
    """Leave our own Ray to the controller that stands by; without one, end it and its attempts.

    The attempts on somebody else's cluster go on.
    """
    from tunesmith.cluster.ray_jobs import RayJobs
    from tunesmith.controller.lead import holding, take_back

    if isinstance(cluster, RayJobs):
        return
    lease = take_back(store, holder)
    if lease is None:
        return
    with holding(store, lease):
        try:
            controller.pause_all(patience=STOP_PATIENCE)
        except ClusterUnavailableError:
            logger.info("Ray does not answer; there is nothing to stop.")
        finally:
            cluster.shutdown()


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
            "Name another with --host and --port (0 takes any free port)."
        ) from None
    return listener


def _on_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _check_keys(settings: Settings, listener: socket.socket, *, store: Store) -> None:
    """Raise `SettingsError` where the address is for others, but no key says who they are."""
    if settings.allow_open or _on_loopback(listener):
        return
    now = time.time()
    if any(key.usable(now=now) for key in store.list_keys()):
        return
    raise SettingsError(
        f"{settings.host} is not loopback, and there is no API key that could be asked for. Make "
        f"one with `tunesmith keys create --data {settings.data} --project default --name me "
        "--scope admin`, or say with --allow-open that anyone who reaches the address may use "
        "the service."
    )


def _announce(settings: Settings, listener: socket.socket, *, store: Store) -> None:
    # Whoever reads the address may connect at once, and waits for the server to take over.
    listener.listen()
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    print(f"Tunesmith {__version__} at http://{address}:{port}/v1, data in {settings.data}")
    if not _on_loopback(listener) and not store.list_keys():
        print("Anyone who reaches this address can use the service: it asks for no key.")
    print("Ctrl-C ends it.", flush=True)


def log_formatter(settings: Settings) -> logging.Formatter:
    """Return what writes the log's lines: times in UTC, secrets masked."""
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s%(context)s"
    return MaskingFormatter(line, _secrets(settings))


def _secrets(settings: Settings) -> frozenset[str]:
    return frozenset({*environment_secrets(), settings.ray_token or ""} - {""})


def _log_to_stderr(settings: Settings) -> None:
    writer = logging.StreamHandler()
    writer.setFormatter(log_formatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[writer])
    # They tell again what the first line printed, or the line of a request, says already.
    for chatty in ("alembic", "httpx", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main() -> None:
    """Run the controller that the command line names, with the settings on standard input."""
    run_controller(Settings.model_validate_json(sys.stdin.buffer.readline()), sys.argv[1])


if __name__ == "__main__":
    main()
