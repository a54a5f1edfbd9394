"""The composition root: wires the rooms into the two processes of `tunesmith serve`.

The command's own process answers HTTP. It starts the controller as a child,
starts it again if it dies, and tells it the settings and its own being alive
through a pipe to the child's standard input: when the pipe closes without a
SIGTERM, the API died, and the controller leaves Ray and its jobs running for
the next `tunesmith serve` to find.

Either may be run alone (`Part`), where something else starts them and keeps them alive.

Several services may share a data folder. One of their controllers leads; the
others stand by, and one of them takes over when it is gone.

Each process imports only what it needs, so that the API answers at once.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tunesmith import __version__
from tunesmith.artifacts.opening import open_artifacts
from tunesmith.artifacts.timed import TimedArtifacts
from tunesmith.cli.bucket import check_bucket, sharing_tokens
from tunesmith.cli.clusters import find_ray, open_cluster
from tunesmith.cli.controller_port import open_port
from tunesmith.cli.controller_process import ControllerProcess, new_holder
from tunesmith.cli.database import open_store
from tunesmith.cli.folder import open_folder, sharing
from tunesmith.cli.logs import log_to_stderr, own_secrets
from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.domain.clock import SystemClock
from tunesmith.domain.disk import Disk
from tunesmith.domain.errors import ClusterUnavailableError, SettingsError
from tunesmith.domain.liveness import CONTROLLER
from tunesmith.settings import Settings
from tunesmith.tracing import start_tracing, stop_tracing

if TYPE_CHECKING:
    from tunesmith.cluster.local_head import LocalRay
    from tunesmith.cluster.ray_jobs import RayJobs
    from tunesmith.controller.loop import Controller
    from tunesmith.store.protocol import Store

STOP_PATIENCE = 6.0
"""Seconds that running jobs get to save a checkpoint; Ray kills them after 4."""

logger = logging.getLogger(__name__)


class Part(StrEnum):
    """A process of the service that can be run alone."""

    API = "api"
    CONTROLLER = "controller"


def serve_service(settings: Settings, *, only: Part | None = None) -> None:
    """Run the service, or the part of it that is named, until SIGINT or SIGTERM.

    Raises `SettingsError` where the folder or the address cannot be used, and
    `FolderInUseError` where another process has the folder to itself.
    """
    if only is not Part.API:
        _check_extras(settings)
    folder = open_folder(settings.data)
    log_to_stderr(settings)
    check_bucket(settings)
    with sharing(folder, patience=3.0):
        if only is Part.CONTROLLER:
            print(f"Tunesmith {__version__}: the controller alone, data in {folder}", flush=True)
            run_controller(settings, new_holder(), alone=True)
            return
        with _bind(settings) as listener:
            store = open_store(folder, settings.database_url)
            _check_keys(settings, listener, store=store)
            beside = None if only is Part.API else ControllerProcess(settings)
            _serve_api(settings, listener, store=store, controller=beside)


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


def _serve_api(
    settings: Settings,
    listener: socket.socket,
    *,
    store: Store,
    controller: ControllerProcess | None,
) -> None:
    """Answer HTTP on `listener`, with the `controller` as a child where there is one."""
    import uvicorn

    from tunesmith.api.app import create_app
    from tunesmith.api.checks import FileChecks
    from tunesmith.api.page import mount_page
    from tunesmith.api.services import Services
    from tunesmith.cli.draining import DrainingServer
    from tunesmith.cli.page import open_page
    from tunesmith.cluster.ray_serve import RayServe, Waits

    artifacts = TimedArtifacts(open_artifacts(settings.location))
    services = Services(
        store=store,
        artifacts=artifacts,
        answering=RayServe(
            partial(find_ray, settings),
            data=settings.data,
            location=settings.location,
            share=sharing_tokens(settings, artifacts),
            waits=Waits(idle=settings.answers_idle_seconds),
        ),
        catalogue=settings.catalogue,
        organization=settings.organization,
        device=settings.device,
        disk=Disk(settings.data, floor=settings.min_free_bytes),
        push_folder=settings.push_folder,
        push_hub_owner=settings.push_hub_owner,
        clock=SystemClock(),
        max_upload_bytes=settings.max_upload_bytes,
        version=__version__,
        checks=FileChecks(TokenizerFolders(settings.location).folder, workers=os.cpu_count() or 1),
        open_without_keys=settings.allow_open or _on_loopback(listener),
        own_names=None if settings.allow_open else frozenset({settings.host.lower()}),
        limits=settings.project_limits,
        metrics_token=settings.metrics_token,
    )
    start_tracing("api")
    app = create_app(services)
    page = open_page(listener, data=settings.data, max_upload_bytes=settings.max_upload_bytes)
    mount_page(app, page)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_limit,
    )
    server = DrainingServer(
        config,
        delay=settings.drain_delay,
        drain=app.state.draining.set,
        close=app.state.streams.close,
    )
    # One may come before uvicorn listens to it, and uvicorn raises it again once it has shut down;
    # the controller is still to be ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    _announce(settings, listener, store=store)
    if controller is None:
        server.run(sockets=[listener])
        stop_tracing()
        return
    watch = threading.Thread(target=controller.keep_alive, args=(server,), daemon=True)
    watch.start()
    try:
        server.run(sockets=[listener])
    finally:
        stop_tracing()
        controller.end()
        watch.join(timeout=5)


def run_controller(settings: Settings, holder: str, *, alone: bool = False) -> None:
    """Run the controller until SIGTERM or the end of standard input.

    It stands by until it leads under the name `holder`, and ends where another takes over.
    `alone`, it has no API at its standard input, and SIGINT ends it too.
    """
    from tunesmith.controller.lead import holding, stand_by
    from tunesmith.controller.loop import collect_seldom
    from tunesmith.controller.pulse import Pulse

    log_to_stderr(settings)
    collect_seldom()
    stop, deserted = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, (lambda *_: stop.set()) if alone else signal.SIG_IGN)
    pulse = Pulse()
    _open_own_port(settings, lack=pulse.lack)
    start_tracing("controller")
    if not alone:
        threading.Thread(target=_watch_parent, args=(stop, deserted), daemon=True).start()
    store = open_store(settings.data, settings.database_url)
    lease = stand_by(store, holder, stop=stop, beat=pulse.beat)
    if lease is None:
        return
    cluster = open_cluster(settings, leads=partial(_leads, store, holder))
    with holding(store, lease, given_up=deserted):
        controller = _controller(settings, store.fenced(lease), cluster=cluster, stop=stop)
        controller.run(stop, beat=pulse.beat)
    stop_tracing()
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

    artifacts = TimedArtifacts(open_artifacts(settings.location))
    doors = Doors(
        store=store,
        cluster=cluster,
        artifacts=artifacts,
        clock=SystemClock(),
        disk=Disk(settings.data, floor=settings.min_free_bytes),
        secrets=own_secrets(settings),
    )
    launcher = Launcher(
        artifacts,
        location=settings.location,
        catalogue=settings.catalogue,
        keep_checkpoints=settings.keep_checkpoints,
        tracking=settings.tracking,
    )
    swept = partial(keep_swept, doors, stop, retention=settings.retention)
    threading.Thread(target=swept, daemon=True).start()
    threading.Thread(target=keep_delivering, args=(doors, stop), daemon=True).start()
    return Controller(
        doors,
        launcher,
        crash_retries=settings.crash_retries,
        warm=settings.warm_processes,
    )


def _open_own_port(settings: Settings, *, lack: Callable[[], str | None]) -> None:
    """Tell the controller's own metrics on a port of its own, where one is set, and its health."""
    port = settings.controller_metrics_port
    if port is None:
        return
    try:
        open_port(settings.host, port, lack=lack)
    except OSError as error:
        # Another service of this machine may have the same settings; its jobs go on all the same.
        logger.warning("The controller cannot answer on port %d: %s", port, error)


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
    kept = f"{settings.data} and {settings.location}" if settings.artifacts_url else settings.data
    print(f"Tunesmith {__version__} at http://{address}:{port}/v1, data in {kept}")
    if not _on_loopback(listener) and not store.list_keys():
        print("Anyone who reaches this address can use the service: it asks for no key.")
    print("Ctrl-C ends it.", flush=True)


def main() -> None:
    """Run the controller that the command line names, with the settings on standard input."""
    run_controller(Settings.model_validate_json(sys.stdin.buffer.readline()), sys.argv[1])


if __name__ == "__main__":
    main()
