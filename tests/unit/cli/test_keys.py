from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tunesmith.cli.database import open_store
from tunesmith.cli.main import app
from tunesmith.domain.keys import Scope, digest_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(data: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--data", str(data)])


def test_a_created_key_stands_on_standard_output_alone(data: Path) -> None:
    made = run(
        data, "keys", "create", "--project", "blue", "--name", "ci", "--scope", "read",
        "--expires-in", "90d",
    )  # fmt: skip
    assert re.fullmatch(r"sk-ts-[\w-]+\n", made.stdout)
    assert "shown this once" in made.stderr
    [key] = open_store(data).list_keys()
    assert key.digest == digest_of(made.stdout.strip())
    assert (key.project, key.name, key.scope) == ("blue", "ci", Scope.READ)
    assert key.expires_at is not None
    assert abs(key.expires_at - time.time() - 90 * 86400) < 60


def test_the_key_itself_is_nowhere_in_the_data_folder(data: Path) -> None:
    secret = run(data, "keys", "create", "--name", "ci").stdout.strip()
    written = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert secret[:12].encode() in written
    assert secret[12:].encode() not in written


def test_the_list_shows_what_each_key_is_and_not_the_key(data: Path) -> None:
    secret = run(data, "keys", "create", "--name", "me", "--scope", "admin").stdout.strip()
    table = run(data, "keys", "list").stdout
    assert all(word in table for word in ("default", "me", "admin", secret[:12], "without expiry"))
    assert secret not in table


def test_a_key_is_revoked_by_its_id(data: Path) -> None:
    run(data, "keys", "create", "--name", "ci")
    [key] = open_store(data).list_keys()
    assert "is revoked" in run(data, "keys", "revoke", key.id).stdout
    assert "revoked 20" in run(data, "keys", "list").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["keys", "create", "--name", "a", "--expires-in", "soon"], "12h, 90d"),
        (["keys", "create", "--name", "a", "--expires-in", "9999999999w"], "12h, 90d"),
        (["keys", "create", "--name", "a", "--project", "../x"], "letters, digits"),
        (["keys", "create", "--name", "a\nb"], "printable"),
        (["keys", "create", "--name", "a", "--scope", "root"], "admin"),
        (["keys", "revoke", "key_x"], "keys list"),
        (["projects", "set", "default"], "at least one"),
        (["projects", "set", "default", "--max-jobs", "-1"], "whole number"),
        (["projects", "set", "red", "--max-jobs", "1"], "keys create --project red"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_mend(
    data: Path, words: list[str], told: str
) -> None:
    refused = run(data, *words)
    assert refused.exit_code != 0
    assert told in " ".join(refused.stderr.replace("│", " ").split())


def test_limits_of_a_project_are_set_shown_and_given_back(data: Path) -> None:
    run(data, "projects", "set", "default", "--max-jobs", "5", "--max-bytes", "1000")
    assert re.search(r"default +1000 +5 +default", run(data, "projects", "list").stdout)
    given_back = run(data, "projects", "set", "default", "--max-jobs", "default").stdout
    assert re.search(r"default +1000 +default +default", given_back)


def test_with_json_a_program_reads_the_key_and_what_it_is(data: Path) -> None:
    made = json.loads(run(data, "keys", "create", "--name", "ci", "--json").stdout)
    assert made["key"].startswith(made["prefix"])
    assert (made["project"], made["scope"], made["expires_at"]) == ("default", "write", None)

    listed = run(data, "keys", "list", "--json").stdout
    [key] = json.loads(listed)["data"]
    assert key == {each: made[each] for each in made if each != "key"}
    assert digest_of(made["key"]) not in listed

    revoked = json.loads(run(data, "keys", "revoke", key["id"], "--json").stdout)
    assert revoked["id"] == key["id"]
    assert revoked["revoked_at"]


def test_with_json_a_program_reads_the_limits(data: Path) -> None:
    changed = run(data, "projects", "set", "default", "--max-jobs", "3", "--json")
    assert json.loads(changed.stdout)["max_jobs"] == 3

    [project] = json.loads(run(data, "projects", "list", "--json").stdout)["data"]
    assert (project["name"], project["max_jobs"], project["share"]) == ("default", 3, None)
