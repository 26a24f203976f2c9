"""Finds what a model must not have seen: a label in its inputs, rows or groups of the test, the test's future."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.checks.gate import Finding
from tidemill.data.frame import TIME
from tidemill.errors import DataError

Floats = npt.NDArray[np.float64]
_LEAST = 200
_LOOKED_AT = 50_000
_LEAST_OF_A_CLASS = 30
_MOST_SHARED = 0.01
_CROWDED = 5
_NEAR = 50
_UNEVEN = 0.1
_SURE = 3.0
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
    """What leaks from the label into the inputs, or from the test rows into the training.

    Looked for are always an input that tells the label, test rows that were trained on, and an input that says on
    which side a row is (a warning); what else depends on how the rows were split. A group on both sides is none where
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
        *_shared(train, test, key, (*inputs, label, *((TIME,) if timed else ()))),
    ]
    found += _shared_groups(train, test, group) if group else []
    found += _later(train, test) if timed else []
    found += _naming(train, test, inputs)
    return found or [Finding(about="leaks", reason="nothing leaks from the label or from the test rows")]


def _telling(train: pl.DataFrame, inputs: tuple[str, ...], label: str, most: float) -> list[Finding]:
    if train.height < _LEAST:
        return []
    rows = train.sample(min(train.height, _LOOKED_AT), shuffle=True, seed=0)
    told = {name: telling(rows[name], rows[label]) for name in inputs if _comparable(rows, name)}
    leaking = {name: value for name, value in sorted(told.items(), key=lambda one: -one[1]) if value > most}
    return [
        Finding(
            about="leak",
            outcome="fail",
            reason=f"input {name!r} alone tells the label almost perfectly ({value:.3f}): is it known by then?",
            evidence={"leaking_input": name, "leakage": value},
        )
        for name, value in list(leaking.items())[:1]
    ]


def _comparable(rows: pl.DataFrame, name: str) -> bool:
    return name in rows.columns and not rows.schema[name].is_nested() and rows[name].n_unique() > 1


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


def telling(values: pl.Series, label: pl.Series) -> float:
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
    """The places of values in their order, 0 where there is none; of a time what a model sees: its weekday and hour."""
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        moments = values.cast(pl.Datetime("us"))
        values = (moments.dt.weekday().cast(pl.Int32) * 24 + moments.dt.hour()) * 60 + moments.dt.minute()
    plain = values.cast(pl.Float64) if values.dtype.is_numeric() or values.dtype == pl.Boolean else values
    ranked = plain.fill_nan(None).rank("dense") if plain.dtype == pl.Float64 else plain.cast(pl.String).rank("dense")
    return ranked.fill_null(0).cast(pl.Float64).to_numpy()


def _shared(train: pl.DataFrame, test: pl.DataFrame, key: tuple[str, ...], whole: tuple[str, ...]) -> list[Finding]:
    """Test rows that are training rows, too; rows that are alike by nature are so within the training as well."""
    named = list(key) if set(key) <= {*train.columns} & {*test.columns} else []
    columns = named or [name for name in dict.fromkeys(whole) if name in train.columns and name in test.columns]
    if not columns or not test.height:
        return []
    rows = train.select(columns)
    shared = test.join(rows, on=columns, how="semi", nulls_equal=True).height / test.height
    alike = 0.0 if named else min(int(rows.is_duplicated().sum()) / max(rows.height, 1), _by_chance(rows))
    most = max(_MOST_SHARED, 2 * alike)
    if shared <= most + (0.0 if named else _SURE * float(np.sqrt(most / test.height))):
        return []
    reason = f"{shared:.0%} of the test rows are among its training rows"
    return [Finding(about="test rows", outcome="fail", reason=reason, evidence={"test_rows_in_training": shared})]


def _by_chance(rows: pl.DataFrame) -> float:
    """The most rows, as a share, that are alike without being copies.

    A number that was measured to many digits tells rows apart: of one like 31.4 some fall together, of one like
    31.4159265 hardly any.
    """
    numbers = (rows[name].filter(rows[name].is_finite()) for name in rows.columns if rows.schema[name].is_float())
    return min((_collisions(one) for one in numbers), default=1.0)


def _collisions(numbers: pl.Series) -> float:
    """How many rows, as a share, a number cannot tell from others: how close the nearest lie, in steps of its values.

    They are counted around each value, so that neither an outlier nor a long tail makes the rest seem far apart, and
    a value that many rows have tells none of them from the others.
    """
    ordered = np.sort(numbers.to_numpy())
    apart = np.diff(np.unique(ordered))
    if (apart.size + 1) * _CROWDED < ordered.size or not apart.size:
        return 1.0
    step = _step(apart, numbers)
    near = min(_NEAR, ordered.size - 1)
    spans = ordered[near:] - ordered[:-near]
    return float(np.minimum(1.0, near * step / np.maximum(spans, step)).mean())


def _step(apart: Floats, numbers: pl.Series) -> float:
    """The step of which all distances are multiples (1 of prices like 9.99), else that in which they are written."""
    multiples = apart / apart.min()
    if np.abs(multiples - multiples.round()).mean() < _UNEVEN:
        return float(apart.min())
    decimals = numbers.head(_LOOKED_AT).cast(pl.String).str.extract(r"\.(\d*?)0*$").str.len_chars().median()
    return 10.0**-decimals if isinstance(decimals, float) else float(np.spacing(np.abs(numbers.to_numpy()).max()))


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
    """Inputs of a few values that share none of them between the sides, and are named like a split."""
    named = [name for name in inputs if _SIDES & set(name.lower().replace("-", "_").split("_"))]
    found = []
    for name in (name for name in named if name in train.columns and name in test.columns):
        here, there = (rows[name].drop_nulls().unique() for rows in (train, test))
        few = 0 not in (here.len(), there.len()) and here.len() + there.len() <= _FEW
        if few and not here.is_in(there.implode()).any():
            found.append(name)
    reason = f"input {found[0]!r} says on which side of the split a row is: leave it out" if found else ""
    return [Finding(about="sides", outcome="warn", reason=reason, evidence={"naming_inputs": found})] if found else []
