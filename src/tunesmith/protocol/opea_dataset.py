"""The `Dataset` section of OPEA's request: every key with OPEA's default.

A key that this version cannot honour takes only the values that ask nothing of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.domain.spec import Method, Policy, RankingSpec
from tunesmith.protocol.hyperparameters import agreed
from tunesmith.protocol.opea_training import EmbeddingConfig
from tunesmith.protocol.ranking import GroupSize, Instruction, TextLength
from tunesmith.protocol.tuning import Length
from tunesmith.protocol.wire import Only, Wire, expecting

Switch = Annotated[bool | str, expecting("true, false or a string")]
"""A switch that some clients give as a strategy's name."""

_REASONING_KEYS = ("Question", "Complex_CoT", "Response")

_ANSWER_ONLY = "the loss is never on a prompt; leave it out"


class DatasetSection(Wire):
    """How the training file is read."""

    train_file: str | None = None
    """No effect, as in OPEA: the request's `training_file` stands above it."""
    validation_file: str | None = None
    """Name of the uploaded validation file, like the request's own `validation_file`."""
    validation_split_percentage: Annotated[int, Field(ge=0, le=99)] = 5
    """Share held out for evaluation where there is no validation file, 0 to 99 percent."""
    max_length: Length = 512
    """Tokens of the longest example; what is beyond is cut, but learnt as further windows with the
    task `pretraining`."""
    group: bool = True
    """No effect: a long text is cut into windows, but texts are never joined to fill one."""
    block_size: Length = 512
    """With the task `pretraining`: tokens of the longest window of a text, which `max_length` must
    not contradict; no effect with others."""
    shuffle: bool = False
    """No effect, as in OPEA: the order is drawn anew each epoch, by the seed."""
    max_source_length: Annotated[
        int, Only(384, mend="a prompt has no limit of its own; set 'Dataset.max_length'")
    ] = 384
    """384 only; it is without effect."""
    max_prompt_length: Length = 512
    """No effect: `max_length` limits prompt and answer together, with the task `dpo` too."""
    padding_side: Literal["left", "right"] = "right"
    """No effect: padding is never learnt from nor attended to."""
    truncation_side: Annotated[
        Literal["left", "right"],
        Only("right", mend="a long example is cut at its end; shorten it in the file"),
    ] = "right"
    """`right` only."""
    max_seq_length: Length = 512
    """Another name of `max_length`, which it must not contradict."""
    truncation: bool = True
    """Whether what is beyond `max_length` is cut; if false, a longer example is refused. With the
    task `pretraining` nothing is cut off, nor refused."""
    padding: Switch = True
    """No effect: padding is never learnt from nor attended to."""
    pad_to_max: bool = False
    """No effect: padding is never learnt from nor attended to."""
    mask_input: Annotated[bool, Only(True, mend=_ANSWER_ONLY)] = True
    """True only."""
    mask_response: Annotated[bool, Only(True, mend=_ANSWER_ONLY)] = True
    """True only; in OPEA it masks the heading before the answer."""
    data_preprocess_type: Annotated[
        str, Only("neural_chat", mend="the file's format is found by itself; leave it out")
    ] = "neural_chat"
    """`neural_chat` only; the format is detected."""
    max_train_samples: Annotated[int, Field(ge=0, le=2_147_483_647)] = 0
    """Train on the first this many examples only; 0 means all."""
    max_eval_samples: Annotated[
        int, Only(0, mend="an evaluation covers all held-out examples; leave it out")
    ] = 0
    """0 only, which means all."""
    train_group_size: GroupSize = 8
    """With the tasks `embedding` and `rerank` alone: passages that a query is shown with in a step,
    of which one answers it, 1 to 256; others are repeated where they are too few. No effect else.
    """
    query_max_len: TextLength = 128
    """With these tasks: tokens of the longest query. No effect with others."""
    passage_max_len: TextLength = 128
    """With these tasks: tokens of the longest passage; with `rerank`, query and passage together
    take as many as both lengths add up to. No effect with others."""
    query_instruction_for_retrieval: Instruction | None = None
    """With these tasks: what goes before each query. No effect with others."""
    passage_instruction_for_retrieval: Instruction | None = None
    """With these tasks: what goes before each passage. No effect with others."""
    reasoning_dataset_keys: list[str] = Field(default_factory=lambda: list(_REASONING_KEYS))
    """With the task `reasoning`: these names of the columns only; no effect with others."""

    def check(self, method: Method) -> None:
        """Raise `InvalidRequestError` for column names that are read by no others."""
        if method is Method.REASONING and self.reasoning_dataset_keys != list(_REASONING_KEYS):
            raise InvalidRequestError(
                "'Dataset.reasoning_dataset_keys' does not support other names; leave it out, and "
                f"name the file's columns {', '.join(_REASONING_KEYS)}.",
                param="Dataset.reasoning_dataset_keys",
            )

    def to_ranking(self, embedding: EmbeddingConfig) -> RankingSpec:
        """Return how queries and passages are learnt from, with the settings of `embedding`."""
        return RankingSpec(
            group_size=self.train_group_size,
            query_max_len=self.query_max_len,
            passage_max_len=self.passage_max_len,
            query_instruction=self.query_instruction_for_retrieval or "",
            passage_instruction=self.passage_instruction_for_retrieval or "",
            temperature=embedding.temperature,
            pooling=embedding.sentence_pooling_method,
            normalized=embedding.normalized,
            in_batch_negatives=embedding.use_inbatch_neg,
        )

    def to_over_length(self, method: Method) -> Policy:
        """Return what becomes of longer examples, in a job that learns by `method`."""
        return Policy.CUT if self.truncation or method is Method.PRETRAINING else Policy.REFUSE

    def to_max_length(self, method: Method) -> int:
        """Return the longest example in tokens, in a job that learns by `method`.

        Raises `InvalidRequestError` where two keys contradict each other.
        """
        given = self.model_fields_set
        length = agreed(
            ("Dataset.max_length", self.max_length if "max_length" in given else None),
            ("Dataset.max_seq_length", self.max_seq_length if "max_seq_length" in given else None),
        )
        if method is Method.PRETRAINING:
            block = self.block_size if "block_size" in given else None
            length = agreed(("Dataset.block_size", block), ("Dataset.max_length", length))
            return self.block_size if length is None else length
        return self.max_length if length is None else length
