"""The page of the rules and the code's rules are the same, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith.dataset.mending import Mend
from tunesmith.dataset.problems import Rule, Severity
from tunesmith.dataset.rendering import SetAsideRule

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "dataset-rules.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_each_rule_has_a_section_and_each_section_a_rule() -> None:
    assert set(SECTIONS) == set(Rule)


@pytest.mark.parametrize("rule", Rule)
def test_a_section_tells_severity_example_and_mends_and_is_linked_from_the_table(
    rule: Rule,
) -> None:
    section = SECTIONS[rule]
    word = "warning" if rule.severity is Severity.WARN else "error"

    assert section.startswith(f"**{word}.** ")
    assert "\nExample: " in section
    assert "\nMend: " in section
    mended = "yes: " if rule.value in set(Mend) else "no.\n"
    assert f"\nMended by a repair: {mended}" in section
    assert f"[{rule}](#{rule})" in TEXT.partition("\n## ")[0]


@pytest.mark.parametrize("rule", SetAsideRule)
def test_a_reason_to_set_a_row_aside_is_a_rule_and_a_warning(rule: SetAsideRule) -> None:
    assert Rule(rule).severity is Severity.WARN


@pytest.mark.parametrize("mend", Mend)
def test_each_mend_of_a_repair_is_explained(mend: Mend) -> None:
    page = PAGE.parents[1] / "how-to" / "repair-a-file.md"
    assert f"\n| `{mend}` | " in page.read_text(encoding="utf-8")
