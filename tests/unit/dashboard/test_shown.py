"""What the page makes of what the API tells."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tunesmith.dashboard.differences import of_settings
from tunesmith.dashboard.lines import picked
from tunesmith.dashboard.words import duration, number, plain, size


def job(epochs: int, *, rank: int) -> dict[str, object]:
    hyperparameters = {"n_epochs": epochs, "batch_size": 4}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    return {"model": "tiny", "method": method, "seed": 1, "tuning": {"adapter": {"rank": rank}}}


def test_what_differs_between_two_jobs_comes_first() -> None:
    found = of_settings(job(3, rank=8), job(5, rank=8))

    assert [(each.name, each.first, each.second) for each in found if each.differs] == [
        ("hyperparameters.n_epochs", 3, 5)
    ]
    assert found[0].differs
    assert [each.first for each in found if each.name == "tuning.adapter.rank"] == [8]


def test_a_setting_that_one_job_lacks_differs() -> None:
    found = of_settings({"model": "tiny"}, {"model": "tiny", "tuning": {"new": 1}})

    assert ("tuning.new", None, 1) in [(each.name, each.first, each.second) for each in found]


def lines(content: bytes, *, wanted: list[int], piece: int = 7) -> dict[int, str]:
    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(content), piece):
            yield content[begin : begin + piece]

    return anyio.run(picked, pieces(), wanted)


def test_lines_are_found_with_their_neighbours_however_they_come() -> None:
    content = b"".join(b"line %d\n" % number for number in range(1, 9))

    assert lines(content, wanted=[5]) == {4: "line 4", 5: "line 5", 6: "line 6"}
    assert lines(content + b"end", wanted=[9]) == {8: "line 8", 9: "end"}


def test_a_long_line_is_shortened_and_the_next_is_still_found() -> None:
    found = lines(b"a" * 100_000 + b"\nnext\n", wanted=[1], piece=1000)

    assert found[1] == "a" * 700 + " …"
    assert found[2] == "next"


def test_a_file_that_is_no_text_has_no_lines() -> None:
    assert lines(b"PAR1\0\0\n\n", wanted=[1]) == {}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (duration(59.4), "59 s"),
        (duration(3725), "1 h 2 min"),
        (duration(None), "–"),
        (size(512), "512 B"),
        (size(1536), "1.5 KiB"),
        (number(1234567), "1,234,567"),
        (number(0.123456), "0.1235"),
        (plain(True), "yes"),
        (plain(["a", "b"]), "a, b"),
        (plain([]), "none"),
    ],
)
def test_numbers_are_written_for_people(shown: str, words: str) -> None:
    assert shown == words
