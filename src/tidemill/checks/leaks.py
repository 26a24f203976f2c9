"""Finds leaks: a label in the inputs; test rows, groups or later times in the training rows."""

from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.checks.copies import find_copies
from tidemill.checks.gate import Finding
from tidemill.checks.registry import gate_finding
from tidemill.data.arrays import Floats
from tidemill.data.frame import TIME
from tidemill.errors import DataError

_LEAST_ROWS = 200
_LEAST_ROWS_OF_COPY = 20
_LEAST_ROWS_OF_CODE = 5
_SAMPLE_ROWS = 50_000
_LEAST_ROWS_OF_CLASS = 30
_MOST_SHORT = 65_535
_SPLIT_WORDS = {"train", "test", "valid", "validation", "fold", "split"}
_FEW = 20
_SAME_DEPENDENCE = 0.02

LEAK_FINDINGS = (
    gate_finding("leak", "each input with the label: no input may predict it alone", "rows", "labels"),
    gate_finding("test rows", "test rows with training rows: no row may be in both", "rows"),
    gate_finding("groups", "the groups of test rows with those of training rows", "rows"),
    gate_finding("future", "the times of training rows with those of test rows", "rows"),
    gate_finding("sides", "its inputs with the split: no input may show the side of a row", "rows"),
    gate_finding("numbers", "its inputs with row numbers: no input may number the rows", "rows"),
    gate_finding("leaks", "its inputs and rows with all kinds of leaks, if there is none", "rows", "labels"),
)


def find_leaks(
    train: pl.DataFrame,
    test: pl.DataFrame,
    *,
    inputs: tuple[str, ...],
    label: str,
    key: tuple[str, ...],
    group: str = "",
    timed: bool,
    most: float,
    earlier: pl.DataFrame | None = None,
) -> list[Finding]:
    """Find leaks from the label into the inputs, and from the test rows into the training rows.

    These leaks are searched for in every table: an input that predicts the label alone, and test rows that are training
    rows. Two kinds of inputs are a warning: those that show on which side of the split a row is, and those that number
    the rows. Later training rows are searched for only with `timed`, shared groups only with `group`. If there are too
    few rows for a search, the finding lists it as not examined.

    Parameters
    ----------
    train : all rows that the model learned from, with the validation rows.
    key : the columns that identify a row; without them whole rows are compared.
    group : the group column of a split by group: no group may have rows on both sides; null is no group.
    timed : whether the split is by time, so that all training rows must precede the test rows.
    most : the largest dependence of the label on one input, by Chatterjee's coefficient (1: the label is a function).
    earlier : the rows that the champion has learned, with its inputs; an input on which the label depended as much
        there is only a warning, if it is not a copy: the champion has served with it. So is an input that predicts a
        number no better than its own value one row, one day or one week before, if the rows are `timed`.

    Raises
    ------
    DataError
        if a part has no column `group`.
    """
    findings = [
        *_find_leaking_input(train, inputs, label, most, earlier, timed=timed),
        *find_copies(train, test, key, (*inputs, label, *((TIME,) if timed else ())), label),
    ]
    findings += _find_shared_groups(train, test, group) if group else []
    findings += _find_later_rows(train, test) if timed else []
    findings += _find_split_names(train, test, inputs)
    findings += _find_row_numbers(train, test, inputs)
    if findings:
        return findings
    if train.height < _LEAST_ROWS:
        reason = f"no leak found; not examined: inputs that nearly predict the label ({train.height} training rows)"
        evidence = {"not_examined": ["inputs that nearly predict the label"]}
        return [Finding(about="leaks", reason=reason, evidence=evidence)]
    return [Finding(about="leaks", reason="no leak found from the label or from the test rows")]


