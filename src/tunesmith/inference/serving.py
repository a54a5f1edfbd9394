"""The application that answers questions on Ray Serve.

A replica takes questions as JSON, one a request, and streams the pieces of their answers, one JSON
object a line. It is asked by the API alone, which shows the secret of the data folder.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest

from pydantic import ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tunesmith.artifacts.opening import open_artifacts
from tunesmith.domain.answers import Piece, Question
from tunesmith.inference.asking import ElsewhereError
from tunesmith.inference.cards import Cards, borrow
from tunesmith.models.environment import ENVIRONMENT

MODELS = 2
"""Models of a kind that a replica keeps in memory, each with its adapters."""
_TOGETHER = 8
"""Questions for each of which there is to be room at once in a replica, before there is another."""
_TOGETHER_ON_CARDS = 64
"""The same where the cluster has graphics cards."""


class Answers:
    """A replica: some models in memory, and who asks them."""

    def __init__(self, location: str, *, secret: str, threads: int) -> None:
        """Answer with what the artifacts at `location` hold, whoever shows `secret`.

        `threads` is how many compute; it takes seconds to import what is needed.
        """
        # It takes seconds to import what answers, which whoever deploys this need not wait for.
        torch = importlib.import_module("torch")
        self._telling = importlib.import_module("tunesmith.inference.telling")
        torch.set_num_threads(threads)
        logging.basicConfig(level=logging.INFO)
        self._secret = secret
        self._memory = self._telling.memory(open_artifacts(location), models=MODELS)
        self._cards = Cards(partial(borrow, location))

    async def __call__(self, request: Request) -> Response:
        """Answer one question."""
        shown = request.headers.get("authorization", "")
        if not compare_digest(shown, f"Bearer {self._secret}"):
            return PlainTextResponse("This is for Tunesmith's API alone.", status_code=401)
        try:
            question = Question.model_validate_json(await request.body())
        except ValidationError as error:
            return PlainTextResponse(str(error), status_code=422)
        await self._here(_place(question))
        return StreamingResponse(self._lines(question), media_type="application/x-ndjson")

    @serve.multiplexed(  # type: ignore[untyped-decorator]
        max_num_models_per_replica=MODELS
    )
    async def _here(self, model: str) -> str:
        """Note that `model` is in memory here, so that Serve brings more questions for it here."""
        return model

    async def _lines(self, question: Question) -> AsyncIterator[bytes]:
        async with aclosing(self._pieces(question)) as pieces:
            async for piece in pieces:
                yield piece.model_dump_json(exclude_defaults=True).encode() + b"\n"

    async def _pieces(self, question: Question) -> AsyncGenerator[Piece]:
        # Vectors and scores are made on processors in any case.
        if question.count:
            try:
                async with aclosing(self._cards.pieces(question)) as pieces:
                    async for piece in pieces:
                        yield piece
                    return
            except ElsewhereError:
                pass
        async with aclosing(self._telling.pieces(question, self._memory)) as pieces:
            async for piece in pieces:
                yield piece


def _place(question: Question) -> str:
    """Return by what Serve knows the weights that `question` needs."""
    return question.answerer.alone.model_dump_json()


@dataclass(frozen=True)
class Machines:
    """What of the cluster is there to answer."""

    nodes: int
    """How many nodes there are."""
    cards: int
    """Graphics cards of all nodes together."""
    processors: int
    """Threads with which a replica computes."""

    @property
    def replicas(self) -> int:
        """How many replicas there may be: one a node, and where there are cards one a card."""
        return min(self.nodes, self.cards or self.nodes)

    @property
    def together(self) -> int:
        """Questions for which a replica is to have room at once."""
        return _TOGETHER_ON_CARDS if self.cards else _TOGETHER


def deploy(name: str, *, location: str, secret: str, machines: Machines, idle: float) -> None:
    """Let Serve keep the application `name`, whose replicas are on `machines`.

    They end after `idle` seconds without a question.

    Replicas hold no processor of Ray's: who asks a model is answered while others train. They
    borrow a graphics card each where one is free.
    """
    running = serve.status().applications.get(name)
    if running is not None and running.status is ApplicationStatus.RUNNING:
        return
    deployment = serve.deployment(
        name="answers",
        max_ongoing_requests=8 * machines.together,
        autoscaling_config={
            "min_replicas": 0,
            "initial_replicas": 1,
            "max_replicas": machines.replicas,
            "target_ongoing_requests": machines.together,
            "downscale_delay_s": idle,
        },
        ray_actor_options={
            "num_cpus": 0,
            "runtime_env": {
                "env_vars": ENVIRONMENT | {"OMP_NUM_THREADS": str(machines.processors)}
            },
        },
    )(Answers)
    bound = deployment.bind(location, secret=secret, threads=machines.processors)
    made: DeploymentHandle[Answers] = serve.run(bound, name=name, route_prefix=f"/{name}")
    logging.getLogger(__name__).info("%s answers", made.deployment_id)
