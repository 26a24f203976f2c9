"""Finds leaks: a label in the inputs; test rows, groups or later times in the training rows."""

from datetime import datetime

import numpy as np
import polars as pl

from tidemill.checks.copies import find_copies
from tidemill.checks.gate import Finding
from tidemill.data.arrays import Floats
from tidemill.data.frame import TIME
from tidemill.errors import DataError

_LEAST = 200
_LEAST_OF_A_COPY = 20
_LEAST_OF_A_CODE = 5
_LOOKED_AT = 50_000
_LEAST_OF_A_CLASS = 30
_SIDES = {"train", "test", "valid", "validation", "fold", "split"}
_FEW = 20


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
) -> list[Finding]:
    """Find what leaks from the label into the inputs, or from the test rows into the training rows.

    Looked for are always an input that tells the label, test rows that were trained on, and inputs that say on which
    side a row is or number the rows (warnings); what else depends on how the rows were split. What could not be
    examined, for want of rows, is listed. A group on both sides is none where
    they were split by time: what comes next of a known patient is then what is asked.

    Parameters
    ----------
    train : every row that was learned from, those on which something was chosen among them.
    key : the columns that name a row; without them whole rows are compared.
    group : the column of which no value may be on both sides, where the split is by group; null is no group.
    timed : whether the split is by time, so that all training rows have to come before the test rows.
    most : how much of the label one input alone may tell, by Chatterjee's coefficient (1: all of it).

    Raises
    ------
    DataError
        if a part has no column `group`.
    """
    found = [
        *_telling(train, inputs, label, most),
        *find_copies(train, test, key, (*inputs, label, *((TIME,) if timed else ()))),
    ]
    found += _shared_groups(train, test, group) if group else []
    found += _later(train, test) if timed else []
    found += _naming(train, test, inputs)
    found += _numbering(train, test, inputs)
    if found:
        return found
    if train.height < _LEAST:
        reason = f"no leak found; not examined: whether an input nearly tells the label ({train.height} training rows)"
        return [Finding(about="leaks", reason=reason, evidence={"not_examined": ["inputs that nearly tell the label"]})]
    return [Finding(about="leaks", reason="nothing leaks from the label or from the test rows")]


def _telling(train: pl.DataFrame, inputs: tuple[str, ...], label: str, most: float) -> list[Finding]:
    """The input that tells the label best, if it does so too well; of few rows only a copy of the label is told."""
    if train.height < _LEAST_OF_A_COPY:
        return []
    rows = train.sample(min(train.height, _LOOKED_AT), shuffle=True, seed=0)
    compared = [name for name in inputs if _comparable(rows, name)]
    told = {name: measure_dependence(rows[name], rows[label]) for name in compared} if train.height >= _LEAST else {}
    told |= {name: 1.0 for name in compared if is_copy(rows[name], rows[label])}
    leaking = {name: value for name, value in sorted(told.items(), key=lambda one: -one[1]) if value > most}
    return [
        Finding(
            about="leak",
            outcome="fail",
            reason=f"input {name!r} alone predicts the label almost perfectly ({value:.3f}): "
            "is it known at prediction time?",
            evidence={"leaking_input": name, "leakage": value},
        )
        for name, value in list(leaking.items())[:1]
    ]


def _comparable(rows: pl.DataFrame, name: str) -> bool:
    return name in rows.columns and not rows.schema[name].is_nested() and rows[name].n_unique() > 1


def is_copy(values: pl.Series, label: pl.Series) -> bool:
    """Whether a column is the label by other names: each of its values goes with one class and each class with one.

    Numbers that hardly repeat are compared by their order. A class of fewer than five rows proves nothing.
    """
    pairs = pl.DataFrame({"x": values, "y": label})
    distinct = values.n_unique()
    if distinct > len(values) / 2:
        feature, truth = ranks(values), ranks(label)
        numbers = label.dtype.is_numeric() and (values.dtype.is_numeric() or values.dtype.is_temporal())
        return numbers and (bool((feature == truth).all()) or bool((feature == truth.max() + 1 - truth).all()))
    if not distinct == label.n_unique() == pairs.n_unique():
        return False
    return int(label.value_counts()["count"].sort()[:-1].sum()) >= _LEAST_OF_A_CODE


def coefficient(feature: Floats, truth: Floats) -> float:
    """How much of `truth` is a function of `feature`: 1 where all of it is, about 0 where they are independent.

    Both are of shape (rows,), in no order. From Chatterjee (2021), A new coefficient of correlation, section 1, the
    form with ties.

    >>> round(coefficient(np.arange(1000.0), np.repeat([0.0, 1.0], 500)), 3)
    0.998
    """
    ordered = truth[np.argsort(feature, kind="stable")]
    upto = np.searchsorted(np.sort(ordered), ordered, side="right").astype(float)
    atleast = len(ordered) - np.searchsorted(np.sort(ordered), ordered, side="left").astype(float)
    spread = 2 * float((atleast * (len(ordered) - atleast)).sum())
    return 1 - len(ordered) * float(np.abs(np.diff(upto)).sum()) / spread if spread > 0 else 0.0