def _find_leaking_input(
    train: pl.DataFrame,
    inputs: tuple[str, ...],
    label: str,
    most: float,
    earlier: pl.DataFrame | None,
    *,
    timed: bool,
) -> list[Finding]:
    """Return a finding on the input with the largest dependence above `most`; few rows only reveal copies."""
    if train.height < _LEAST_ROWS_OF_COPY:
        return []
    rows = train.sample(min(train.height, _SAMPLE_ROWS), shuffle=True, seed=0)
    types = rows.schema
    flat = (name for name in inputs if name in types and not types[name].is_nested())
    compared = [name for name in flat if rows[name].n_unique() > 1]
    leakage: dict[str, float] = {}
    if train.height >= _LEAST_ROWS:
        dependence = Dependence(rows[label])
        leakage = {name: dependence.measure(rows[name]) for name in compared}
    copies = {name: 1.0 for name in compared if is_copy(rows[name], rows[label])}
    suspects = {name: value for name, value in (leakage | copies).items() if value > most}
    if not suspects:
        return []
    excuses = _find_excuses(train, suspects.keys() - copies.keys(), suspects, label, earlier, timed=timed)
    worst = max(suspects.keys() - excuses.keys() or suspects, key=suspects.__getitem__)
    reason = f"input {worst!r} alone predicts the label almost perfectly ({suspects[worst]:.3f})"
    evidence = {"leaking_input": worst, "leakage": suspects[worst]}
    if worst in excuses:
        return [Finding(about="leak", outcome="warn", reason=f"{reason}, {excuses[worst]}", evidence=evidence)]
    reason = f"{reason}: is it known at prediction time?"
    return [Finding(about="leak", outcome="fail", reason=reason, evidence=evidence)]


def _find_excuses(
    train: pl.DataFrame,
    names: Set[str],
    leakage: Mapping[str, float],
    label: str,
    earlier: pl.DataFrame | None,
    *,
    timed: bool,
) -> dict[str, str]:
    """Return the inputs whose dependence shows no leak, each with the reason.

    The champion has served with such an input; or the label is a number whose own earlier values predict it as well.
    """
    persistence = _measure_persistence(train, label) if timed and names else 0.0
    found = {
        name: f"as an earlier value of the label does ({persistence:.3f})"
        for name in names
        if leakage[name] - persistence <= _SAME_DEPENDENCE
    }
    if earlier is None or earlier.height < _LEAST_ROWS:
        return found
    rows = earlier.sample(min(earlier.height, _SAMPLE_ROWS), shuffle=True, seed=0)
    dependence = Dependence(rows[label])
    served = {name: dependence.measure(rows[name]) for name in names if name in rows.columns}
    return found | {
        name: f"as in the rows of the champion ({value:.3f})"
        for name, value in served.items()
        if leakage[name] - value <= _SAME_DEPENDENCE
    }


def _measure_persistence(train: pl.DataFrame, label: str) -> float:
    """Return how much a number depends on its value one row, one day or one week before; 0 for classes."""
    if not train[label].dtype.is_float() and not train[label].dtype.is_integer():
        return 0.0
    rows = train.select(TIME, label).drop_nulls().sort(TIME, maintain_order=True).tail(_SAMPLE_ROWS)
    if rows.height < _LEAST_ROWS:
        return 0.0
    days = (rows[TIME][-1] - rows[TIME][0]) / timedelta(days=1)
    a_day = rows.height / days if days else 0.0
    largest = 0.0
    for shift in {1, round(a_day), round(7 * a_day)}:
        if 0 < shift <= rows.height - _LEAST_ROWS:
            pairs = pl.DataFrame({"now": rows[label][shift:], "before": rows[label][:-shift]})
            pairs = pairs.sample(pairs.height, shuffle=True, seed=0)
            largest = max(largest, measure_dependence(pairs["before"], pairs["now"]))
    return largest


