"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "src" / "tunesmith").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
UNUSED_WORDS = ("manager", "helper", "utils", "misc", "common")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=shown)
def test_a_file_stays_under_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_names_use_the_houses_words_and_public_ones_are_explained(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lowered = node.name.lower()
            assert not any(word in lowered for word in UNUSED_WORDS), node.name
            assert lowered not in ("process", "handle"), node.name
            assert not lowered.startswith("base_"), node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert unexplained_fields(node) == [], node.name


def unexplained_fields(node: ast.ClassDef) -> list[str]:
    """Return the public annotated fields that no docstring follows; enumerations have none."""
    following = [*node.body[1:], None]
    return [
        ast.unparse(here.target)
        for here, after in zip(node.body, following, strict=True)
        if isinstance(here, ast.AnnAssign)
        and not ast.unparse(here.target).startswith(("_", "model_config"))
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
