from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tunesmith.cli.main import app
from tunesmith.domain.models import FolderSource, HubSource
from tunesmith.settings import load_settings
from unit.api.conftest import BASE, World
from unit.cli.conftest import Ask


@pytest.fixture
def tuned(ask: Ask, world: World, tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    job_id = ask("jobs", "create", str(path), "--model", BASE).stdout.strip()
    world.run(job_id)
    model = world.finish(job_id).fine_tuned_model
    assert model
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (path / name).touch()
    return path


def add(data: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["models", "add", *words, "--data", str(data)])


def test_models_are_listed_shown_and_deleted(ask: Ask, tuned: str) -> None:
    rows = [line.split()[:2] for line in ask("models", "list").stdout.splitlines()[1:]]
    assert rows == [[BASE, "base"], ["org/tiny-llama", "base"], [tuned, "tuned"]]
    assert json.loads(ask("models", "get", "org/tiny-llama", "--json").stdout)["object"] == "model"

    assert ask("models", "delete", tuned).stdout == f"{tuned} is deleted.\n"
    assert ask("models", "get", tuned).exit_code == 1
    assert ask("models", "delete", BASE).exit_code == 1


def test_a_folder_is_added_to_the_settings_file_beside_what_is_there(
    tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "settings.toml").write_text("# mine\norganization = 'acme'\n")

    told = add(tmp_path, "in-house/7b", "--folder", str(folder))

    assert told.exit_code == 0, told.output
    assert "must be started again" in told.stdout
    assert (tmp_path / "settings.toml").read_text().startswith("# mine\n")
    settings = load_settings({"data": tmp_path})
    assert settings.organization == "acme"
    assert settings.catalogue["in-house/7b"].source == FolderSource(path=folder)
    assert [each.name for each in tmp_path.glob(".settings*")] == []


def test_a_model_of_the_hub_is_added_to_a_new_file(tmp_path: Path) -> None:
    words = ("--hub", "own/er", "--revision", "v1", "--trust-remote-code")
    assert add(tmp_path / "data", "mine", *words).exit_code == 0
    entry = load_settings({"data": tmp_path / "data"}).catalogue["mine"]
    assert entry.source == HubSource(repo="own/er", revision="v1")
    assert entry.trust_remote_code


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((BASE, "--hub", "own/er"), 1, "already"),
        (("a:b", "--hub", "own/er"), 1, "can be no model's name"),
        (("a", "--hub", "owner"), 2, "is not OWNER/NAME"),
        (("a",), 2, "one of --folder and --hub"),
        (("a", "--folder", "/nowhere"), 2, "has no config.json"),
        (("a", "--folder", "/nowhere", "--revision", "b"), 2, "has no revisions"),
    ],
)
def test_what_can_be_no_model_is_refused_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], *, code: int, told: str
) -> None:
    refused = add(tmp_path, *words)
    assert refused.exit_code == code
    assert told in " ".join(refused.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacking", ["model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_is_refused_by_it(
    tmp_path: Path, folder: Path, lacking: str
) -> None:
    (folder / lacking).unlink()
    refused = add(tmp_path, "mine", "--folder", str(folder))
    assert refused.exit_code == 2
    assert lacking.rpartition(".")[2] in refused.stderr


def test_a_settings_file_that_cannot_hold_it_stays_as_it_was(tmp_path: Path, folder: Path) -> None:
    text = 'models = { other = { source = { kind = "hub", repo = "a/b" } } }\n'
    (tmp_path / "settings.toml").write_text(text)

    refused = add(tmp_path, "mine", "--folder", str(folder))

    assert refused.exit_code == 1
    assert f"The settings file '{tmp_path}/settings.toml' is not TOML" in refused.stderr
    assert (tmp_path / "settings.toml").read_text() == text
    assert tomllib.loads(text)["models"].keys() == {"other"}


def test_a_message_is_answered_as_it_is_made(ask: Ask, world: World) -> None:
    words = ("models", "chat", BASE, "--message", "Is it?", "--system", "Be brief.")
    told = ask(*words, "--max-tokens", "5", "--temperature", "0")

    assert told.exit_code == 0, told.output
    assert told.stdout == "Yes.\n"
    [question] = world.answering.asked
    assert "Be brief." in str(question)
    assert "Is it?" in str(question)


def test_lines_are_a_conversation_until_their_end(ask: Ask, world: World) -> None:
    told = ask("models", "chat", BASE, text="First?\n\nSecond?\n")

    assert told.stdout == "Yes.\nYes.\n"
    first, second = world.answering.asked
    assert "Second?" not in str(first)
    assert all(said in str(second) for said in ("First?", "Yes.", "Second?"))


def test_with_json_the_answer_is_the_apis(ask: Ask) -> None:
    told = ask("models", "chat", BASE, "--message", "Is it?", "--json")
    assert json.loads(told.stdout)["choices"][0]["message"]["content"] == "Yes."


def test_a_model_that_is_not_there_is_told(ask: Ask) -> None:
    told = ask("models", "chat", "nobody", "--message", "Hm?")
    assert told.exit_code == 1
    assert "nobody" in told.stderr
