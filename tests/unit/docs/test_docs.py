"""The documents cannot lie: what exists is documented, or a test fails here."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tunesmith.api import codes
from tunesmith.cli.main import app
from tunesmith.domain.events import EventLevel, EventType, StepMetrics
from tunesmith.domain.exports import ExportFailure
from tunesmith.domain.failures import FailureCode
from tunesmith.domain.jobs import TRANSITIONS, JobStatus

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"


def read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["settings.md", "routes.md", "tuning.md", "opea-keys.md"])
def test_a_page_made_from_the_code_is_what_the_code_says(name: str) -> None:
    pages = runpy.run_path(str(ROOT / "scripts" / "reference.py"))["PAGES"]

    assert read(name) == pages[name](), "Run `make docs`."


def test_every_link_between_the_documents_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_found_from_the_first_one() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in ("tutorial", "explanation", "how-to", "reference"):
        for page in sorted((ROOT / "docs" / folder).glob("*.md")):
            assert f"]({page.relative_to(ROOT).as_posix()})" in first, page


def test_every_code_of_a_refused_request_is_explained() -> None:
    found = {vars(codes)[name] for name in dir(codes) if name.isupper()}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    found |= {code for text in sources for code in re.findall(r'\bcode="(\w+)"', text)}
    page = read("errors.md")
    assert {code for code in found if f"| `{code}` |" not in page} == set()


@pytest.mark.parametrize("code", FailureCode)
def test_every_failure_code_is_explained_with_its_mend_and_its_change(code: FailureCode) -> None:
    rows = [line for line in read("errors.md").splitlines() if line.startswith(f"| `{code}` |")]
    assert any(len(row.split(" | ")) == 4 for row in rows)


@pytest.mark.parametrize("status", JobStatus)
def test_every_status_is_explained_with_whether_it_ends(status: JobStatus) -> None:
    (row,) = [line for line in read("states.md").splitlines() if line.startswith(f"| `{status}` |")]
    assert row.endswith("Never. |") is (not TRANSITIONS[status])


def test_every_level_type_and_number_of_events_is_explained() -> None:
    page = read("states.md")
    for word in (*EventLevel, *EventType, *StepMetrics.model_fields):
        assert f"`{word}`" in page


def leaves(command: Any, *above: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by the words that call it."""
    if not hasattr(command, "commands"):
        yield " ".join(above), command
        return
    for name, below in command.commands.items():
        yield from leaves(below, *above, name)


def test_every_command_and_its_options_are_explained() -> None:
    page = read("commands.md")
    commands = dict(leaves(typer.main.get_command(app)))
    assert set(commands) == {
        line.removeprefix("## `tunesmith ").rstrip("`")
        for line in page.splitlines()
        if line.startswith("## ")
    }
    for command in commands.values():
        for option in command.params:
            assert all(f"| `{name}` |" in page for name in option.opts)


@pytest.mark.parametrize("code", ExportFailure)
def test_every_failure_of_an_export_is_explained_with_its_mend(code: ExportFailure) -> None:
    rows = [line for line in read("errors.md").splitlines() if line.startswith(f"| `{code}` |")]
    assert any(len(row.split(" | ")) == 3 for row in rows)