def is_copy(values: pl.Series, label: pl.Series) -> bool:
    """Return whether a column is the label in another code: each value has one class, and each class one value.

    Numbers with few repetitions are compared by their order. A class of fewer than five rows is no evidence.
    """
    pairs = pl.DataFrame({"x": values, "y": label})
    distinct = values.n_unique()
    if distinct > len(values) / 2:
        feature, truth = ranks(values), ranks(label)
        numbers = label.dtype.is_numeric() and (values.dtype.is_numeric() or values.dtype.is_temporal())
        return numbers and (bool((feature == truth).all()) or bool((feature == truth.max() + 1 - truth).all()))
    if not distinct == label.n_unique() == pairs.n_unique():
        return False
    return int(label.alias("label").value_counts()["count"].sort()[:-1].sum()) >= _LEAST_ROWS_OF_CODE


def coefficient(feature: Floats, truth: Floats) -> float:
    """Return the dependence of `truth` on `feature`: 1 for a function, about 0 for independent values.

    Both have the shape (rows,); the rows must be in random order. Source: Chatterjee (2021), A new coefficient of
    correlation, section 1, the form with ties.

    >>> round(coefficient(np.arange(1000.0), np.repeat([0.0, 1.0], 500)), 3)
    0.998
    """
    return _count_ranks(truth).compare(feature)


class _RankedLabel(NamedTuple):
    """The numbers of labels up to the label of each row, and the sum that a coefficient is divided by."""

    truth: Floats
    up_to: Floats
    spread: float

    def compare(self, feature: npt.NDArray[Any]) -> float:
        ordered = self.up_to[np.argsort(feature, kind="stable")]
        return 1 - len(ordered) * float(np.abs(np.diff(ordered)).sum()) / self.spread if self.spread > 0 else 0.0

    def find_scale(self) -> float:
        """Return the coefficient of the label with itself, which a rare class makes small.

        If a class has so few rows that a high coefficient may be chance, it is 1.
        """
        is_rare = np.unique(self.truth, return_counts=True)[1].min() < _LEAST_ROWS_OF_CLASS
        return 1.0 if is_rare else self.compare(self.truth)


def _count_ranks(truth: Floats) -> _RankedLabel:
    ordered = np.sort(truth)
    at_least = len(truth) - np.searchsorted(ordered, truth, side="left").astype(float)
    up_to = np.searchsorted(ordered, truth, side="right").astype(float)
    return _RankedLabel(truth, up_to, 2 * float((at_least * (len(truth) - at_least)).sum()))


class Dependence:
    """Measures the dependence of a label on columns, of which each has the label's rows, in random order."""

    def __init__(self, label: pl.Series) -> None:
        truth = ranks(label)
        self._half = len(truth) // 2
        self._whole, self._second = _count_ranks(truth), _count_ranks(truth[self._half :])
        self._scales = [part.find_scale() if len(part.truth) else 0.0 for part in (self._whole, self._second)]

    def measure(self, values: pl.Series) -> float:
        """Return the dependence of the label on a column: 1 if the column predicts as well as the label itself.

        The values of text are ordered in two ways, and the larger dependence counts: alphabetically, and, in one half
        of the rows, by the mean label of each value in the other half.
        """
        scale, scale_of_second = self._scales
        dependence = self._whole.compare(_to_short(ranks(values))) / scale if scale > 0 else 0.0
        if values.dtype.is_numeric() or values.dtype.is_temporal() or values.dtype == pl.Boolean:
            return dependence
        truth = self._whole.truth
        both = pl.DataFrame({"x": values.cast(pl.String), "y": truth})
        means = both[: self._half].group_by("x").agg(pl.col("y").mean())
        second = both[self._half :].select("x").join(means, on="x", how="left", nulls_equal=True, maintain_order="left")
        mean = float(truth[: self._half].mean()) if self._half else 0.0
        ordered = self._second.compare(second["y"].fill_null(mean).to_numpy())
        return max(dependence, ordered / scale_of_second if scale_of_second > 0 else 0.0)


def _to_short(dense_ranks: Floats) -> npt.NDArray[Any]:
    """Return ranks as 16-bit numbers if they fit: these are sorted by their digits, in a tenth of the time."""
    return dense_ranks.astype(np.uint16) if dense_ranks.max(initial=0.0) <= _MOST_SHORT else dense_ranks


