"""Relations between columns: each is predicted from the others, so that rows can be compared by how well they fit.

A change of one column that leaves its distribution as it was, such as a permutation, changes how it fits the others.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec.structs import replace

from tidemill.data.arrays import Floats
from tidemill.data.interactions import choose_products
from tidemill.data.marks import profile_history
from tidemill.data.statistics import (
    ColumnProfile,
    Feature,
    Profile,
    Relation,
    Relations,
    encode,
    profile_parts,
    to_numbers,
    to_text,
)

_ROWS = 20_000
_LEAST_ROWS = 200
_FEATURES = 128
_VALUES = 6
_POWERS = 2, 3
_LEAST_CORRELATION = 0.2
_RIDGE = 1e-3
_FARTHEST = 5.0
_FOLDS = 5
_SAME = 0.05
RESIDUAL, AGREEMENT = " given the others", " with the others"


def profile_reference(frame: pl.DataFrame, times: pl.Series) -> Profile:
    """Return the profile of training rows with their history, the relations of their columns, and those' profile.

    The profile of the relations is that of predictions for rows which the regression did not learn (five folds of
    time), because rows that it learned fit better than later ones. If the weights of a fold predict nearly the same as
    those of all rows, the latter are used: otherwise rows with the same values would differ between folds.
    """
    described = profile_history(frame, times)
    if frame.height < _LEAST_ROWS:
        return described
    order = times.arg_sort() if times.dtype.is_temporal() and not times.null_count() else pl.Series(range(len(times)))
    ordered, ordered_times = frame[order], times[order]
    bounds = [frame.height * fold // _FOLDS for fold in range(_FOLDS + 1)]
    learned = ordered.gather_every(-(-frame.height // _ROWS))
    features, matrix = _add_products(*_scale_features(learned, described))
    rows = learned.height
    folds = list(pairwise([rows * number // _FOLDS for number in range(_FOLDS + 1)]))
    products = [matrix[:, begin:end] @ matrix[:, begin:end].T for begin, end in folds]
    total = np.sum(products, axis=0) / rows
    relations = _solve(total, features)
    if relations is None:
        return described
    parts = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        others = np.sum([part for index, part in enumerate(products) if index != number], axis=0)
        fitted = _solve(others / (rows - folds[number][1] + folds[number][0]), features, relations)
        assert fitted is not None
        parts.append(relate(ordered[begin:end], replace(described, relations=_keep_same(fitted, relations, total))))
    described = replace(described, relations=relations)
    return replace(described, joint=profile_history(pl.concat(parts), ordered_times))


def profile_joint(
    frame: pl.DataFrame,
    bounds: Sequence[int],
    reference: Profile,
    relate_rows: Callable[[pl.DataFrame, Profile], pl.DataFrame] | None = None,
) -> list[Profile]:
    """Return the profiles of how the rows between each bound and the next fit the relations of a reference.

    The list is empty if the reference has no relations, or if a column is absent. `relate_rows` may return what it
    knows of the rows instead of calling `relate`.
    """
    if reference.relations is None or reference.joint is None:
        return []
    if not {feature.column for feature in reference.relations.features} <= set(frame.columns):
        return []
    return profile_parts((relate_rows or relate)(frame, reference), bounds, reference.joint)


def relate(frame: pl.DataFrame, reference: Profile) -> pl.DataFrame:
    """Return for each column that the others predict its difference from the prediction, and their product.

    Both are in units of the training rows; they are NaN where the column has no value. A product has a positive mean
    if the prediction fits, and the mean zero if it does not, whatever the distribution of the column.
    """
    relations = reference.relations
    assert relations is not None
    matrix, has_value = _build_features(frame, reference, relations.features)
    predictions = np.stack([relation.weights for relation in relations.relations]) @ matrix
    columns = {}
    for relation, predicted in zip(relations.relations, predictions, strict=True):
        present, actual = has_value[relation.feature], matrix[relation.feature]
        for name, values in (
            (RESIDUAL, actual - predicted),
            (AGREEMENT, actual * predicted / relation.correlation),
        ):
            columns[relation.column + name] = pl.Series(np.where(present, values, np.nan))
    return pl.DataFrame(columns)


def _scale_features(frame: pl.DataFrame, described: Profile) -> tuple[tuple[Feature, ...], Floats]:
    """Return the features that vary, with their centres and units, and those of the rows, shape (features, rows)."""
    features = _choose_features(described)
    matrix, has_value = _build_features(frame, described, features)
    centres, units = matrix.mean(axis=1), matrix.std(axis=1)
    varying = np.flatnonzero(units > 0)
    scaled = tuple(
        replace(features[index], centre=float(centres[index]), unit=float(units[index])) for index in varying.tolist()
    )
    for row, index in enumerate(varying.tolist()):
        matrix[row] = np.where(has_value[index], _scale(matrix[index], scaled[row]), 0.0)
    return scaled, matrix[: len(varying)]


def _scale(values: Floats, feature: Feature) -> Floats:
    scaled: Floats = np.clip((values - feature.centre) / feature.unit, -_FARTHEST, _FARTHEST)
    return scaled


def _add_products(features: tuple[Feature, ...], matrix: Floats) -> tuple[tuple[Feature, ...], Floats]:
    """Return the features and the rows with those products of features that predict what the others leave."""
    if not features:
        return features, matrix
    inverse = _invert(matrix @ matrix.T / matrix.shape[1])
    columns = [feature.column for feature in features]
    residuals = {}
    for name in dict.fromkeys(columns):
        targets, others, solutions = _regress(inverse, features, name)
        residuals[name] = matrix[targets[0]] - solutions[0] @ matrix[others]
    candidates = [index for index, feature in enumerate(features) if feature.power == 1]
    added, rows = [], []
    for factors in choose_products(matrix, columns, candidates, residuals):
        product = _multiply(matrix, factors)
        feature = Feature(
            column=columns[factors[0]], factors=factors, centre=float(product.mean()), unit=float(product.std())
        )
        added.append(feature)
        rows.append(_scale(product, feature))
    return (*features, *added), np.stack([*matrix, *rows])


def _multiply(matrix: Floats, factors: Sequence[int]) -> Floats:
    product: Floats = matrix[list(factors)].prod(axis=0)
    return product


def _invert(products: Floats) -> Floats:
    return np.asarray(np.linalg.inv(products + _RIDGE * np.eye(len(products))), float)


def _regress(inverse: Floats, features: Sequence[Feature], name: str) -> tuple[list[int], list[int], Floats]:
    """Return the features of a column, those without the column, and the weights with which these predict the former.

    The regression of some features on the others comes from blocks of the inverse (Lauritzen 1996, appendix C).
    """
    columns = [{feature.column, *(features[factor].column for factor in feature.factors)} for feature in features]
    own = [index for index, used in enumerate(columns) if name in used]
    others = [index for index, used in enumerate(columns) if name not in used]
    targets = sum(not features[index].factors for index in own)  # products come last
    if not others:
        return own[:targets], others, np.zeros((targets, 0))
    solutions = -np.asarray(np.linalg.solve(inverse[np.ix_(own, own)], inverse[np.ix_(own, others)]), float)
    return own[:targets], others, solutions[:targets]


def _solve(products: Floats, features: tuple[Feature, ...], like: Relations | None = None) -> Relations | None:
    """Return the relations by ridge regression, from the mean products of the features; None if there is none.

    A column is predicted by its first feature, or if that has no relation by the one that the others predict best. With
    `like`, return the relations of the same features, with the same correlations as divisors.
    """
    if not features:
        return None
    inverse = _invert(products)
    known = {relation.column: relation for relation in like.relations} if like else {}
    relations = []
    for name in known or dict.fromkeys(feature.column for feature in features):
        targets, others, solutions = _regress(inverse, features, name)
        if not others:
            continue
        correlations = np.maximum(np.einsum("ij,ji->i", solutions, products[np.ix_(others, targets)]), 0.0) ** 0.5
        chosen = 0 if correlations[0] >= _LEAST_CORRELATION else int(correlations.argmax())
        correlation = float(correlations[chosen])
        if name in known:
            chosen, correlation = targets.index(known[name].feature), known[name].correlation
        if correlation >= _LEAST_CORRELATION:
            weights = np.zeros(len(features))
            weights[others] = solutions[chosen]
            relations.append(
                Relation(column=name, feature=targets[chosen], weights=tuple(weights.tolist()), correlation=correlation)
            )
    return Relations(features=features, relations=tuple(relations)) if relations else None


def _keep_same(fitted: Relations, relations: Relations, products: Floats) -> Relations:
    """Return the relations of a fold, with the weights of all rows where both predict nearly the same."""
    kept = []
    for own, other in zip(fitted.relations, relations.relations, strict=True):
        difference = np.asarray(own.weights) - np.asarray(other.weights)
        kept.append(other if float(difference @ products @ difference) ** 0.5 <= _SAME else own)
    return replace(fitted, relations=tuple(kept))


def _choose_features(described: Profile) -> tuple[Feature, ...]:
    """Return the features of columns: a number and its powers, and whether a text is one of its most frequent values.

    A table with many columns has no powers, and one with very many only the features of its first columns.
    """
    features: list[Feature] = []
    for column in described.columns:
        if column.type == "text":
            values = list(column.values)[: min(_VALUES, len(column.values) - 1)]
            features += [Feature(column=column.name, value=value) for value in values]
        elif column.type not in ("time", "date") and len(column.edges) > 1:
            features.append(Feature(column=column.name))
    numbers = [feature for feature in features if feature.value is None]
    room = (_FEATURES - len(features)) // max(len(numbers), 1)
    powers = [replace(feature, power=power) for power in _POWERS[: max(room, 0)] for feature in numbers]
    return (*features[:_FEATURES], *powers)


def _build_features(
    frame: pl.DataFrame, described: Profile, features: tuple[Feature, ...]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the features of rows, shape (features, rows), and whether each has a value.

    A number is its rank among the bins of the reference, so that a far value has no leverage; a missing value is 0.
    """
    profiles = {column.name: column for column in described.columns}
    matrix = np.zeros((len(features), frame.height))
    has_value = np.zeros(matrix.shape, dtype=bool)
    places: dict[str, list[int]] = {name: [] for name in dict.fromkeys(feature.column for feature in features)}
    for index, feature in enumerate(features):
        if not feature.factors:
            places[feature.column].append(index)
    for name, indices in places.items():
        own = [features[index] for index in indices]
        for index, (values, present) in zip(indices, _compute_features(frame[name], own, profiles[name]), strict=True):
            scaled = _scale(values, features[index])
            matrix[index], has_value[index] = np.where(present, scaled, 0.0), present
    for index, feature in enumerate(features):
        if feature.factors:
            matrix[index] = _scale(_multiply(matrix, feature.factors), feature)
    return matrix, has_value


