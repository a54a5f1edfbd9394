"""The models that Ray Serve keeps in memory, behind its HTTP proxy.

The application is started by the first question, by a submission that ends as soon as Serve has it.
Nothing else of Serve's is touched, so that a cluster may serve other things beside.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tunesmith import __version__
from tunesmith.cluster.protocol import Submission
from tunesmith.cluster.ray_jobs import RayJobs
from tunesmith.domain.answers import Piece, Question
from tunesmith.domain.errors import BusyError, ClusterUnavailableError

_LOOK_PERIOD = 0.25
"""Seconds between two looks at whether the application runs."""
_CONNECTING = 5.0
"""Seconds that the proxy has to take a connection."""
_RETRY_AFTER = 10
_SERVE_PORT = 8000
"""Where Serve listens on a cluster of several machines, unless it runs already: its own default."""


@dataclass(frozen=True)
class Ray:
    """A Ray that is there."""

    jobs: RayJobs
    """Its Jobs API."""
    dashboard: str
    """URL of its dashboard."""


@dataclass(frozen=True)
class Waits:
    """For how long what is waited, in seconds."""

    idle: float = 300.0
    """Without a question, until the models leave the memory."""
    patience: float = 90.0
    """That a question waits at the most until the application runs."""


class RayServe:
    """Asks the models of the Ray cluster that `find` finds."""

    def __init__(
        self,
        find: Callable[[], Ray],
        *,
        data: Path,
        location: str | None = None,
        share: Callable[[str, str], object] | None = None,
        waits: Waits = Waits(),
    ) -> None:
        """Ask nothing yet.

        `find` is called for each start, and raises `ClusterUnavailableError` where there is no Ray.
        `data` is the data folder, at the same path on each node; unless `location` says where else
        the artifacts are for the nodes. Then `share` takes the application's name and its secret
        there, before each start.
        """
        self._find = find
        self._data = data
        self._location = location or str(data)
        self._share = share
        self._waits = waits
        self._url: str | None = None
        self._starting = asyncio.Lock()
        # An answer takes as long as it takes; a model may have to be loaded before its first word.
        limits = httpx.Timeout(None, connect=_CONNECTING)
        self._client = httpx.AsyncClient(
            timeout=limits, limits=httpx.Limits(max_connections=None), trust_env=False
        )

    @property
    def application(self) -> str:
        """Its name on Serve: another data folder's, or version's, is another application."""
        told = f"{self._secret()} {__version__}".encode()
        return f"tunesmith-answers-{hashlib.sha256(told).hexdigest()[:8]}"

    async def ask(self, question: Question) -> AsyncGenerator[Piece]:
        """Yield the answers to `question`; see `Answering.ask`."""
        try:
            async with aclosing(self._told(await self._started(), question)) as told:
                async for piece in told:
                    yield piece
                return
        except httpx.ConnectError:
            # Ray, and what it served, is another one by now. Nothing was told yet.
            self._url = None
        try:
            async with aclosing(self._told(await self._started(), question)) as told:
                async for piece in told:
                    yield piece
        except httpx.ConnectError as error:
            raise ClusterUnavailableError("What serves models does not answer.") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _told(self, url: str, question: Question) -> AsyncGenerator[Piece]:
        content = question.model_dump_json().encode()
        headers = {
            "Authorization": f"Bearer {self._secret()}",
            "Content-Type": "application/json",
            "serve_multiplexed_model_id": question.answerer.alone.model_dump_json(),
        }
        try:
            async with self._client.stream("POST", url, content=content, headers=headers) as answer:
                if answer.status_code != 200:
                    self._url = None
                    words = (await answer.aread()).decode(errors="replace")[:300]
                    raise ClusterUnavailableError(
                        f"What serves models answers {answer.status_code}: {words}"
                    )
                async for line in answer.aiter_lines():
                    yield Piece.model_validate_json(line)
        except httpx.ConnectError:
            raise
        except httpx.HTTPError as error:
            self._url = None
            raise ClusterUnavailableError(
                f"The model went away while it answered ({error or type(error).__name__})."
            ) from error

    async def _started(self) -> str:
        """Return where questions go, having started what answers them where it does not run."""
        if self._url is not None:
            return self._url
        clock = asyncio.get_running_loop()
        limit = clock.time() + self._waits.patience
        async with self._starting:
            while self._url is None:
                try:
                    # Anything of Ray may take its time, so it is asked aside.
                    self._url = await asyncio.to_thread(self._look)
                except ClusterUnavailableError:
                    # It may be starting.
                    if clock.time() > limit:
                        raise
                if clock.time() > limit:
                    raise BusyError(
                        "The models are still being started. Ask again later.",
                        code="models_starting",
                        retry_after=_RETRY_AFTER,
                    )
                await asyncio.sleep(0 if self._url else _LOOK_PERIOD)
            return self._url

    def _look(self) -> str | None:
        """Return where the application answers; where it is not there, have it started."""
        ray, name = self._find(), self.application
        serve = ray.jobs.serving()
        application = serve["applications"].get(name, {})
        if application.get("status") == "RUNNING":
            there = urlsplit(ray.dashboard).hostname
            return f"http://{there}:{serve['http_options']['port']}/{name}"
        if application.get("status") not in ("DEPLOYING", "DELETING"):
            self._start(ray)
        return None

    def _start(self, ray: Ray) -> None:
        """Submit what starts the application, unless that is at it already."""
        name, number = self.application, 1
        while (status := ray.jobs.status(f"{name}-{number}")) is not None:
            if not status.state.ended:
                return
            number += 1
        here = urlsplit(ray.dashboard).hostname in ("127.0.0.1", "localhost", "::1")
        host, port = ("127.0.0.1", 0) if here else ("0.0.0.0", _SERVE_PORT)  # noqa: S104
        if self._share is not None:
            self._share(name, self._secret())
        place = ("--data", self._location, "--name", name)
        listening = ("--host", host, "--port", str(port), "--idle", str(self._waits.idle))
        ray.jobs.submit(
            Submission(
                id=f"{name}-{number}",
                command=("python", "-m", "tunesmith.inference", *place, *listening),
                cpus=0,
            )
        )

    def _secret(self) -> str:
        """Return what shows that the API asks, which is made where it was not there."""
        path = self._data / "answers.token"
        if not path.exists():
            aside = path.with_suffix(f".{secrets.token_hex(4)}")
            aside.touch(mode=0o600)
            aside.write_text(secrets.token_hex(32), encoding="utf-8")
            try:
                # Whoever is first has made it for all.
                path.hardlink_to(aside)
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return path.read_text(encoding="utf-8")
