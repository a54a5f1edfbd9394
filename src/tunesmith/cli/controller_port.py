"""What the controller answers on a port of its own: whether it is alive, and its metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def open_port(host: str, port: int, *, lack: Callable[[], str | None]) -> WSGIServer:
    """Answer on `port` of `host`, by threads that end with the process; return the server.

    `/health` is 200 unless `lack` says, in words, why the process is to be started anew; it is 503
    then. Any other path tells the metrics. Raises `OSError` where the port cannot be had.
    """
    kind = type("Server", (_Server,), {"address_family": _family(host)})
    server: WSGIServer = make_server(
        host, port, _answering(lack), server_class=kind, handler_class=_Quiet
    )
    threading.Thread(target=server.serve_forever, name="controller-port", daemon=True).start()
    return server


def _answering(lack: Callable[[], str | None]) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/health":
            return metrics(environ, start_response)
        lacking = lack()
        status = "200 OK" if lacking is None else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [(lacking or "").encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Log nothing: it is asked every few seconds."""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
