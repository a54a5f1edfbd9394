"""Each machine compiles the kernels once, into the user's cache; training goes on without them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunesmith.domain.spec import Precision
from tunesmith.training import kernels as compiled
from tunesmith.training.compiling import compile_into
from tunesmith.training.kernels import Found

if TYPE_CHECKING:
    from unit.training.conftest import Bench, Rows


class TestCompiling:
    """Each machine compiles once, into the user's cache."""

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        if compiled.found() == Found():
            pytest.skip("this processor has no AVX-512 for bf16")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        compiled.found.cache_clear()
        yield
        compiled.found.cache_clear()

    def test_what_is_compiled_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert compiled.found().kernels is not None
        (kept,) = (tmp_path / "tunesmith").iterdir()
        assert kept.suffix == ".so"
        compiled.found.cache_clear()
        monkeypatch.setenv("CC", "/nowhere/cc")
        assert compiled.found().kernels is not None

    def test_what_cannot_be_loaded_any_more_is_compiled_anew(self, tmp_path: Path) -> None:
        (tmp_path / "tunesmith").mkdir(mode=0o700)
        compile_into(tmp_path / "tunesmith")
        (kept,) = (tmp_path / "tunesmith").iterdir()
        kept.write_bytes(b"")
        assert compiled.found().kernels is not None
        assert kept.stat().st_size > 0

    def test_what_others_may_have_put_there_is_not_loaded(self, tmp_path: Path) -> None:
        (tmp_path / "tunesmith").mkdir()
        (tmp_path / "tunesmith").chmod(0o777)
        found = compiled.found()
        assert found.kernels is None
        assert "is not this user's alone" in (found.lacking or "")

    @pytest.mark.parametrize("own", ["/nowhere/cc", "cc -pipe", "nothing that is one"])
    def test_cc_names_a_compiler_with_its_options_and_others_are_tried_behind_it(
        self, own: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CC", own)
        assert compiled.found().kernels is not None

    def test_without_a_compiler_it_is_told_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setenv("CC", "/nowhere/cc")
        found = compiled.found()
        assert found.kernels is None
        assert found.lacking is not None
        assert "/nowhere/cc" in found.lacking
        assert "gcc" in found.lacking

    def test_a_compiler_that_fails_is_quoted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiler = tmp_path / "cc"
        compiler.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CC", str(compiler))
        monkeypatch.setattr("shutil.which", lambda _: None)
        assert "no such header" in (compiled.found().lacking or "")
        with pytest.raises(subprocess.CalledProcessError):
            compile_into(tmp_path)
        assert [each.name for each in tmp_path.glob("*.so")] == []

    def test_a_user_without_a_home_is_told_where_to_write(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME")

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
        found = compiled.found()
        assert found.kernels is None
        assert "XDG_CACHE_HOME" in (found.lacking or "")


@pytest.mark.parametrize(("precision", "told"), [(Precision.BF16, 1), (Precision.FP32, 0)])
def test_a_run_that_could_be_quicker_says_how(
    bench: Bench,
    rows: Callable[[int], Rows],
    monkeypatch: pytest.MonkeyPatch,
    *,
    precision: Precision,
    told: int,
) -> None:
    lacking = Found(lacking="there is no compiler; install one")
    for module in ("kernels", "loading"):
        monkeypatch.setattr(f"tunesmith.training.{module}.found", lambda: lacking)
    bench.write_spec(rows(4), precision=precision, max_steps=1)

    assert bench.train().error is None

    slower = "Training is slower than it could be: there is no compiler; install one"
    assert bench.messages().count(slower) == told
