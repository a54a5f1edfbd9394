"""The `General` section of OPEA's request: every key with OPEA's default.

A key that this version cannot honour takes only the values that ask nothing of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import LoraSpec, Method
from tunesmith.domain.tracking import MOST_INTEGRATIONS, Integration, TensorboardIntegration
from tunesmith.protocol.adapters import Alpha, Dropout, Rank, Targets, check_same
from tunesmith.protocol.wire import Only, Wire, expecting

CHECKPOINT_PATH = r"^output/(ft-?job-[A-Za-z0-9-]{1,64})(?:/checkpoint-([0-9]{1,18}))?$"
"""Where OPEA's clients see the result of a job, or its checkpoint."""

_METHODS = {
    "instruction_tuning": Method.SUPERVISED,
    "pretraining": Method.PRETRAINING,
    "reasoning": Method.REASONING,
    "dpo": Method.DPO,
    "embedding": Method.EMBEDDING,
    "rerank": Method.RERANK,
}
"""What each task learns."""

_NO_XTUNE = Only("", mend="this version has no xtune; leave 'General.xtune_config' out")


class ModelConfig(Wire):
    """How the base model is fetched."""

    trust_remote_code: Annotated[
        bool,
        Only(False, mend="the operator alone allows a model's code, in the catalogue"),
    ] = False
    """False only."""
    token: Annotated[
        str | None,
        Only(None, "", mend="a secret has no place in a job; the operator sets HF_TOKEN"),
    ] = None
    """Null or empty only."""


class LoraConfig(Wire):
    """The adapter's shape, in the words of peft's `LoraConfig`."""

    task_type: Annotated[
        str, Only("CAUSAL_LM", mend="this version tunes models of type 'CAUSAL_LM' only")
    ] = "CAUSAL_LM"
    """`CAUSAL_LM` only."""
    r: Rank = 8
    """Inner dimension of the two factors, 1 to 1024."""
    lora_alpha: Alpha = 32
    """The product is scaled by `lora_alpha / r`; above 0, at most a million."""
    lora_dropout: Dropout = 0.1
    """Share of the adapter's inputs zeroed while training, from 0 to below 1."""
    target_modules: Targets | None = None
    """Names of the modules that are adapted; null means every linear layer but the head."""

    def to_spec(self, source: LoraSpec | None) -> LoraSpec:
        """Return the adapter's shape in domain terms: that of `source`, if the job starts from one.

        Raises `InvalidRequestError` where another shape is asked for; dropout is free.
        """
        if source is not None:
            return self._tuned_on(source)
        return LoraSpec(
            rank=self.r,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            targets=tuple(self.target_modules) if self.target_modules else None,
        )

    def _tuned_on(self, source: LoraSpec) -> LoraSpec:
        given = self.model_dump(include=self.model_fields_set)
        found = {
            "r": source.rank,
            "lora_alpha": source.alpha,
            "target_modules": list(source.targets or ()),
        }
        if given.get("target_modules"):
            given["target_modules"] = sorted(given["target_modules"])
        place = "General.lora_config"
        check_same({f"{place}.{key}": (given[key], found[key]) for key in given if key in found})
        return source.model_copy(update={"dropout": given.get("lora_dropout", source.dropout)})


class XtuneConfig(Wire):
    """Settings of xtune, which this version does not have; empty strings only."""

    tool: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    trainer: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    model: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    config_file: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    dataset: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    dataset_root: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""
    device: Annotated[str, _NO_XTUNE] = ""
    """Empty only."""


class GeneralSection(Wire):
    """What is tuned, and how."""

    base_model: str | None = None
    """No effect, as in OPEA: the request's `model` stands above it."""
    tokenizer_name: Annotated[
        str | None, Only(None, mend="the model's own tokenizer is used; leave it out")
    ] = None
    """Null only."""
    gaudi_config_name: Annotated[
        str | None, Only(None, mend="this version trains on processors only; leave it out")
    ] = None
    """Null only."""
    gpt_base_model: bool = False
    """No effect: in OPEA it asks for a transformers version that is older than ours."""
    output_dir: str = "./tmp"
    """No effect, as in OPEA: the result is always under `output/<job id>`."""
    report_to: Literal["none", "tensorboard"] = "none"
    """`tensorboard` writes the run's metrics as files that TensorBoard shows, into the run
    directory; see also `integrations`."""
    resume_from_checkpoint: Annotated[
        Annotated[str, Field(pattern=CHECKPOINT_PATH)] | None,
        expecting(
            "null, 'output/<job id>' or 'output/<job id>/checkpoint-<N>', as the list of a job's "
            "checkpoints gives them"
        ),
    ] = None
    """The result or a checkpoint of another job, whose adapter is tuned on; its optimizer's state
    and its place in the data are not taken over."""
    save_strategy: Literal["no", "epoch", "steps"] = "no"
    """`steps` saves a checkpoint every 500 optimizer steps, as OPEA does; the others leave it to
    the service, which saves one each epoch or more often."""
    config: ModelConfig = ModelConfig()
    """How the base model is fetched."""
    lora_config: LoraConfig | None = LoraConfig()
    """The adapter's shape; null means none, so that all weights are trained. With the tasks
    `embedding` and `rerank` that is the default, as in OPEA; its keys are honoured if given."""
    xtune_config: XtuneConfig = XtuneConfig()
    """Settings of xtune; defaults only."""
    enable_gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    task: Literal[
        "instruction_tuning", "pretraining", "dpo", "rerank", "embedding", "reasoning"
    ] = "instruction_tuning"
    """`instruction_tuning`, which learns answers; `reasoning`, which learns thoughts and answers;
    `pretraining`, which learns whole texts; `dpo`, which learns from pairs of a chosen and a
    rejected answer; `embedding` and `rerank`, which learn from queries with passages. OPEA trains
    all weights for `reasoning` and `pretraining`, whatever `lora_config` says; here they train an
    adapter unless it is null."""

    def to_method(self) -> Method:
        """Return what is learnt."""
        return _METHODS[self.task]

    def to_integrations(self, given: tuple[Integration, ...]) -> tuple[Integration, ...]:
        """Return the integrations `given` and, once, the one that `report_to` asks for.

        Raises `InvalidRequestError` where they become too many.
        """
        asked = TensorboardIntegration()
        if self.report_to == "none" or asked in given:
            return given
        if len(given) == MOST_INTEGRATIONS:
            raise InvalidRequestError(
                f"'General.report_to' asks for one integration more than the {MOST_INTEGRATIONS} "
                "that a job may have. Leave it out, or one of 'integrations'.",
                param="General.report_to",
            )
        return (*given, asked)

    def to_lora(self, source: LoraSpec | None) -> LoraSpec | None:
        """Return the adapter's shape in domain terms; `None` means that all weights are trained.

        `source` is the shape of the adapter that the job starts from, if it does.
        Raises `InvalidRequestError` where another shape is asked for.
        """
        given = "lora_config" in self.model_fields_set
        if source is not None and given and self.lora_config is None:
            raise InvalidRequestError(
                "'General.lora_config' is null, but the job starts from an adapter. Leave it out, "
                "or start from the base model.",
                param="General.lora_config",
            )
        ranked = self.task in {"embedding", "rerank"}
        if self.lora_config is None or (ranked and not given and source is None):
            return None
        return self.lora_config.to_spec(source)
