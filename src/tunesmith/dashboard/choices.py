"""What can be chosen for a job, and the request that the choices come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunesmith.dashboard.door import Thing
from tunesmith.protocol.adapters import AdapterRequest
from tunesmith.protocol.tuning import TuningRequest

Kind = Literal["text", "whole", "number", "one of"]
"""How a value is written."""


@dataclass(frozen=True)
class Choice:
    """One thing that may be chosen; left empty, it is left to the service."""

    place: str
    """Where it stands in the request, such as `tuning.adapter.rank`."""
    label: str
    """Its name for people."""
    explained: str
    """What it does."""
    kind: Kind = "text"
    """How its value is written."""
    options: tuple[str, ...] = ()
    """The values of `one of`."""


def _tuning(name: str) -> str:
    return _words(TuningRequest.model_fields[name].description)


def _adapter(name: str) -> str:
    return _words(AdapterRequest.model_fields[name].description)


def _words(documented: str | None) -> str:
    """Return what is documented of a key of the request, as it reads beside an empty field."""
    words = " ".join((documented or "").replace("`", "").split())
    return words.replace("null means", "left empty, it means").replace(
        "Null means", "Left empty, it means"
    )


HELD_OUT = (
    Choice(
        "tuning.held_out_percent",
        "Held-out share (per cent)",
        _tuning("held_out_percent"),
        "number",
    ),
    Choice("tuning.evaluate_every", "Evaluate every … steps", _tuning("evaluate_every"), "whole"),
)
"""How the job is measured."""

LEARNING = (
    Choice(
        "hyperparameters.n_epochs",
        "Epochs",
        "How often each example is seen. Too few teach little, too many learn by heart; the "
        "service chooses by the number of examples.",
        "whole",
    ),
    Choice(
        "hyperparameters.batch_size",
        "Batch size",
        "Examples behind one step. A larger batch takes steadier and fewer steps.",
        "whole",
    ),
    Choice(
        "hyperparameters.learning_rate_multiplier",
        "Learning rate multiplier",
        "The usual learning rate is taken this often. More learns faster and forgets more; try a "
        "half or twice before anything further away.",
        "number",
    ),
    Choice("tuning.max_length", "Longest example (tokens)", _tuning("max_length"), "whole"),
)
"""How it learns."""

ADAPTER = (
    Choice(
        "tuning.adapter.kind",
        "Adapter",
        _adapter("kind"),
        "one of",
        ("lora", "rslora", "dora", "qlora", "full"),
    ),
    Choice("tuning.adapter.rank", "Rank", _adapter("rank"), "whole"),
    Choice("tuning.adapter.dropout", "Dropout", _adapter("dropout"), "number"),
)
"""What is trained."""

BOUNDS = (
    Choice("tuning.bad_rows", "Bad rows", _tuning("bad_rows"), "one of", ("refuse", "set_aside")),
    Choice("tuning.max_seconds", "At most … seconds", _tuning("max_seconds"), "whole"),
    Choice("tuning.max_steps", "At most … steps", _tuning("max_steps"), "whole"),
    Choice("tuning.cpus", "Processors", _tuning("cpus"), "whole"),
    Choice("tuning.workers", "Workers", _tuning("workers"), "whole"),
    Choice("tuning.priority", "Priority", _tuning("priority"), "one of", ("low", "normal", "high")),
    Choice("seed", "Seed", "Makes the job repeatable; drawn at random if left out.", "whole"),
)
"""What it may take, and what else there is."""

METHODS = {
    "supervised": "Answers: learn to answer as the file does",
    "dpo": "Preferences: learn which of two answers is better",
    "reasoning": "Reasoning: learn thoughts and answers",
    "pretraining": "Texts: learn whole texts",
    "embedding": "Embedding: learn vectors of queries and passages",
    "rerank": "Rerank: learn to score passages",
}
"""What can be learnt, by OpenAI's method or our objective."""

_ALL = {each.place: each for each in (*HELD_OUT, *LEARNING, *ADAPTER, *BOUNDS)}


def request_of(chosen: Mapping[str, str]) -> Thing:
    """Return the request for a job of what is `chosen`, each value by its place in the request.

    `method` is one of `METHODS`; what is empty is left out. A value that is no number where one
    is needed goes as it is, for the service to say so.
    """
    request: Thing = {"model": chosen.get("model", "")}
    for place in ("training_file", "validation_file", "suffix"):
        if chosen.get(place):
            request[place] = chosen[place]
    hyperparameters: Thing = {}
    for place, value in chosen.items():
        choice = _ALL.get(place)
        if choice is None or not value.strip():
            continue
        *above, last = place.split(".")
        inner = request
        if above and above[0] == "hyperparameters":
            inner = hyperparameters
        else:
            for part in above:
                inner = inner.setdefault(part, {})
        inner[last] = _value(choice, value.strip())
    method = chosen.get("method") or "supervised"
    if method == "dpo":
        request["method"] = {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}
    elif hyperparameters:
        inner = {"hyperparameters": hyperparameters}
        request["method"] = {"type": "supervised", "supervised": inner}
    if method not in ("dpo", "supervised"):
        request.setdefault("tuning", {})["objective"] = method
    return request


def _value(choice: Choice, text: str) -> object:
    read = {"whole": int, "number": float}.get(choice.kind)
    if read is None:
        return text
    try:
        return read(text)
    except ValueError:
        return text
