"""Makes an export: the files, and the comparison without which they are not handed out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import GenerationConfig, PreTrainedModel

from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.artifacts.protocol import Artifacts
from tunesmith.artifacts.receipts import held_out_prompts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.dataset.prompting import end_tokens
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.domain.answers import Answerer
from tunesmith.domain.errors import ArtifactMissingError, ModelUnavailableError
from tunesmith.domain.exports import (
    Comparison,
    ExportError,
    ExportFailure,
    ExportFile,
    ExportFormat,
    ExportOutcome,
    ExportSpec,
    Parity,
    Quantization,
)
from tunesmith.domain.models import WholeModel
from tunesmith.domain.spec import Method
from tunesmith.inference import llama_cpp, sides
from tunesmith.inference.gguf_file import UnsupportedError, write_gguf
from tunesmith.inference.merging import copy_beside, merged, save_merged
from tunesmith.inference.modelfile import write_modelfile
from tunesmith.inference.outputs import OUTPUT_BOUNDS, Wanted, asked_of, outputs_of
from tunesmith.inference.parity import Answer, Finding, Side, compare
from tunesmith.inference.pushing import PushError, push
from tunesmith.inference.ranked import Ranked
from tunesmith.inference.shelf import Shelf, Sizes
from tunesmith.inference.source import Source, as_trained, find_source

BOUNDS = {
    Quantization.F32: 0.02,
    Quantization.F16: 0.05,
    Quantization.BF16: 0.5,
    Quantization.Q8_0: 1.0,
}
"""The largest difference of a log-probability that is taken, in nats, by the number format."""

_DTYPES = {
    Quantization.F32: torch.float32,
    Quantization.F16: torch.float16,
    Quantization.BF16: torch.bfloat16,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_HELD_OUT = 3
"""Lines that a job held out which are asked too."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What an adapter consists of, beside the tokenizer."""

GGUF_FILE, MODELFILE = "model.gguf", "Modelfile"
"""What a GGUF export consists of."""

Told = Callable[[float, str], None]
"""Is told the share that is done, and what comes next."""


class _NotMadeError(Exception):
    """What was made does not answer as it should; the message says what of it."""


