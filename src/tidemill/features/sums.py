"""Sums over many windows of one array, each as exact as the sum of its own values.

A difference of running sums is less exact: one large value before a window removes the digits of the values in it.
"""

import numpy as np

from tidemill.data.arrays import Floats, Ints


def window_sums(values: Floats, begin: Ints, end: Ints) -> Floats:
    """Return the sum of `values[begin:end]` for each window, in the shape of `begin` and `end`; 0 if `end <= begin`.

    The sum adds only values of the window (a disjoint sparse table): a window that crosses the middle of a block of
    2^k values is a sum that ends at this middle plus one that starts there. Time is O(n log n + windows).

    >>> window_sums(np.array([9e33, 0.1, 0.2]), np.array([0, 1]), np.array([3, 3])).tolist()
    [9e+33, 0.30000000000000004]
    """
    sums = np.zeros(begin.size)
    filled = np.flatnonzero(end > begin)
    if not len(filled):
        return sums.reshape(begin.shape)
    first, last = begin.ravel()[filled], end.ravel()[filled] - 1
    longest = int((last - first).max()) + 1
    # The highest bit in which the first and the last index differ names the block: 0 for a window of one value.
    levels = np.frexp((first ^ last).astype(np.float64))[1].astype(np.int8)
    order = np.argsort(levels, kind="stable")
    filled, first, last = filled[order], first[order], last[order]
    stops = np.bincount(levels).cumsum()
    blocks = _Blocks(values, 1 << (len(stops) - 1))
    with np.errstate(over="ignore", invalid="ignore"):  # outside the windows, or a sum that is infinite
        for level, (start, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
            if start == stop:
                continue
            left, right = first[start:stop], last[start:stop]
            if level:
                table = blocks.sums_to_the_middle(1 << level, longest)
                sums[filled[start:stop]] = table[left] + table[right]
            else:
                sums[filled[start:stop]] = values[left]
    return sums.reshape(begin.shape)


class _Blocks:
    """An array in blocks of a power of two; `largest` is the largest block that a window needs."""

    def __init__(self, values: Floats, largest: int) -> None:
        self._values = np.zeros(-(-len(values) // largest) * largest)
        self._values[: len(values)] = values
        self._sums = np.empty_like(self._values)

    def sums_to_the_middle(self, block: int, near: int) -> Floats:
        """Return for each value at most `near` positions from the middle of its block the sum up to the middle.

        The sum includes the value itself. The next call overwrites the array.
        """
        near = min(near, block // 2)
        values, sums = (array.reshape(-1, 2, block // 2) for array in (self._values, self._sums))
        np.cumsum(values[:, 0, ::-1][:, :near], axis=1, out=sums[:, 0, ::-1][:, :near])
        np.cumsum(values[:, 1, :near], axis=1, out=sums[:, 1, :near])
        return self._sums
