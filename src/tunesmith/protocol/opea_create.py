"""OPEA's request that creates a job, and its translation to domain values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from tunesmith.domain.devices import Device
from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import RANKED, JobRequest, LoraSpec, Method
from tunesmith.protocol.hyperparameters import (
    BatchSize,
    Epochs,
    LearningRate,
    Number,
    Seed,
    Suffix,
    agreed,
    check_suffix,
)
from tunesmith.protocol.integrations import Integrations, asked_integrations
from tunesmith.protocol.opea_dataset import DatasetSection
from tunesmith.protocol.opea_general import CHECKPOINT_PATH, GeneralSection
from tunesmith.protocol.opea_training import TrainingSection
from tunesmith.protocol.ranking import check_ranking
from tunesmith.protocol.wire import Wire

SECTIONS = frozenset({"General", "Dataset", "Training"})
"""Keys that only OPEA's requests have."""

_SAVE_STEPS = 500
"""Steps between checkpoints under `save_strategy: steps`, the default of `transformers`."""

_LARGEST_BATCH = 256
"""Most examples behind one optimizer step."""


def _seed_number(value: object) -> object:
    """Read a seed that OPEA's clients send as a string of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        return int(value)
    return value


class OpeaHyperparameters(Wire):
    """OPEA's second place for three keys of its `Training` section; `None` means `"auto"`."""

    n_epochs: Epochs = None
    """See `TrainingSection.epochs`."""
    batch_size: BatchSize = None
    """See `TrainingSection.batch_size`."""
    learning_rate_multiplier: LearningRate = None
    """The absolute learning rate, in spite of its name; see `TrainingSection.learning_rate`."""


class OpeaCreateJob(Wire):
    """OPEA's `FineTuningParams`."""

    model: str
    """Name of a base model of the catalogue, or of a tuned model or checkpoint to go on from."""
    training_file: str
    """Name of an uploaded file; the newest of that name is meant."""
    hyperparameters: OpeaHyperparameters | None = None
    """Another place of three keys of `Training`, which it must not contradict."""
    suffix: Suffix | None = None
    """1 to 64 characters for the tuned model's name, or null."""
    validation_file: str | None = None
    """Name of an uploaded file with the held-out examples, or null."""
    integrations: Integrations = None
    """Up to five services that are told of the run's metrics, or null."""
    seed: Annotated[Seed | None, BeforeValidator(_seed_number)] = None
    """0 to 2147483647, as a number or a string of digits; drawn at random if null."""
    General: GeneralSection = GeneralSection()
    """What is tuned, and how."""
    Dataset: DatasetSection = DatasetSection()
    """How the training file is read."""
    Training: TrainingSection = TrainingSection()
    """How it is learnt."""

    def to_validation_name(self) -> str | None:
        """Return the validation file's name; raises where its two keys contradict each other."""
        name, again = self.validation_file, self.Dataset.validation_file
        if name and again and name != again:
            raise InvalidRequestError(
                "'validation_file' and 'Dataset.validation_file' differ; give only one.",
                param="Dataset.validation_file",
            )
        return name or again

    def to_resumed(self) -> tuple[str, int | None] | None:
        """Return the job whose result is gone on from, or the step of its checkpoint, if any."""
        path = self.General.resume_from_checkpoint
        found = re.fullmatch(CHECKPOINT_PATH, path) if path else None
        return (found[1], int(found[2]) if found[2] else None) if found else None

    def to_request(
        self, source: LoraSpec | None = None, *, device: Device = Device.CPU
    ) -> JobRequest:
        """Return what is asked for in domain terms.

        `source` is the shape of the adapter that the job starts from, if it does; `device` is what
        is trained on where the request does not say it.
        Raises `InvalidRequestError` where two keys contradict each other, the
        suffix cannot be a part of a name, the columns have other names than are read,
        or the whole batch is too large.
        """
        check_suffix(self.suffix)
        second = self.hyperparameters or OpeaHyperparameters()
        training, general = self.Training, self.General
        method = general.to_method()
        self.Dataset.check(method)
        embedding = training.embedding_training_config
        request = JobRequest(
            method=method,
            beta=training.dpo_beta if method is Method.DPO else None,
            ranking=self.Dataset.to_ranking(embedding) if method in RANKED else None,
            n_epochs=self._agreed("n_epochs", second.n_epochs, twin=("epochs", training.epochs)),
            batch_size=self._whole_batch(second.batch_size),
            learning_rate=self._agreed(
                "learning_rate_multiplier",
                second.learning_rate_multiplier,
                twin=("learning_rate", training.learning_rate),
            ),
            lora=general.to_lora(source),
            max_length=self.Dataset.to_max_length(method),
            over_length=self.Dataset.to_over_length(method),
            max_steps=training.max_train_steps,
            optimizer=training.to_optimizer(),
            max_examples=self.Dataset.max_train_samples or None,
            held_out_percent=self.Dataset.validation_split_percentage,
            schedule=training.lr_scheduler,
            weight_decay=training.weight_decay,
            gradient_checkpointing=general.enable_gradient_checkpointing,
            checkpoint_every=_SAVE_STEPS if general.save_strategy == "steps" else None,
            precision=training.to_precision(),
            device=training.to_device(device),
            cpus=training.to_cpus(),
            workers=training.num_training_workers,
            integrations=general.to_integrations(asked_integrations(self.integrations)),
            suffix=self.suffix,
        )
        check_ranking(request, place="Dataset", group_size="Dataset.train_group_size")
        return request

    def _agreed(self, key: str, second: Number | None, *, twin: tuple[str, Number]) -> Number:
        """Return what `hyperparameters` and `Training` say of one hyperparameter.

        `second` is the value of `hyperparameters.<key>`; `twin` names the key of
        `Training` that means the same, and its value or default.
        """
        name, value = twin
        given = value if name in self.Training.model_fields_set else None
        found = agreed((f"hyperparameters.{key}", second), (f"Training.{name}", given))
        return value if found is None else found

    def _whole_batch(self, second: int | None) -> int:
        """Return the examples behind one optimizer step."""
        training = self.Training
        size = self._agreed("batch_size", second, twin=("batch_size", training.batch_size))
        whole = size * training.gradient_accumulation_steps
        if whole > _LARGEST_BATCH:
            raise InvalidRequestError(
                f"The batch size times 'Training.gradient_accumulation_steps' is {whole}; "
                f"make it at most {_LARGEST_BATCH}.",
                param="Training.gradient_accumulation_steps",
            )
        return whole
