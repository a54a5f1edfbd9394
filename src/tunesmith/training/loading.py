"""Loads a model as the network that texts go through: packed where it can be used so, or padded."""

from __future__ import annotations

import gc

from tunesmith.domain.events import EventLevel
from tunesmith.domain.spec import LoraSpec, Method, Precision, TrainSpec
from tunesmith.models.bringing import BaseModel
from tunesmith.training.adapter import DTYPES, load_model
from tunesmith.training.devices import Place
from tunesmith.training.encoders import pack_encoder
from tunesmith.training.kernels import found
from tunesmith.training.network import Network
from tunesmith.training.packed import ALL_TRAINED, SCALED, NotPackableError, pack
from tunesmith.training.preferences import needs_reference
from tunesmith.training.sharding import is_sharded
from tunesmith.training.telemetry import EventLog


def load_network(
    spec: TrainSpec,
    base: BaseModel,
    *,
    on: tuple[Place, Precision],
    workers: int,
    events: EventLog,
) -> Network:
    """Return the network of `spec`, which is loaded from `base` and trained `on` a device.

    A model that the `workers` divide among themselves stays on the processor until then, unless it
    is to measure a reference before.
    """
    place, precision = on
    if spec.method is not Method.RERANK:
        network = _packed(spec, base, on=on, events=events)
        if network is not None:
            return network
        # A model that could not be packed holds on to itself by what was put in place in it.
        gc.collect()
        place.forget()
    moved = needs_reference(spec) or not is_sharded(spec, workers=workers)
    model = load_model(spec, base, precision=precision, padded=True, place=place, moved=moved)
    return Network(model, place=place)


def _packed(
    spec: TrainSpec, base: BaseModel, *, on: tuple[Place, Precision], events: EventLog
) -> Network | None:
    """Return the network with packed texts; `None` where it cannot be used so, which is told."""
    place, precision = on
    vectors = spec.method is Method.EMBEDDING
    why = None if vectors else _never_packed(spec.lora)
    if why is None:
        model = load_model(spec, base, precision=precision, padded=vectors, place=place)
        try:
            network = (pack_encoder if vectors else pack)(model, DTYPES[precision], place=place)
        except NotPackableError as error:
            why = str(error)
        else:
            _tell_lacking(precision, place, events=events)
            return network
    events.message(f"Texts are padded, which is slower: packed, {why}", level=EventLevel.WARN)
    return None


def _tell_lacking(precision: Precision, place: Place, *, events: EventLog) -> None:
    """Tell of kernels that this machine could have."""
    if precision is Precision.BF16 and place.is_cpu and found().lacking:
        slower = f"Training is slower than it could be: {found().lacking}"
        events.message(slower, level=EventLevel.WARN)


def _never_packed(lora: LoraSpec | None) -> str | None:
    """Return why no model can be used packed with such an adapter; `None` where one may be."""
    if lora is None:
        return ALL_TRAINED
    return SCALED if lora.dora else None
