from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.cli import serve
from tunesmith.domain.errors import SettingsError
from tunesmith.settings import load_settings


@pytest.mark.parametrize(
    ("absent", "address", "extra"),
    [
        ("psutil", "", r"tunesmith\[ray\]"),
        ("psutil", "http://head:8265", r"tunesmith\[ray\]"),
        ("torch", "", r"tunesmith\[train\].*RAY_ADDRESS"),
    ],
)
def test_an_install_without_what_jobs_need_is_refused_before_it_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str, address: str, extra: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(serve, "find_spec", lambda module: None if module == absent else module)

    with pytest.raises(SettingsError, match=extra):
        serve.serve_service(load_settings({"data": tmp_path / "data", "port": 0}))

    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_refused_with_the_mend(tmp_path: Path) -> None:
    given = {"data": tmp_path, "port": 0}
    with serve._bind(load_settings(given)) as listener:
        listener.listen()
        taken = load_settings(given | {"port": listener.getsockname()[1]})
        with pytest.raises(SettingsError, match=r"Cannot listen on .*--port"):
            serve.serve_service(taken)
