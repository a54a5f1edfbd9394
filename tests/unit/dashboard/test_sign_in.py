"""Behind the sign-in comes a page of ours, whatever the address says."""

from __future__ import annotations

import pytest

from tunesmith.dashboard.sign_in import _own_path


@pytest.mark.parametrize("path", ["/", "/jobs/ftjob-1", "/compare?a=1&b=2"])
def test_a_page_of_ours_comes_next(path: str) -> None:
    assert _own_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example", "/a\n/b"],
)
def test_another_site_never_does(path: str) -> None:
    assert _own_path(path) == "/"
