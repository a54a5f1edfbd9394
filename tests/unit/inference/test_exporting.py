"""What is exported answers as the model did when it was trained, or nothing is handed out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.families import save_family
from models.tiny import save_tiny_llama
from tunesmith.artifacts.exports import ExportDirectory
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.artifacts.runs import RunDirectory
from tunesmith.domain.exports import (
    ExportFailure,
    ExportFormat,
    ExportOutcome,
    ExportSpec,
    PushFolder,
    Quantization,
)
from tunesmith.domain.models import WholeModel
from tunesmith.domain.spec import LoraSpec, WholeLayer
from tunesmith.inference import exporting, llama_cpp, merging
from tunesmith.inference.exporting import export
from unit.training.conftest import JOB, Bench, rows

SMALL = LoraSpec(rank=4, alpha=16.0)
KINDS = {
    "lora": SMALL,
    "dora": SMALL.model_copy(update={"dora": True}),
    "rslora": SMALL.model_copy(update={"rslora": True}),
    "qlora": SMALL.model_copy(update={"quantized": True}),
    "embeddings and head": SMALL.model_copy(update={"also_train": tuple(WholeLayer)}),
    "whole": None,
}
END = 257
"""The tiny models' token that ends a turn."""
MATRICES = (".q_proj.weight", ".down_proj.weight")


