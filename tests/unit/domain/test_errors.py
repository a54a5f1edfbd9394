from __future__ import annotations

import re

from tunesmith.domain import errors


def test_an_error_without_a_message_says_the_first_line_of_its_docstring() -> None:
    assert errors.ClusterUnavailableError().message == "Ray does not answer."
    assert str(errors.NotFoundError("No such file: x")) == "No such file: x"


def test_the_tree_drawn_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TunesmithError)
    }
    assert set(drawn) == classes - {"TunesmithError"}
