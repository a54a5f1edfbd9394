"""A receiver of webhooks, as a user would run one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """What was posted to a URL of this machine."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.posted: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()

    def next(self, *, seconds: float = 30) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers, in small letters, of what is posted next."""
        return self.posted.get(timeout=seconds)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen for webhooks while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.posted.put((body, headers))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()
