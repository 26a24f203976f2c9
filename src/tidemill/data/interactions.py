"""Interactions of columns: products of two or three of their features that predict what the columns alone do not.

An exclusive or of two columns depends on neither of them, only on their product.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from tidemill.data.arrays import Floats

_MOST_PRODUCTS, _FOR_EACH = 24, 3
_MOST_PAIRED, _MOST_TRIPLED = 64, 12
_MOST_ROWS = 5_000
_LEAST_GAIN, _LEAST_ERRORS = 0.1, 6.0

Factors = tuple[int, ...]


def choose_products(
    matrix: Floats, columns: Sequence[str], candidates: Sequence[int], residuals: Mapping[str, Floats]
) -> list[Factors]:
    """Return the products of features that predict the residuals of columns best, as the indices of their factors.

    Parameters
    ----------
    matrix, columns
        The features of rows in units of their deviations, shape (features, rows), and the column of each.
    candidates
        The features that may be factors: pairs of the first 64, and triples of the first 12. Two of one column are
        not multiplied.
    residuals
        For each column what the other columns do not predict of it, in units of its deviation. A product is chosen if
        its correlation with one is at least .1 and six standard errors of independent rows, in 5,000 of the rows.
    """
    if not residuals or not matrix.size:
        return []
    step = -(-matrix.shape[1] // _MOST_ROWS)
    matrix = matrix[:, ::step]
    names, left = list(residuals), np.stack([values[::step] for values in residuals.values()])
    least = max(_LEAST_GAIN, _LEAST_ERRORS / matrix.shape[1] ** 0.5)
    gains: dict[Factors, Floats] = {}
    for parts, products in _multiply(matrix, columns, candidates):
        deviations = products - products.mean(axis=1, keepdims=True)
        spread = np.maximum(products.std(axis=1, keepdims=True), 1e-9)
        found = np.abs(deviations @ left.T) / matrix.shape[1] / spread
        for row in np.flatnonzero(found.max(axis=1) >= least).tolist():
            used = {columns[factor] for factor in parts[row]}
            gains[parts[row]] = np.where([name in used for name in names], 0.0, found[row])
    chosen: dict[Factors, float] = {}
    for number in range(len(names)):
        for product in sorted(gains, key=lambda each: -float(gains[each][number]))[:_FOR_EACH]:
            if (gain := float(gains[product][number])) >= least:
                chosen[product] = max(chosen.get(product, 0.0), gain)
    return sorted(sorted(chosen, key=lambda each: -chosen[each])[:_MOST_PRODUCTS])


def _multiply(
    matrix: Floats, columns: Sequence[str], candidates: Sequence[int]
) -> Iterator[tuple[list[Factors], Floats]]:
    """Return the products of candidates, in parts that have their first factors in common."""
    for first, others in _pair(columns, candidates[:_MOST_PAIRED]):
        yield [(first, other) for other in others], matrix[first] * matrix[others]
    few = candidates[:_MOST_TRIPLED] if len(candidates) <= _MOST_PAIRED else ()
    for first, second in combinations(few, 2):
        thirds = [third for third in few if third > second and len({columns[i] for i in (first, second, third)}) == 3]
        if thirds:
            yield [(first, second, third) for third in thirds], matrix[first] * matrix[second] * matrix[thirds]


def _pair(columns: Sequence[str], candidates: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    for place, first in enumerate(candidates):
        others = [other for other in candidates[place + 1 :] if columns[other] != columns[first]]
        if others:
            yield first, others