def _compute_features(
    values: pl.Series, features: Sequence[Feature], column: ColumnProfile
) -> Iterator[tuple[Floats, npt.NDArray[np.bool_]]]:
    """Return each of the features of a column, before they are scaled, and whether its rows have a value."""
    if features[0].value is not None:
        text = to_text(values)
        present, codes = text.is_not_null().to_numpy(), encode(text, [str(feature.value) for feature in features])
        for index in range(len(features)):
            yield (codes == index).astype(float), present
    else:
        numbers = to_numbers(values).to_numpy()  # a null becomes NaN
        present, ranks = np.isfinite(numbers), 2 * _rank(numbers, column) - 1
        for feature in features:
            yield reduce(np.multiply, [ranks] * feature.power), present


def _rank(numbers: Floats, column: ColumnProfile) -> Floats:
    """Return the share of the reference's rows below each number, interpolated between edges and beyond them."""
    edges = np.asarray(column.edges)
    shares = np.cumsum(column.counts)[:-1] / max(column.present, 1)
    ranks: Floats = np.interp(numbers, edges, shares)
    with np.errstate(over="ignore", invalid="ignore"):  # differences of the largest numbers are infinite
        spread = (edges[-1] - edges[0]) / max(shares[-1] - shares[0], 1e-9)
        beyond = np.where(numbers > edges[-1], numbers - edges[-1], np.minimum(numbers - edges[0], 0.0))
        ranks += np.nan_to_num(np.clip(beyond / spread, -1.0, 1.0))
    return ranks
