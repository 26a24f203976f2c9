"""Tests of leakage: no input is known only after the prediction, or is the label in another form."""

from datetime import datetime
from typing import Any

import polars as pl

from tidemill.checks.leaks import find_leaks
from tidemill.core.columns import TIME
from tidemill.data.split import choose_split_kind
from tidemill.features.join import join
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample

__tracebackhide__ = True
_TEST_SHARE = 0.2


def require_known_inputs(sample: Sample) -> None:
    """Require that no input is a label, or a column that the source declares as known later."""
    problem, source = sample.policy.problem, sample.project.policy.sources[sample.policy.problem.source]
    later = {problem.label, problem.label_known_at or "", *source.later}
    read = dict.fromkeys(sample.features.request, "an input")
    for transformation in sample.features.transformations:
        read |= dict.fromkeys(transformation.inputs, f"read by transformation {transformation.name!r}")
    for name, use in read.items():
        if name in later:
            fail(
                f"column {name!r} leaks: it is {use}, and known only after the prediction", "remove it from the inputs"
            )


def require_no_leak(sample: Sample) -> None:
    """Require that no input alone explains the label, and that test rows are not among the training rows."""
    policy, source = sample.policy, sample.project.policy.sources[sample.policy.problem.source]
    rows = sample.complete
    timed = choose_split_kind(policy.training, timed=bool(source.time)) == "time"
    ordered = rows if timed else rows.sample(fraction=1.0, shuffle=True, seed=policy.training.seed)
    cut = int(rows.height * (1 - _TEST_SHARE))
    times = ordered[TIME]
    while timed and 0 < cut < rows.height and times[cut] == times[cut - 1]:
        cut -= 1
    findings = find_leaks(
        ordered[:cut],
        ordered[cut:],
        inputs=tuple(name for name in sample.features.names if name in rows.columns),
        label=sample.label,
        key=source.key,
        timed=timed,
        most=policy.gate.leakage,
    )
    for finding in findings:
        if finding.outcome == "fail" and finding.about == "leak":
            fail(
                f"{finding.reason} It leaks the label", "remove it from the inputs if it is known only after the event"
            )
        if finding.outcome == "fail":
            fail(f"the sample leaks: {finding.reason}", "remove the repeated rows, or set the key of the source")


def require_no_future(sample: Sample) -> None:
    """Require that features of views do not change if labels that are not known yet change.

    At the middle of the sample, labels that become known later are replaced in the sources of the views. A feature
    that changes uses them too early.
    """
    problem = sample.policy.problem
    times = sample.rows[TIME].unique().sort()
    time = times[len(times) // 2]
    rows = sample.rows.filter(pl.col(TIME) <= time)
    for view in sample.features.views:
        history = sample.sources.history(view, sample.until)
        changed = _change_future(history, sample, time)
        if changed is None:
            continue
        before, after = (join(rows, view, part) for part in (history, changed))
        for name in view.features:
            different = before[name].ne_missing(after[name])
            if different.any():
                index = int(different.arg_max() or 0)
                fail(
                    f"feature {name!r} leaks: at {rows[TIME][index]:%Y-%m-%d %H:%M} it uses values of "
                    f"{', '.join(_list_later(history, sample))}, which become known later ({problem.label_known_at})",
                    f"set time or known_at of [sources.{view.source}] to {problem.label_known_at!r}, "
                    "the time at which they become known",
                )


def _list_later(history: pl.DataFrame, sample: Sample) -> list[str]:
    """Return the columns of a view's source that are known only with the label."""
    problem = sample.policy.problem
    source = sample.project.policy.sources[problem.source]
    names = dict.fromkeys((problem.label, *source.later))
    return [name for name in names if name in history.columns and name != problem.label_known_at]


def _change_future(history: pl.DataFrame, sample: Sample, time: datetime) -> pl.DataFrame | None:
    """Return a view's source with other values of what becomes known after a time; None if it has no such column."""
    known_at = sample.policy.problem.label_known_at
    names = _list_later(history, sample)
    if not names or not known_at or known_at not in history.columns:
        return None
    later = pl.col(known_at) > pl.lit(time)
    return history.with_columns(
        pl.when(later).then(_replace(name, history.schema[name])).otherwise(pl.col(name)).alias(name) for name in names
    )


def _replace(name: str, dtype: pl.DataType) -> Any:
    if dtype == pl.Boolean:
        return pl.col(name).not_()
    if dtype.is_numeric():
        return (pl.col(name) + 1).cast(dtype)
    return pl.lit(None).cast(dtype)