@dataclass
class _Making:
    """An export on its way: what is made, of what, and how it compared so far."""

    spec: ExportSpec
    source: Source
    artifacts: Artifacts
    folder: Path
    """Where the files are made."""
    tell: Told
    tokenizer: FolderTokenizer
    ends: frozenset[int]
    """Tokens that end answers."""
    answers: Sequence[Answer] = ()
    """The model's, as it was trained."""
    outputs: Wanted | None = None
    """The vectors or scores of a model that makes no texts."""
    sides: list[Comparison] = field(default_factory=list)

    @property
    def parity(self) -> Parity:
        """What was compared so far."""
        return Parity(
            measure="output" if self.outputs else "log_probability",
            prompts=len(self.outputs.asked) if self.outputs else len(self.answers),
            tokens=sum(len(answer.tokens) for answer in self.answers),
            sides=tuple(self.sides),
        )

    def make(self) -> None:
        """Make the files and compare them. Raises `_NotMadeError`."""
        self.tell(0.05, "Asking the model as it was trained")
        self._ask_trained()
        self.tell(0.25, "Asking the model as it is served")
        self._ask_served()
        if self.spec.format is ExportFormat.ADAPTER:
            copy_beside(self.source.tuned, self.folder)
            for name in ADAPTER_FILES:
                shutil.copyfile(self.source.tuned / name, self.folder / name)
            return
        self.tell(0.4, "Merging the model")
        gguf = self.spec.format is ExportFormat.GGUF
        whole = self.folder.parent / "whole" if gguf else self.folder
        dtype = self._dtype()
        save_merged(merged(self.source), whole, source=self.source, dtype=dtype, ends=self.ends)
        self.tell(0.6, "Asking the merged model")
        if self.outputs is not None:
            self._keep_merged(self.outputs, whole, form=_NAMES[dtype])
            return
        model = self.source.weights(whole).load()
        found = compare(
            self.answers,
            sides.Loaded(model),
            name="merged",
            by="transformers",
            bound=BOUNDS[_NAMES[dtype]],
        )
        self._keep(found)
        if gguf:
            self._make_gguf(model)

    def _dtype(self) -> torch.dtype:
        """Return the number format of merged weights: what is asked, or the base model's own.

        A GGUF file is made of weights in fp32, so that they are rounded once.
        """
        if self.spec.format is ExportFormat.GGUF:
            return torch.float32
        if self.spec.quantization is not None:
            return _DTYPES[self.spec.quantization]
        return self.source.stored if self.source.stored in _NAMES else torch.float32

    def _ask_trained(self) -> None:
        model = as_trained(self.source)
        if not self.source.says:
            spec = self.source.spec
            asked = asked_of(spec, self.tokenizer)
            made = outputs_of(model, self.tokenizer, spec=spec, asked=asked)
            self.outputs = Wanted(asked, made)
            return
        room = (self.tokenizer.context_length or 4 * sides.LONGEST_PROMPT) - sides.ANSWER_TOKENS
        prompts = sides.prompts(
            self.tokenizer, self._held_out(), longest=min(room, sides.LONGEST_PROMPT)
        )
        self.answers = sides.answer_all(model, prompts, ends=self.ends)

    def _held_out(self) -> list[list[int]]:
        """Return the prompts of a few lines that the job held out; none where it held out none."""
        try:
            table = RunDirectory(self.artifacts, self.spec.job_id).open_receipt("parquet")
        except ArtifactMissingError:
            return []
        with table:
            return held_out_prompts(table, most=_HELD_OUT)

    def _ask_served(self) -> None:
        spec, source = self.spec, self.source
        run = RunDirectory(self.artifacts, spec.job_id)
        whole = source.spec.beneath if source.adapted else WholeModel(name=spec.model, key=spec.key)
        asked = Answerer(
            base=run.pinned_base_model() or source.spec.base_model,
            whole=whole,
            adapter=spec.key if source.adapted else None,
            rounded=source.quantized,
        )
        if self.outputs is not None:
            self._keep_served(self.outputs, asked)
            return
        shelf = Shelf(self.artifacts, Sizes(models=1, adapters=1, texts=1))
        bound = BOUNDS[Quantization.F32]
        try:
            with shelf.asking(asked) as ready:
                served = sides.Served(ready)
                found = compare(self.answers, served, name="served", by="Tunesmith", bound=bound)
        finally:
            shelf.close()
        self._keep(found)

    def _keep_served(self, wanted: Wanted, asked: Answerer) -> None:
        """Compare the vectors or scores that the service gives."""
        ranked = Ranked(self.artifacts, most=1)
        try:
            model = ranked.scorer(asked) if self._scores else ranked.embedder(asked)
        except (OSError, ValueError, KeyError) as error:
            message = f"The model's weights cannot be loaded: {error}."
            raise ModelUnavailableError(message) from error
        self._keep(wanted.compare(model, name="served", bound=OUTPUT_BOUNDS[Quantization.F32]))

    def _keep_merged(self, wanted: Wanted, folder: Path, *, form: Quantization) -> None:
        """Compare the vectors or scores of the merged files, whose weights are in `form`."""
        load: type[CrossEncoder | SentenceTransformer]
        load = CrossEncoder if self._scores else SentenceTransformer
        model = load(
            str(folder),
            device="cpu",
            trust_remote_code=self.source.spec.base_model.trust_remote_code,
            # Only what the weights lost is compared, not what is lost in reckoning with them.
            model_kwargs={"dtype": torch.float32},
        )
        self._keep(wanted.compare(model, name="merged", bound=OUTPUT_BOUNDS[form]))

    @property
    def _scores(self) -> bool:
        """Whether the model scores pairs, not makes vectors."""
        return self.source.spec.method is Method.RERANK

    def _make_gguf(self, model: PreTrainedModel) -> None:
        self.tell(0.75, "Writing the GGUF file")
        form = self.spec.quantization or Quantization.F16
        path, tokens = self.folder / GGUF_FILE, self.source.tuned
        write_gguf(model, path, tokenizer=tokens, quantization=form, name=self.spec.model)
        text = write_modelfile(GGUF_FILE, self.tokenizer, ends=self.ends)
        (self.folder / MODELFILE).write_text(text, encoding="utf-8")
        self.tell(0.85, "Asking the GGUF file")
        with self._gguf_side(path) as (side, name):
            found = compare(self.answers, side, name="gguf", by=name, bound=BOUNDS[form])
        self._keep(found)

    @contextmanager
    def _gguf_side(self, path: Path) -> Iterator[tuple[Side, str]]:
        """Yield the GGUF file as a side, and what reads it: llama.cpp where its binding is there.

        Raises `_NotMadeError` where it does not load, or cuts texts otherwise than in training.
        """
        if not llama_cpp.installed():
            yield sides.read_gguf(path), "transformers"
            return
        context = sides.LONGEST_PROMPT + 2 * sides.ANSWER_TOKENS
        try:
            with llama_cpp.llama_cpp(path, threads=self.spec.cpus, context=context) as side:
                self._check_tokens(side)
                yield side, side.name
        except llama_cpp.LlamaCppError as error:
            raise _NotMadeError(f"The GGUF file is no good: {error}.") from error

    def _check_tokens(self, side: llama_cpp.LlamaCpp) -> None:
        normalizer = self.tokenizer.backend.normalizer
        for given in (*sides.QUESTIONS, *sides.TRICKY):
            # llama.cpp composes no characters; nearly all texts come composed.
            text = given if normalizer is None else normalizer.normalize_str(given)
            wanted, made = list(self.tokenizer.encode([text])[0].ids), side.tokens(text)
            if wanted != made:
                raise _NotMadeError(
                    f"llama.cpp cuts the text {text!r} into the tokens {made}, and training into "
                    f"{wanted}, so that the GGUF file would be asked something else."
                )

    def _keep(self, finding: Finding) -> None:
        """Keep `finding`; raises `_NotMadeError` where it is beyond its bound."""
        shown = finding.comparison
        self.sides.append(shown)
        if finding.fault is not None:
            raise _NotMadeError(
                "The model does not answer as it did when it was trained, asked through "
                f"'{shown.side}' ({shown.read_by}): {finding.fault}. The bound is {shown.bound}. "
                "Ask for a finer number format, such as 'f32'."
            )


