"""Values that apply to ranges of positions: their sum or maximum at each position (a segment tree, bottom-up).

Time is O((ranges + positions) log positions), and no value is ever subtracted: a large value outside a position's
ranges does not remove the digits of the values inside.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Floats, Ints


def sum_of_ranges(positions: int, begin: Ints, end: Ints, values: Floats) -> Floats:
    """Return for each position the sum of the values whose range [begin, end) contains it.

    >>> sum_of_ranges(4, np.array([0, 1]), np.array([3, 9]).clip(0, 4), np.array([1.0, 10.0])).tolist()
    [1.0, 11.0, 11.0, 10.0]
    """
    tree = np.zeros(2 * positions)
    for nodes, chosen in _cover(positions, begin, end):
        tree += np.bincount(nodes, weights=values[chosen], minlength=len(tree))
    total = tree[positions:].copy()
    for ancestors in _list_ancestors(positions):
        total += tree[ancestors]
    return total


def maximum_of_ranges(positions: int, begin: Ints, end: Ints, values: Ints) -> Ints:
    """Return for each position the largest of the values (at least 0) whose range contains it; −1 for none."""
    tree = np.full(2 * positions, -1, dtype=np.int64)
    for nodes, chosen in _cover(positions, begin, end):
        np.maximum.at(tree, nodes, values[chosen])
    largest = tree[positions:].copy()
    for ancestors in _list_ancestors(positions):
        np.maximum(largest, tree[ancestors], out=largest)
    return largest


def _cover(positions: int, begin: Ints, end: Ints) -> Iterator[tuple[Ints, npt.NDArray[np.intp]]]:
    """Yield nodes of the tree that cover the ranges, and the index of the range of each node."""
    ranges = np.flatnonzero(begin < end)
    left, right = begin[ranges] + positions, end[ranges] + positions
    while len(ranges):
        is_odd = left % 2 == 1
        yield left[is_odd], ranges[is_odd]
        left = (left + is_odd) // 2
        is_odd = right % 2 == 1
        yield right[is_odd] - 1, ranges[is_odd]
        right = (right - is_odd) // 2
        is_open = left < right
        ranges, left, right = ranges[is_open], left[is_open], right[is_open]


def _list_ancestors(positions: int) -> Iterator[Ints]:
    """Yield the parent of the node of each position, then the parents of these, up to the root."""
    nodes = np.arange(positions, 2 * positions) // 2
    while nodes.any():
        yield nodes
        nodes = nodes // 2
