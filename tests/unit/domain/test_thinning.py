"""A curve is thinned out without losing its ends and its peaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.domain.thinning import thinned


@given(
    heights=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300),
    most=st.integers(2, 100),
)
def test_no_more_than_asked_in_their_order_with_both_ends_and_peaks(
    heights: list[float], most: int
) -> None:
    found = thinned(range(len(heights)), most=most, heights=heights)

    assert len(found) <= max(most, 0)
    assert found == sorted(set(found))
    if heights:
        assert (found[0], found[-1]) == (0, len(heights) - 1)
    if most >= 4 and heights:
        assert max(heights) in [heights[place] for place in found]
        assert min(heights) in [heights[place] for place in found]
