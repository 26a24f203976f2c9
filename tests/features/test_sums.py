"""Window sums against exact fractions of the window's own values."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.features.sums import window_sums

numbers = st.sampled_from([0.0, 0.1, -0.3, 5.0, 1e-9, 9.9e9, -9e33, 3.4028234663852886e38]) | st.floats(-1e300, 1e300)


@given(values=st.lists(numbers, min_size=1, max_size=70), data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_sum_is_as_exact_as_adding_the_rows_of_its_window(values: list[float], data: st.DataObject) -> None:
    index = st.integers(0, len(values))
    windows = data.draw(st.lists(st.tuples(index, index), max_size=12))
    begin, end = (np.array([window[side] for window in windows], dtype=np.int64) for side in (0, 1))
    sums = window_sums(np.array(values), begin, end)
    for (first, stop), found in zip(windows, sums.tolist(), strict=True):
        inside = [Fraction(value) for value in values[first:stop]]
        allowed = len(inside) * Fraction(2) ** -52 * sum((abs(value) for value in inside), Fraction(0))
        assert abs(Fraction(found) - sum(inside)) <= allowed, (first, stop)


def test_many_windows_keep_their_shape() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(-50, 50, 1000).astype(float)
    begin = generator.integers(0, 1000, (3, 400))
    end = np.minimum(begin + generator.integers(-5, 600, (3, 400)), 1000)
    sums = window_sums(values, begin, end)
    right = [
        [values[first:stop].sum() for first, stop in zip(*row, strict=True)] for row in zip(begin, end, strict=True)
    ]
    assert sums.tolist() == right
    assert window_sums(np.zeros(0), begin * 0, end * 0).tolist() == np.zeros((3, 400)).tolist()