def export(spec: ExportSpec, artifacts: Artifacts, *, tell: Told) -> ExportOutcome:
    """Make what `spec` says, compare it, and hand it out; return how that ended.

    `tell` is told the share that is done, and what comes next.
    """
    directory = ExportDirectory(artifacts, spec.id)
    making: _Making | None = None
    try:
        with directory.scratch() as aside:
            making = _begin(spec, artifacts, folder=aside / "files", tell=tell)
            making.make()
            tell(0.92, "Handing out the files")
            listed = tuple(_listed(making.folder))
            directory.put_files(making.folder)
            # Last: what was pushed cannot be taken back where something fails behind it.
            if spec.push is not None:
                tell(0.96, "Pushing the files")
                files = directory.fetch_files()
                push(files, spec.push, message=f"{spec.model} ({spec.format})")
    except _NotMadeError as error:
        failed = ExportError(code=ExportFailure.NOT_EQUAL, message=str(error))
    except ModelUnavailableError as error:
        failed = ExportError(code=ExportFailure.MODEL_UNAVAILABLE, message=error.message)
    except UnsupportedError as error:
        message = f"The model cannot be {error}."
        failed = ExportError(code=ExportFailure.FORMAT_UNSUPPORTED, message=message, param="format")
    except PushError as error:
        directory.drop_files()
        message = f"Nothing was pushed: {error}."
        failed = ExportError(code=ExportFailure.PUSH_FAILED, message=message, param="push_to")
    else:
        return ExportOutcome(files=listed, parity=making.parity)
    return ExportOutcome(error=failed, parity=making.parity if making and making.sides else None)


def _begin(spec: ExportSpec, artifacts: Artifacts, *, folder: Path, tell: Told) -> _Making:
    """Find the model, and what it is asked with.

    Raises `ModelUnavailableError` and `UnsupportedError`.
    """
    folder.mkdir()
    tell(0.02, "Looking for the model")
    source = find_source(
        spec.job_id, spec.key, artifacts=artifacts, announce=lambda text: tell(0.03, text)
    )
    if spec.format is ExportFormat.GGUF and not source.says:
        raise UnsupportedError(
            f"exported as GGUF: it was tuned by '{source.spec.method}', which makes no texts. "
            "Export it as 'merged' or 'adapter'"
        )
    if spec.format is ExportFormat.ADAPTER and not source.adapted:
        raise UnsupportedError(
            "exported as an adapter: all of its weights were trained. Export it as 'merged'"
        )
    tokenizer = FolderTokenizer(source.tuned)
    ends = _ends(source, tokenizer) if source.says else frozenset[int]()
    return _Making(spec, source, artifacts, folder, tell, tokenizer, ends)


def _ends(source: Source, tokenizer: FolderTokenizer) -> frozenset[int]:
    """Return the tokens that end answers: the template's, the tokenizer's, and the model's own."""
    ends = end_tokens(tokenizer)
    if (source.base / "generation_config.json").is_file():
        stated = GenerationConfig.from_pretrained(source.base).eos_token_id
        ends |= frozenset([stated] if isinstance(stated, int) else stated or ())
    return ends


def _listed(folder: Path) -> Iterator[ExportFile]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest: Any = hashlib.file_digest(file, "sha256")
            name = path.relative_to(folder).as_posix()
            yield ExportFile(name=name, bytes=path.stat().st_size, sha256=digest.hexdigest())