class Exports:
    """A data folder with a tuned model in it, which is exported."""

    def __init__(self, root: Path, save: Callable[[Path], None] = save_tiny_llama) -> None:
        torch.set_num_threads(1)
        save(root / "base")
        artifacts = LocalArtifacts(root / "data")
        self.root = root
        self.bench = Bench(artifacts, RunDirectory(artifacts, JOB), root, root / "base")

    def tune(self, **changes: Any) -> None:
        data = changes.pop("rows", None) or rows(12)
        self.bench.write_spec(data, held_out_percent=20.0, **changes)
        assert self.bench.train().error is None

    def make(self, form: ExportFormat, **changes: Any) -> ExportOutcome:
        spec = ExportSpec(
            id="exp_1",
            model="ft:tiny:org::1",
            job_id=JOB,
            key=f"output/{JOB}",
            format=form,
            quantization=changes.pop("quantization", None),
            push=changes.pop("push", None),
            cpus=1,
        )
        self.told: list[float] = []
        return export(spec, self.bench.artifacts, tell=lambda share, _: self.told.append(share))

    def good(self, form: ExportFormat, **changes: Any) -> Path:
        """Return the folder of an export that is to succeed."""
        outcome = self.make(form, **changes)
        assert outcome.error is None
        folder = self.files
        assert [(each.name, each.bytes) for each in outcome.files] == [
            (path.relative_to(folder).as_posix(), path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        return folder

    @property
    def files(self) -> Path:
        return self.root / "data" / ExportDirectory(self.bench.artifacts, "exp_1").files


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


def answers(model: Any) -> list[int]:
    """The greedy continuation of a few bytes."""
    with torch.inference_mode():
        given = torch.tensor([[40, 50, 60, 70]])
        said = model.generate(given, max_new_tokens=12, do_sample=False, eos_token_id=END)
    found: list[int] = said[0].tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_is_merged_into_one_that_plain_transformers_loads(
    exports: Exports, kind: str
) -> None:
    exports.tune(lora=KINDS[kind])

    folder = exports.good(ExportFormat.MERGED)

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype is torch.float32
    assert tokenizer.chat_template
    assert tokenizer.eos_token_id in (model.generation_config.eos_token_id or ())
    assert not hasattr(model.config, "quantization_config")
    assert exports.told == sorted(exports.told)
    if KINDS[kind] is not None and kind != "qlora":
        base = AutoModelForCausalLM.from_pretrained(exports.root / "base")
        tuned = PeftModel.from_pretrained(base, exports.root / "data" / "output" / JOB)
        assert answers(model) == answers(tuned)


def test_the_comparison_tells_of_each_side(exports: Exports) -> None:
    exports.tune(lora=SMALL)
    parity = exports.make(ExportFormat.GGUF, quantization=Quantization.F32).parity
    assert parity is not None
    # Five questions, and the lines that were held out, of which twelve rows have two.
    assert (parity.measure, parity.prompts) == ("log_probability", 7)
    assert parity.tokens > 7
    assert [each.side for each in parity.sides] == ["served", "merged", "gguf"]
    assert max(each.largest_difference for each in parity.sides) < 1e-3
    assert max(each.bound for each in parity.sides) == 0.02


def test_an_adapter_is_handed_out_as_peft_loads_it(exports: Exports) -> None:
    exports.tune(lora=SMALL)
    folder = exports.good(ExportFormat.ADAPTER)
    base = AutoModelForCausalLM.from_pretrained(exports.root / "base")
    loaded = PeftModel.from_pretrained(base, folder)
    assert loaded.peft_config["default"].r == 4
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert not list(folder.rglob("checkpoint-*"))


def test_an_adapter_on_4_bits_is_served_and_merged_on_what_they_say(exports: Exports) -> None:
    exports.tune(lora=KINDS["qlora"])
    parity = exports.make(ExportFormat.MERGED).parity
    assert parity is not None
    assert [each.side for each in parity.sides] == ["served", "merged"]
    assert max(each.largest_difference for each in parity.sides) < 1e-3


def test_an_adapter_on_a_tuned_model_is_merged_into_that(exports: Exports) -> None:
    exports.tune(lora=None)
    below = exports.root / "data" / "output" / JOB
    exports.bench.artifacts.put_folder("output/whole", below.rename(exports.root / "whole"))
    for name in ("runs", "output/ftjob-1"):
        exports.bench.artifacts.delete(f"{name}")
    exports.tune(lora=SMALL, beneath=WholeModel(name="ft:below", key="output/whole"))

    folder = exports.good(ExportFormat.MERGED)

    made = AutoModelForCausalLM.from_pretrained(folder)
    beneath = AutoModelForCausalLM.from_pretrained(exports.root / "data" / "output" / "whole")
    tuned = PeftModel.from_pretrained(beneath, exports.root / "data" / "output" / JOB)
    assert answers(made) == answers(tuned)


@pytest.mark.parametrize("form", Quantization)
def test_a_gguf_file_holds_the_merged_weights_in_each_number_format(
    exports: Exports, form: Quantization
) -> None:
    exports.tune(lora=SMALL)
    folder = exports.good(ExportFormat.GGUF, quantization=form)
    assert sorted(path.name for path in folder.iterdir()) == ["Modelfile", "model.gguf"]
    found = GGUFReader(folder / "model.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in found.tensors}
    assert kinds["blk.0.attn_q.weight"] == form.name
    assert kinds["output_norm.weight"] == "F32"
    # transformers has a reader of its own.
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf").state_dict()
    exports.good(ExportFormat.MERGED)
    wanted = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    bound = {"f32": 1e-7, "f16": 2e-3, "bf16": 1e-2, "q8_0": 1e-2}[form.value]
    for name in (name for name in wanted if name.endswith(MATRICES)):
        largest = wanted[name].abs().max()
        assert (read[name] - wanted[name]).abs().max() <= bound * largest, name


@pytest.mark.skipif(not llama_cpp.installed(), reason="xllamacpp is not installed")
@pytest.mark.parametrize("family", ["smollm2", "qwen2", "qwen3", "phi3", "gpt2"])
def test_llama_cpp_answers_with_other_architectures_alike(tmp_path: Path, family: str) -> None:
    exports = Exports(tmp_path, lambda folder: save_family(family, folder))
    exports.tune(lora=SMALL, learning_rate=1e-3)
    outcome = exports.make(ExportFormat.GGUF, quantization=Quantization.F32)
    assert outcome.error is None
    assert outcome.parity is not None
    gguf = outcome.parity.sides[-1]
    assert gguf.read_by.startswith("llama.cpp")
    assert gguf.largest_difference < 2e-3


def test_what_has_no_layout_in_gguf_is_refused_by_name(tmp_path: Path) -> None:
    exports = Exports(tmp_path, lambda folder: save_family("opt", folder))
    exports.tune(lora=SMALL)
    error = exports.make(ExportFormat.GGUF).error
    assert error is not None
    assert (error.code, error.param) == (ExportFailure.FORMAT_UNSUPPORTED, "format")
    assert "'opt'" in error.message
    assert "qwen2" in error.message


def test_a_whole_model_is_no_adapter(exports: Exports) -> None:
    exports.tune(lora=None)
    error = exports.make(ExportFormat.ADAPTER).error
    assert error is not None
    assert error.code is ExportFailure.FORMAT_UNSUPPORTED


def test_other_answers_are_not_handed_out(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports.tune(lora=SMALL)

    def wrong(source: Any) -> Any:
        model = merging.merged(source)
        model.model.layers[0].self_attn.q_proj.weight.data.mul_(3)
        model.model.layers[1].mlp.down_proj.weight.data.mul_(-3)
        return model

    monkeypatch.setattr(exporting, "merged", wrong)
    outcome = exports.make(ExportFormat.MERGED, push=PushFolder(path=exports.root / "out"))

    assert outcome.error is not None
    assert outcome.error.code is ExportFailure.NOT_EQUAL
    assert "after the prompt" in outcome.error.message
    assert "0.02" in outcome.error.message
    assert outcome.files == ()
    assert outcome.parity is not None
    assert outcome.parity.sides[-1].largest_difference > 0.02
    assert not exports.files.exists()
    assert not (exports.root / "out").exists()


def test_the_files_go_to_a_folder_besides_once(exports: Exports) -> None:
    exports.tune(lora=SMALL)
    where = exports.root / "pushed" / "team" / "mine"
    folder = exports.good(ExportFormat.ADAPTER, push=PushFolder(path=where))
    assert {path.name for path in where.iterdir()} == {path.name for path in folder.iterdir()}
    assert json.loads((where / "adapter_config.json").read_text())["r"] == 4

    again = exports.make(ExportFormat.ADAPTER, push=PushFolder(path=where)).error

    assert again is not None
    assert (again.code, again.param) == (ExportFailure.PUSH_FAILED, "push_to")
    assert [path.name for path in where.parent.iterdir()] == ["mine"]
    assert not exports.files.exists()


def test_a_model_that_was_deleted_is_told(exports: Exports) -> None:
    exports.tune(lora=SMALL)
    exports.bench.artifacts.delete(f"output/{JOB}")
    error = exports.make(ExportFormat.MERGED).error
    assert error is not None
    assert error.code is ExportFailure.MODEL_UNAVAILABLE