def measure_dependence(values: pl.Series, label: pl.Series) -> float:
    """Return the dependence of a label on one column (see `Dependence`)."""
    return Dependence(label).measure(values)


def ranks(values: pl.Series) -> Floats:
    """Return the dense ranks of values, 0 for a missing value."""
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        values = values.cast(pl.Datetime("us")).to_physical()
    plain = values.cast(pl.Float64) if values.dtype.is_numeric() or values.dtype == pl.Boolean else values
    ranked = plain.fill_nan(None).rank("dense") if plain.dtype == pl.Float64 else plain.cast(pl.String).rank("dense")
    return ranked.fill_null(0).cast(pl.Float64).to_numpy()


def _find_shared_groups(train: pl.DataFrame, test: pl.DataFrame, group: str) -> list[Finding]:
    for rows in (train, test):
        if group not in rows.columns:
            raise DataError(
                f"the rows have no column {group!r}, the group of the split",
                "keep this column in the output of the split step",
            )
    both = test.join(train.select(group), on=group, how="semi")
    if both.is_empty():
        return []
    count = both[group].n_unique()
    reason = f"{both.height} test rows belong to {count} values of {group!r} that are also in its training rows"
    evidence = {"shared_groups": count, "rows_of_shared_groups": both.height}
    return [Finding(about="groups", outcome="fail", reason=reason, evidence=evidence)]


def _find_later_rows(train: pl.DataFrame, test: pl.DataFrame) -> list[Finding]:
    newest, oldest = train[TIME].max(), test[TIME].min()
    if not isinstance(newest, datetime) or not isinstance(oldest, datetime) or newest <= oldest:
        return []
    count = train.filter(pl.col(TIME) > oldest).height
    reason = f"{count} of its training rows are later than the first test row ({oldest.isoformat()})"
    return [Finding(about="future", outcome="fail", reason=reason, evidence={"rows_of_the_future": count})]


def _find_split_names(train: pl.DataFrame, test: pl.DataFrame, inputs: tuple[str, ...]) -> list[Finding]:
    """Warn of inputs with the name of a split whose few values differ between training and test rows."""
    candidates = [name for name in inputs if _SPLIT_WORDS & set(name.lower().replace("-", "_").split("_"))]
    splits = []
    for name in (name for name in candidates if name in train.columns and name in test.columns):
        in_train, in_test = (rows[name].drop_nulls().unique() for rows in (train, test))
        has_few = 0 not in (in_train.len(), in_test.len()) and in_train.len() + in_test.len() <= _FEW
        if has_few and not in_train.is_in(in_test.implode()).any():
            splits.append(name)
    if not splits:
        return []
    reason = f"input {splits[0]!r} shows on which side of the split a row is: exclude it"
    return [Finding(about="sides", outcome="warn", reason=reason, evidence={"naming_inputs": splits})]


def _find_row_numbers(train: pl.DataFrame, test: pl.DataFrame, inputs: tuple[str, ...]) -> list[Finding]:
    """Warn of inputs that number the rows: the number of a new row is in no training row."""
    train_types, test_types = train.schema, test.schema
    integers = (name for name in inputs if name in train_types and train_types[name].is_integer())
    in_both = (name for name in integers if train_types[name] == test_types.get(name))
    numbering = [name for name in in_both if numbers_rows(pl.concat([train[name], test[name]]))]
    if not numbering:
        return []
    reason = f"input {numbering[0]!r} numbers the rows, and has no meaning for a new row: exclude it"
    return [Finding(about="numbers", outcome="warn", reason=reason, evidence={"numbering": numbering})]


def numbers_rows(values: pl.Series) -> bool:
    """Return whether whole numbers count the rows: each number occurs once, without a gap."""
    if not values.dtype.is_integer() or len(values) < _LEAST_ROWS_OF_COPY or values.null_count():
        return False
    least, most = values.min(), values.max()
    return isinstance(least, int) and isinstance(most, int) and most - least + 1 == len(values) == values.n_unique()
