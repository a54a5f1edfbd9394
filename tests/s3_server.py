"""A server that speaks S3, for tests: moto's, one request at a time, which can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "tunesmith-test"
KEYS = {"AWS_ACCESS_KEY_ID": "a-key-for-tests", "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests"}


class S3Server:
    """What listens, what it was asked, and what it is to spoil."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        # Its conditions are looked at and its writes are made apart: alone they are one step.
        self._lock = threading.Lock()
        self.requests: list[str] = []
        """`PUT /bucket/key?query` of each request, in order."""
        self.spoil: Callable[[str], str | None] = lambda _: None
        """Told each request; answers `before` or `after` to cut the connection there, or `body`."""
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def client(self) -> Any:
        """A client of our own, beside what is tested."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects that begin with `prefix`."""
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        )
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' if query else ''}{query}"
        self.requests.append(asked)
        spoilt = self.spoil(asked)
        if spoilt == "before":
            raise ConnectionAbortedError
        with self._lock:
            content = b"".join(self._app(environ, start_response))
        if spoilt == "after":
            raise ConnectionAbortedError
        return [content[: len(content) // 2]] if spoilt == "body" else [content]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        self.close_connection = True


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Yield a server that has the bucket."""
    server = S3Server()
    try:
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.stop()
