"""What another request would say instead, where a job has failed: a failure's ready mend.

| failure | change, the first of these that applies |
|---|---|
| loss not finite, exploded | a tenth of the learning rate, down to the lowest that there is |
| memory, while it learns | activations computed anew, LoRA for all weights, half the length |
| memory, while it measures | half the length |
| memory, for the model itself | LoRA for all weights, frozen ones in `bf16`, then in 4 bits |
| 4 bits, which are not to be had | LoRA |
| bad rows | set aside, where the check of the file then passes |
| validation file | a share of the training file in its place, where bad rows are not all |
| nothing to learn, too long | the longest example's length, where the model takes it; else cut |
| LoRA targets | all linear layers |
| no head to train | the embeddings alone, where they were asked for too |
| early stopping | none |
| processors | all of the largest node |
| workers, more than find a place | 1, and no fewest |
| a device that is not there | processors |

Where no change helps there is none.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import JsonValue

from tunesmith.domain.spec import (
    LEARNING_RATES,
    RANKED,
    JobRequest,
    Method,
    Policy,
    Precision,
    RankingSpec,
    TrainSpec,
)

Change = dict[str, JsonValue]
"""New values by the request's field; of an option, by its path in `JobRequest`, such as
`ranking.passage_max_len`. `None` leaves it open; an empty `lora` is an adapter of the usual kind.
"""

LONGEST = 1_048_576
"""Tokens of the longest greatest length that a request can give."""

_SHORTEST = 8
"""Tokens of the shortest one."""


class Mend(NamedTuple):
    """One change that may help."""

    words: str
    """What is set to what, as a part of a sentence."""
    change: Change
    """The same for programs."""


_ADAPTER = Mend("the adapter's kind to lora, in place of all weights", {"lora": {}})

_HELD_OUT_PERCENT = 10.0
"""Share of the training file that takes the place of a validation file which cannot be used."""


def without_validation_file() -> Change:
    """Return the change that evaluates on a share of the training file instead."""
    return {"validation_file": None, "held_out_percent": _HELD_OUT_PERCENT}


def slower(learning_rate: float) -> Change | None:
    """Return a tenth of `learning_rate`; `None` where that is below the lowest that there is."""
    # Six digits, as messages have them: 0.7 / 10 is 0.06999999999999999.
    tenth = float(f"{learning_rate / 10:g}")
    return {"learning_rate": tenth} if tenth >= LEARNING_RATES[0] else None


def less_memory(
    options: JobRequest | TrainSpec, *, tokens: int, learning: bool
) -> tuple[Mend, ...]:
    """Return what makes a pass in a job of `options` take less memory, the best first.

    `tokens` has the longest text that did not fit, `learning` tells whether a gradient was taken.
    """
    anew = Mend("gradient_checkpointing to true", {"gradient_checkpointing": True})
    chosen = (
        (anew, learning and not options.gradient_checkpointing),
        (_ADAPTER, learning and options.lora is None),
    )
    return (*(mend for mend, helps in chosen if helps), *_shorter(options, tokens))


def smaller_model(spec: TrainSpec, *, four_bits: bool) -> tuple[Mend, ...]:
    """Return what makes the model and its optimizer take less memory, the best first.

    `four_bits` tells whether frozen weights can be kept in 4 bits here.
    """
    lora, rounded = spec.lora, Mend("precision to bf16", {"precision": "bf16"})
    # An adapter that is tuned on stays on the weights that it was trained with.
    plain = lora is not None and not lora.quantized and spec.start_from is None
    chosen = (
        (_ADAPTER, lora is None),
        (rounded, lora is not None and spec.precision is Precision.FP32),
        (Mend("the adapter's kind to qlora", {"lora.quantized": True}), plain and four_bits),
    )
    return tuple(mend for mend, helps in chosen if helps)


def in_words(mends: tuple[Mend, ...]) -> str:
    """Return a sentence that names the `mends`; where there are none, what lies outside a job."""
    if not mends:
        return "Take a smaller base model, or a machine with more memory."
    return f"Set {', or '.join(mend.words for mend in mends)}."


def first_change(mends: tuple[Mend, ...]) -> Change | None:
    """Return the change of the best of the `mends`, if there is one."""
    return mends[0].change if mends else None


def _shorter(options: JobRequest | TrainSpec, tokens: int) -> tuple[Mend, ...]:
    """Return half of `tokens` as the greatest length, if that is any shorter."""
    half = max(tokens // 2, _SHORTEST)
    change: Change = {"max_length": half} if half < tokens else {}
    if options.method in RANKED:
        ranking = options.ranking or RankingSpec()
        # A reranker reads query and passage as one text.
        most = half if options.method is Method.EMBEDDING else max(half // 2, _SHORTEST)
        lengths = ranking.model_dump(include={"query_max_len", "passage_max_len"})
        change = {f"ranking.{key}": most for key, length in lengths.items() if length > most}
    words = " and ".join(f"{key.removeprefix('ranking.')} to {to}" for key, to in change.items())
    if change and options.over_length is Policy.REFUSE:
        change |= {"over_length": Policy.CUT.value}
        words += " and over_length to cut"
    return (Mend(words, change),) if change else ()
