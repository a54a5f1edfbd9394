"""`tunesmith validate` reports with no server, and its exit code says what a job would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.tiny import byte_tokenizer
from tunesmith.cli.main import app
from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.domain.errors import TokenizerMissingError
from tunesmith.domain.models import CatalogueEntry, FolderSource, PackageSource

GOOD = "".join(
    json.dumps({"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."}) + "\n"
    for n in range(20)
)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TUNESMITH_DATA", str(folder))
    return folder


def run(tmp_path: Path, content: str, *options: str) -> Result:
    path = tmp_path / "train.jsonl"
    path.write_text(content, encoding="utf-8")
    return CliRunner().invoke(app, ["validate", str(path), *options])


def test_a_sound_file_ends_with_0_and_the_steps_of_a_job(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD)

    assert result.exit_code == 0
    assert "20 examples, format prompt_completion" in result.output
    assert "A job would take 50 steps: 10 epochs, batches of 4." in result.output


def test_a_bad_file_ends_with_1_and_each_place_rule_and_mend(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD + '{"prompt": 1}\n')

    assert result.exit_code == 1
    assert "error  wrong_type  Line 21, /prompt: 'prompt' must be a string" in result.output
    assert "A job would refuse it." in result.output


def test_bad_rows_that_a_job_would_set_aside_are_told_and_end_with_0(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD + "7\n", "--bad-rows", "set_aside")

    assert result.exit_code == 0
    assert "1 rows that break a rule would be set aside." in result.output
    assert run(tmp_path, GOOD, "--bad-rows", "cut").exit_code == 2


def test_a_warning_alone_refuses_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD + GOOD.splitlines()[0])

    assert result.exit_code == 0
    assert "warn   duplicate  Line 21: " in result.output


def test_json_is_the_whole_report(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD, "--json", "--n-epochs", "1", "--batch-size", "5")

    report = json.loads(result.output)
    assert report["examples"] == 20
    assert report["estimate"]["steps"] == 4


def test_the_method_decides_which_formats_are_taken(tmp_path: Path) -> None:
    result = run(tmp_path, GOOD, "--method", "dpo")

    assert result.exit_code == 1
    assert "wrong_method" in result.output


@pytest.mark.parametrize(
    "options", [("--max-length", "2"), ("--method", "magic"), ("--model", "no-such-model")]
)
def test_a_wrong_option_ends_with_2(tmp_path: Path, options: tuple[str, str]) -> None:
    assert run(tmp_path, GOOD, *options).exit_code == 2


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["validate", str(tmp_path / "no.jsonl")]).exit_code == 2


def test_tokens_are_counted_by_a_model_of_the_catalogue(tmp_path: Path, data: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    data.mkdir()
    source = f'{{ kind = "folder", path = "{tmp_path / "tiny"}" }}'
    (data / "settings.toml").write_text(f"[models.tiny]\nsource = {source}\n")

    result = run(tmp_path, GOOD, "--model", "tiny", "--json")

    tokens = json.loads(result.output)["tokens"]
    assert tokens["model"] == "tiny"
    assert 0 < tokens["learnt"] < tokens["total"]


def test_a_folder_without_a_tokenizer_json_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    entry = CatalogueEntry(name="empty", source=FolderSource(path=tmp_path / "empty"))

    with pytest.raises(TokenizerMissingError, match="The tokenizer of 'empty' cannot be had"):
        TokenizerFolders(str(tmp_path / "data")).folder(entry)


def test_an_install_without_transformers_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.cli.tokenizers.find_spec", lambda name: None)
    entry = CatalogueEntry(name="packed", source=PackageSource(package="none", file="a.gguf"))

    with pytest.raises(TokenizerMissingError, match=r"Install 'tunesmith\[train\]'"):
        TokenizerFolders(str(tmp_path / "data")).folder(entry)


def test_with_repair_a_mended_copy_is_written_and_told(tmp_path: Path) -> None:
    copy = tmp_path / "mended.jsonl"
    first = GOOD.splitlines(keepends=True)[0]

    result = run(tmp_path, GOOD + "\n" + first + "7\n", "--repair", str(copy))

    assert result.exit_code == 1
    assert copy.read_text(encoding="utf-8") == GOOD + "7\n"
    assert "line 21: The line was dropped: it is blank." in result.output
    assert "duplicate      1 mended" in result.output
    assert "not_an_object  1 left" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mended.jsonl", "train.jsonl"]


def test_a_copy_never_replaces_a_file_and_is_not_written_without_need(tmp_path: Path) -> None:
    taken, new = tmp_path / "taken.jsonl", tmp_path / "new.jsonl"
    taken.write_text("mine")

    refused = run(tmp_path, GOOD + "\n", "--repair", str(taken))
    sound = run(tmp_path, GOOD, "--repair", str(new))
    lost = run(tmp_path, GOOD + "\n", "--repair", str(tmp_path / "none" / "new.jsonl"))

    assert (refused.exit_code, taken.read_text()) == (2, "mine")
    assert "is there already" in refused.output
    assert (sound.exit_code, new.exists()) == (0, False)
    assert "There is nothing to mend" in sound.output
    assert (lost.exit_code, "cannot be written" in lost.output) == (2, True)
