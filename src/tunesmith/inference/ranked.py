"""Models that make vectors of texts, and those that score passages.

They are loaded by sentence-transformers, as users load a result.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from peft import PeftModel
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoConfig

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.answers import Answerer, Passages, Piece, Texts
from tunesmith.domain.errors import InvalidRequestError, ModelUnavailableError
from tunesmith.domain.spec import Method
from tunesmith.inference.merging import copy_beside
from tunesmith.inference.source import Weights
from tunesmith.models import bringing

_Model = TypeVar("_Model", SentenceTransformer, CrossEncoder)

_BATCH = 32
"""Texts that go through a model together."""


class Ranked:
    """The last of these models that were asked."""

    def __init__(self, artifacts: Artifacts, *, most: int) -> None:
        """Keep up to `most` of a kind of what `artifacts` holds and of base models in memory."""
        self._artifacts = artifacts
        self._most = most
        self._turn = threading.Lock()
        self._embedders: OrderedDict[Answerer, SentenceTransformer] = OrderedDict()
        self._scorers: OrderedDict[Answerer, CrossEncoder] = OrderedDict()

    def vectors(self, answerer: Answerer, asked: Texts) -> Piece:
        """Return the vectors of texts. Raises `ModelUnavailableError`."""
        with self._turn:
            model = self._kept(self._embedders, answerer, load=self.embedder)
            texts = [
                text if isinstance(text, str) else str(model.tokenizer.decode(list(text)))
                for text in asked.texts
            ]
            known = asked.role if asked.role in model.prompts else None
            found = model.encode(
                texts, prompt_name=known, batch_size=_BATCH, show_progress_bar=False
            )
            counted = model.tokenizer(texts, truncation=True)["input_ids"]
        return Piece(
            prompt_tokens=sum(map(len, counted)),
            vectors=tuple(tuple(vector) for vector in found.tolist()),
        )

    def scores(self, answerer: Answerer, asked: Passages) -> Piece:
        """Return how well passages answer a query, each from 0 to 1.

        Raises `ModelUnavailableError`, and `InvalidRequestError` where the model scores nothing.
        """
        with self._turn:
            model = self._kept(self._scorers, answerer, load=self.scorer)
            pairs = [(asked.query, passage) for passage in asked.passages]
            found = model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)
            queries, passages = zip(*pairs, strict=True)
            counted = model.tokenizer(list(queries), list(passages), truncation=True)["input_ids"]
        return Piece(prompt_tokens=sum(map(len, counted)), scores=tuple(found.tolist()))

    def _kept(
        self,
        there: OrderedDict[Answerer, _Model],
        answerer: Answerer,
        *,
        load: Callable[[Answerer], _Model],
    ) -> _Model:
        if answerer not in there:
            while len(there) >= self._most:
                there.popitem(last=False)
            try:
                there[answerer] = load(answerer)
            except (OSError, ValueError, KeyError) as error:
                raise ModelUnavailableError(
                    f"The model's weights cannot be loaded: {error}."
                ) from error
        there.move_to_end(answerer)
        return there[answerer]

    def embedder(self, answerer: Answerer) -> SentenceTransformer:
        """Load the model that makes vectors. Raises `ModelUnavailableError`."""
        if answerer.adapter is None:
            return SentenceTransformer(str(self._base(answerer)), device="cpu")
        with self._merged(answerer, answerer.adapter, method=Method.EMBEDDING) as folder:
            # transformers itself reads factors alone, and drops the magnitudes of DoRA.
            return SentenceTransformer(str(folder), device="cpu")

    def scorer(self, answerer: Answerer) -> CrossEncoder:
        """Load the model that scores passages.

        Raises `ModelUnavailableError`, and `InvalidRequestError` where it scores nothing.
        """
        base = self._base(answerer)
        if answerer.adapter is None:
            kinds: Sequence[str] = AutoConfig.from_pretrained(base).architectures or ()
            if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
                raise InvalidRequestError(
                    f"'{answerer.base.name}' scores no passages; ask a model that was tuned by "
                    "'rerank'.",
                    param="model",
                    code="wrong_kind_of_model",
                )
            return CrossEncoder(str(base), device="cpu")
        with self._merged(answerer, answerer.adapter, method=Method.RERANK) as folder:
            return CrossEncoder(str(folder), device="cpu")

    @contextmanager
    def _merged(self, answerer: Answerer, adapter: str, *, method: Method) -> Iterator[Path]:
        """Yield a folder of a whole model in place of `answerer`, whose adapter goes into it."""
        tuned = self._tuned(adapter)
        weights = Weights(self._base(answerer), method)
        model = weights.rounded() if answerer.rounded else weights.load()
        with TemporaryDirectory() as name:
            PeftModel.from_pretrained(model, str(tuned)).merge_and_unload().save_pretrained(name)
            copy_beside(tuned, Path(name))
            yield Path(name)

    def _base(self, answerer: Answerer) -> Path:
        if answerer.whole is not None:
            return bringing.tuned(answerer.whole, self._artifacts).folder
        return bringing.bring(answerer.base, self._artifacts, announce=lambda _: None).folder

    def _tuned(self, key: str) -> Path:
        if not self._artifacts.exists(f"{key}/adapter_config.json"):
            raise ModelUnavailableError("The model's adapter is no longer there: it was deleted.")
        return self._artifacts.fetch_folder(key)
