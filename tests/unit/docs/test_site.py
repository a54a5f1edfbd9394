"""The documents make a site, in which every link leads to a page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = Path(sys.executable).parent / "zensical"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def build(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), "build", "--strict"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_every_document_is_a_page_of_the_site(project: Path) -> None:
    done = build(project)

    assert done.returncode == 0, done.stdout + done.stderr
    for page in (project / "docs").rglob("*.md"):
        path = page.relative_to(project / "docs").with_suffix("")
        made = path.parent if path.name == "index" else path
        assert (project / "site" / made / "index.html").is_file(), page


def test_the_site_is_not_made_where_a_link_leads_nowhere(project: Path) -> None:
    with (project / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[Nowhere](how-to/nowhere.md)\n")

    assert build(project).returncode != 0