def measure_dependence(values: pl.Series, label: pl.Series) -> float:
    """How much of a label a column tells alone, 1 where it is as good as the label itself; the rows are in no order.

    Text has no order of its own: that of its letters is taken, and that of the mean label that each value has in the
    one half of the rows, for the other half.
    """
    truth = ranks(label)
    told = _share(ranks(values), truth)
    if not (values.dtype.is_numeric() or values.dtype.is_temporal() or values.dtype == pl.Boolean):
        half = len(values) // 2
        both = pl.DataFrame({"x": values.cast(pl.String), "y": truth})
        means = both[:half].group_by("x").agg(pl.col("y").mean())
        seen = both[half:].select("x").join(means, on="x", how="left", nulls_equal=True, maintain_order="left")
        usual = float(truth[:half].mean()) if half else 0.0
        told = max(told, _share(seen["y"].fill_null(usual).to_numpy(), truth[half:]))
    return told


def _share(feature: Floats, truth: Floats) -> float:
    """The coefficient, as a share of what the label has with itself, which is well below 1 for a rare class.

    Of a class that is so rare that chance may set it apart it is not lifted.
    """
    most = coefficient(truth, truth) if np.unique(truth, return_counts=True)[1].min() >= _LEAST_OF_A_CLASS else 1.0
    return coefficient(feature, truth) / most if most > 0 else 0.0


def ranks(values: pl.Series) -> Floats:
    """Return the dense ranks of values, 0 for a missing value."""
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        values = values.cast(pl.Datetime("us")).to_physical()
    plain = values.cast(pl.Float64) if values.dtype.is_numeric() or values.dtype == pl.Boolean else values
    ranked = plain.fill_nan(None).rank("dense") if plain.dtype == pl.Float64 else plain.cast(pl.String).rank("dense")
    return ranked.fill_null(0).cast(pl.Float64).to_numpy()


def _shared_groups(train: pl.DataFrame, test: pl.DataFrame, group: str) -> list[Finding]:
    for rows in (train, test):
        if group not in rows.columns:
            raise DataError(
                f"there is no column {group!r} by which the rows were split", "keep it in what your split step returns"
            )
    both = test.join(train.select(group), on=group, how="semi")
    if both.is_empty():
        return []
    count = both[group].n_unique()
    reason = f"{both.height} test rows are of {count} values of {group!r} that it has learned from"
    evidence = {"shared_groups": count, "rows_of_shared_groups": both.height}
    return [Finding(about="groups", outcome="fail", reason=reason, evidence=evidence)]


def _later(train: pl.DataFrame, test: pl.DataFrame) -> list[Finding]:
    newest, oldest = train[TIME].max(), test[TIME].min()
    if not isinstance(newest, datetime) or not isinstance(oldest, datetime) or newest <= oldest:
        return []
    count = train.filter(pl.col(TIME) > oldest).height
    reason = f"it has learned from {count} rows that come after the first test row ({oldest.isoformat()})"
    return [Finding(about="future", outcome="fail", reason=reason, evidence={"rows_of_the_future": count})]


def _naming(train: pl.DataFrame, test: pl.DataFrame, inputs: tuple[str, ...]) -> list[Finding]:
    """Warn of inputs that are named like a split and whose few values differ between training and test rows."""
    named = [name for name in inputs if _SIDES & set(name.lower().replace("-", "_").split("_"))]
    found = []
    for name in (name for name in named if name in train.columns and name in test.columns):
        here, there = (rows[name].drop_nulls().unique() for rows in (train, test))
        few = 0 not in (here.len(), there.len()) and here.len() + there.len() <= _FEW
        if few and not here.is_in(there.implode()).any():
            found.append(name)
    reason = f"input {found[0]!r} shows on which side of the split a row is: exclude it" if found else ""
    return [Finding(about="sides", outcome="warn", reason=reason, evidence={"naming_inputs": found})] if found else []


def _numbering(train: pl.DataFrame, test: pl.DataFrame, inputs: tuple[str, ...]) -> list[Finding]:
    """Warn of inputs that number the rows: the number of a new row is in no training row."""
    both = (name for name in inputs if name in train.columns and train.schema[name].is_integer())
    both = (name for name in both if train.schema[name] == test.schema.get(name))
    found = [name for name in both if numbers_rows(pl.concat([train[name], test[name]]))]
    reason = f"input {found[0]!r} numbers the rows, and has no meaning for a new row: exclude it" if found else ""
    return [Finding(about="numbers", outcome="warn", reason=reason, evidence={"numbering": found})] if found else []


def numbers_rows(values: pl.Series) -> bool:
    """Return whether whole numbers count the rows: each number occurs once, without a gap."""
    if not values.dtype.is_integer() or len(values) < _LEAST_OF_A_COPY or values.null_count():
        return False
    least, most = values.min(), values.max()
    return isinstance(least, int) and isinstance(most, int) and most - least + 1 == len(values) == values.n_unique()
