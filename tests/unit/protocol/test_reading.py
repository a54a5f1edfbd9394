"""Bodies of requests: JSON has one kind of number, whatever ours has."""

from __future__ import annotations

import pytest

from tunesmith.domain.errors import InvalidRequestError
from tunesmith.protocol.reading import read_object


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"n": 2.0}', 2),
        (b'{"n": [{"m": -3e2}]}', [{"m": -300}]),
        (b'{"n": 2.5}', 2.5),
        (b'{"n": 1e300}', 1e300),
        (b'{"n": true}', True),
        (b'{"n": "2.0"}', "2.0"),
    ],
)
def test_a_whole_number_is_one_however_it_is_written(text: bytes, value: object) -> None:
    found = read_object(text)["n"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [b'{"n": 1, "n": 1}', b'{"a": [{"n": 1, "m": 2, "n": 3}]}'])
def test_a_key_that_an_object_has_twice_is_refused_by_its_name(text: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="'n' twice") as refused:
        read_object(text)
    assert refused.value.param == "n"


def test_a_key_may_stand_in_several_objects() -> None:
    assert read_object(b'{"n": {"n": 1}, "m": {"n": 2}}') == {"n": {"n": 1}, "m": {"n": 2}}
