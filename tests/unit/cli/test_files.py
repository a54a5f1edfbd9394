from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunesmith.cli import files
from tunesmith.cli.main import app
from unit.cli.conftest import Ask

ROW = b'{"messages": [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]}\n'


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROW * 12)
    return path


def test_a_file_is_uploaded_listed_shown_and_deleted(ask: Ask, rows: Path) -> None:
    file_id = ask("files", "upload", str(rows)).stdout.strip()
    assert file_id.startswith("file-")
    assert "rows.jsonl" in ask("files", "list").stdout
    assert f"bytes       {12 * len(ROW)}" in ask("files", "get", file_id).stdout

    assert ask("files", "delete", file_id).stdout == f"{file_id} is deleted.\n"
    assert file_id not in ask("files", "list").stdout


def test_with_json_each_answer_stands_on_standard_output_alone(ask: Ask, rows: Path) -> None:
    uploaded = json.loads(ask("files", "upload", str(rows), "--json").stdout)
    assert uploaded["object"] == "file"
    assert json.loads(ask("files", "list", "--json").stdout)["data"] == [uploaded]
    assert json.loads(ask("files", "get", uploaded["id"], "--json").stdout) == uploaded
    gone = json.loads(ask("files", "delete", uploaded["id"], "--json").stdout)
    assert gone == {"id": uploaded["id"], "object": "file", "deleted": True}


def test_a_large_file_goes_in_parts(
    ask: Ask, rows: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 100)
    file_id = ask("files", "upload", str(rows)).stdout.strip()

    target = tmp_path / "back.jsonl"
    assert ask("files", "download", file_id, "--output", str(target)).stdout == f"{target}\n"
    assert target.read_bytes() == ROW * 12


def test_a_download_takes_the_files_own_name_and_replaces_nothing(
    ask: Ask, rows: Path, tmp_path: Path
) -> None:
    file_id = ask("files", "upload", str(rows)).stdout.strip()

    refused = ask("files", "download", file_id, "--output", str(tmp_path))

    assert refused.exit_code == 1
    assert "is there already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_report_tells_what_a_job_would_refuse(ask: Ask, rows: Path) -> None:
    good = ask("files", "report", ask("files", "upload", str(rows)).stdout.strip())
    assert good.exit_code == 0
    assert "12 examples" in good.stdout
    assert "A job would take it." in good.stdout

    rows.write_bytes(b"{}\n")
    bad = ask("files", "report", ask("files", "upload", str(rows)).stdout.strip())
    assert bad.exit_code == 1
    assert "A job would refuse it." in bad.stdout


def test_a_refusal_is_one_line_with_its_code(ask: Ask) -> None:
    refused = ask("files", "get", "file-none")

    assert refused.exit_code == 1
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert line.startswith("tunesmith: ")
    assert "file-none" in line


def test_where_no_service_is_it_says_how_to_start_one() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        refused = CliRunner().invoke(app, ["files", "list", "--url", url])

    assert refused.exit_code == 3
    assert refused.stderr == (
        f"tunesmith: There is no Tunesmith at {url}/v1. Start one with `tunesmith serve`, "
        "or name another with --url.\n"
    )


def test_what_answers_but_is_no_tunesmith_is_told(url: str) -> None:
    refused = CliRunner().invoke(app, ["files", "list", "--url", f"{url}/docs"])

    assert refused.exit_code in (1, 3)
    assert refused.stderr.startswith("tunesmith: ")


def test_the_environment_names_the_service_and_the_key(
    url: str, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    assert CliRunner().invoke(app, ["files", "upload", str(rows)]).exit_code == 0
