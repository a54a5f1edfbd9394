"""The adapter's shape, as requests give and the job shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import JobRequest, LoraSpec, Method, WholeLayer
from tunesmith.protocol.reading import describe
from tunesmith.protocol.wire import Wire

Rank = Annotated[int, Field(ge=1, le=1024)]
"""Inner dimension of an adapter's two factors."""

Alpha = Annotated[float, Field(gt=0, le=1e6)]
"""Numerator of an adapter's scale."""

Dropout = Annotated[float, Field(ge=0, lt=1)]
"""Share of an adapter's inputs that is zeroed while training."""

Targets = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=100)
]
"""Names of modules that are adapted."""

AlsoTrain = Annotated[list[Literal["embeddings", "head"]], Field(max_length=2)]
"""Layers that are trained as a whole beside an adapter."""

Kind = Literal["lora", "rslora", "dora", "qlora", "full"]
"""Kinds of adapters, and `full` for none."""


class AdapterRequest(Wire):
    """The adapter's shape."""

    kind: Kind = "lora"
    """`lora` (arXiv:2106.09685), `rslora` (scaled by the root of the rank, arXiv:2312.03732),
    `dora` (magnitude and direction apart, arXiv:2402.09353) or `qlora` (`lora` on a base model
    whose linear layers but the head take 4 bits a weight, arXiv:2305.14314, which saves memory and
    takes time); or `full`: no adapter, all weights are trained, which takes 16 bytes of memory a
    weight (8 with `adafactor`), and the other keys have no place."""
    rank: Rank = 16
    """Inner dimension of the two factors."""
    alpha: Alpha | None = None
    """The product of the factors is scaled by `alpha / rank`; null means twice the rank."""
    dropout: Dropout = 0.0
    """Share of the adapter's inputs that is zeroed while training."""
    targets: Targets | None = None
    """Names of the modules that are adapted; null means every linear layer but the head."""
    also_train: AlsoTrain = Field(default_factory=list)
    """Layers that are trained as a whole beside the adapter and saved with it, which takes 16 bytes
    of memory a weight: `embeddings`, which make vectors of tokens, and `head`, which makes logits.
    In a model whose head shares its weights with the embeddings, either means both, and they stay
    the same. A reranker's head is new and is trained in any case; an embedding model has none."""

    def to_spec(self, source: LoraSpec | None) -> LoraSpec | None:
        """Return the adapter's shape in domain terms: that of `source`, if the job starts from one.

        `None` means that all weights are trained. Raises `InvalidRequestError` where another
        shape than the source's is asked for, though dropout is free; or a shape of nothing.
        """
        if source is not None:
            return self._tuned_on(source)
        if self.kind == "full":
            for key in sorted(self.model_fields_set - {"kind"}):
                path = f"tuning.adapter.{key}"
                raise InvalidRequestError(
                    f"'{path}' is given, but with 'tuning.adapter.kind' 'full' there is no "
                    "adapter; leave the one out or change the other.",
                    param=path,
                )
            return None
        return LoraSpec(
            rank=self.rank,
            alpha=2.0 * self.rank if self.alpha is None else self.alpha,
            dropout=self.dropout,
            targets=tuple(self.targets) if self.targets else None,
            rslora=self.kind == "rslora",
            dora=self.kind == "dora",
            quantized=self.kind == "qlora",
            also_train=tuple(layer for layer in WholeLayer if layer.value in self.also_train),
        )

    def _tuned_on(self, source: LoraSpec) -> LoraSpec:
        given = self.model_dump(include=self.model_fields_set)
        found = AdapterObject.to_wire(source).model_dump()
        if given.get("targets"):
            given["targets"] = sorted(given["targets"])
        if "also_train" in given:
            given["also_train"] = sorted(set(given["also_train"]))
        dropout = given.pop("dropout", source.dropout)
        check_same({f"tuning.adapter.{key}": (given[key], found[key]) for key in given})
        return source.model_copy(update={"dropout": dropout})


class AdapterObject(Wire):
    """The adapter's shape."""

    kind: Kind
    """`lora`, `rslora`, `dora`, `qlora`; or `full`: no adapter, all weights are trained."""
    rank: int | None
    """Inner dimension of the two factors; with `full` null, as all that follows."""
    alpha: float | None
    """Numerator of the scale."""
    dropout: float | None
    """Share of the adapter's inputs that is zeroed while training."""
    targets: list[str] | None
    """Names of the modules that are adapted; null means every linear layer but the head."""
    also_train: list[str] | None
    """Layers that are trained as a whole beside the adapter."""

    @classmethod
    def to_wire(cls, lora: LoraSpec | None) -> Self:
        """Return the shape `lora` as clients see it; `None` means that there is no adapter."""
        if lora is None:
            return cls(
                kind="full", rank=None, alpha=None, dropout=None, targets=None, also_train=None
            )
        return cls(
            kind=_kind(lora),
            rank=lora.rank,
            alpha=lora.alpha,
            dropout=lora.dropout,
            targets=None if lora.targets is None else list(lora.targets),
            also_train=[layer.value for layer in lora.also_train],
        )


def check_head(request: JobRequest) -> None:
    """Raise `InvalidRequestError` where `request` wants a head trained that its model has not."""
    lora = request.lora
    if lora and WholeLayer.HEAD in lora.also_train and request.method is Method.EMBEDDING:
        raise InvalidRequestError(
            "'tuning.adapter.also_train' has 'head', but an embedding model has no head: its "
            "vectors are the last layer's states. Leave 'head' out.",
            param="tuning.adapter.also_train",
        )


def _kind(lora: LoraSpec) -> Kind:
    if lora.quantized:
        return "qlora"
    return "dora" if lora.dora else "rslora" if lora.rslora else "lora"


def check_same(asked: Mapping[str, tuple[object, object]]) -> None:
    """Raise `InvalidRequestError` where a request asks for another shape than the source has.

    `asked` gives, by the path of each key, what the request says (null for
    nothing) and what the source has.
    """
    for path, (wanted, found) in asked.items():
        if wanted is not None and wanted != found:
            raise InvalidRequestError(
                f"'{path}' is {_shown(wanted)}, but the adapter that the job starts from has "
                f"{_shown(found)}. Leave it out, or start from the base model.",
                param=path,
            )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"'{name}'" for name in value) or "empty"
    return describe(value)
