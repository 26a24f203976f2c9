"""Checks whether later rows differ from the training rows of a model (drift), column by column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from tidemill.checks.calibration import (
    Compared,
    Comparison,
    choose_scale,
    compare_with_variation,
    compute_factor,
    measure_variation,
    was_ever_constant,
)
from tidemill.checks.column_tests import column_tests as column_tests
from tidemill.checks.column_tests import compare as compare
from tidemill.checks.column_tests import holm as holm
from tidemill.checks.column_tests import run_column_tests, weigh
from tidemill.checks.effects import describe_effects
from tidemill.checks.power import estimate_power
from tidemill.core.check import Action, Verdict
from tidemill.data.history import History
from tidemill.data.statistics import ColumnProfile, Profile

LEVEL = 0.00025
_LEAST_CONSTANT = 100
_OUTSIDE = 0.25  # of the range of the reference: a record is no break
_STORED = 200
_NAMED = 4
_BEYOND, _BEYOND_OF_RELATIONS = 1.3, 2.5

Test = dict[str, Any]


class Window(Struct, frozen=True, kw_only=True):
    """A window of later rows: its profile, its length in seconds, and the profile of as many rows before it, if any.

    `reference` is what it is compared with, if that is not the reference of all windows.
    """

    now: Profile
    seconds: float | None = None
    before: Profile | None = None
    reference: Profile | None = None


def drift(
    now: Profile,
    reference: Profile,
    *,
    subject: str,
    limit: float,
    action: Action,
    minimum: int,
    level: float = LEVEL,
    seconds: float | None = None,
    relations: Callable[[], Sequence[Window]] | None = None,
    recent: Sequence[Window] = (),
    use: Mapping[str, float] | None = None,
) -> Verdict:
    """Return a verdict on the columns that moved: `action` if their share is above `limit`, else `experiment`.

    A column moved if the effect is large *and* significant, among all tests of all columns. An effect is large if the
    Kolmogorov–Smirnov distance is above .05, or if the share of a category or of missing values changed by more than
    .03. Of times only the missing share is tested. An effect is significant if Holm's procedure (1979) rejects its
    p-value at `level`.

    If the reference has a history, the difference must also be significant given how much the reference's own windows
    of the same length vary (see `calibration`): rows that depend on each other, and seasons that the reference
    contains, are no drift. `recent` are shorter windows of the newest rows, which report a broken column early: each is
    compared with the reference and with the rows before it. They report, but do not count for `limit`.

    False alarms: if nothing changed, at most a share `level` of the windows has a column that moved, for any number of
    columns. This includes text with a large vocabulary (tail numbers, free text). Without a history, rows must be
    independent, and values with a weekly rhythm must be compared over whole weeks.

    Power: a shift of a quarter of a standard deviation is detected in 95 of 100 windows of 2,000 independent rows (half
    a standard deviation: 500 rows). A shift of a tenth is not a large effect: 1 of 100 windows of 10,000 rows reports
    it.

    Parameters
    ----------
    now, reference
        The profiles of the later rows, with the bins of the reference, and of the training rows.
    seconds
        The length of the window; by default as long as the reference needed for as many rows.
    relations
        Returns the windows with the profiles of how their rows fit the relations of the reference. It is called only if
        no column moved, since these profiles take longest.
    use
        How much of the model uses each column, as shares of 1: the evidence has that of the columns that moved.
    """
    if now.rows < minimum:
        return Verdict(
            check="drift",
            subject=subject,
            outcome="undecided",
            action="hold",
            reason=f"{now.rows} rows are too few (minimum {minimum})",
            evidence={"rows": now.rows},
        )
    windows = [Window(now=now, seconds=seconds), *recent]
    groups = sum(2 if window.before is not None else 1 for window in windows)
    groups *= 2 if reference.joint is not None else 1
    tests = _test_windows(windows, reference, level / groups)
    whole = [test for test in tests if not test["window"]]
    compared = [max(group, key=weigh) for group in _group(whole).values()]
    share = sum(test["moved"] for test in compared) / max(len(compared), 1)
    is_above = share > limit
    if relations is not None and reference.joint is not None and not any(test["moved"] for test in tests):
        tests += _test_relations(relations(), reference.joint, level / groups)
    reported = [_combine(group) for group in _group(tests).values()]
    moved = sorted((test for test in reported if test["moved"]), key=lambda test: (-test["effect"], test["column"]))
    power = estimate_power(now, reference, level / groups)
    columns = [*moved, *(test for test in reported if not test["moved"])][:_STORED]
    for test in moved[:_NAMED]:
        window = windows[test["window"]]
        if (compared_with := (window.reference or reference).column(test["column"])) is not None:
            test["effects"] = describe_effects(window.now, compared_with)
    return Verdict(
        check="drift",
        subject=subject,
        outcome="fail" if is_above else "warn" if moved else "pass",
        action=action if is_above or (moved and action == "ignore") else "experiment" if moved else "proceed",
        reason=_describe(moved, len(compared), power),
        evidence={
            "rows": now.rows,
            "share": share,
            "limit": limit,
            "level": level,
            "columns": columns,
            **({"use": {test["column"]: use.get(test["column"], 0.0) for test in moved[:_STORED]}} if use else {}),
            **({"notices": power} if power else {}),
        },
    )


class _Columns(NamedTuple):
    """The columns of a window that are tested together, each with its reference, or with its values before (a step)."""

    number: int
    window: Window
    comparison: Comparison
    reference: Profile
    seconds: float
    pairs: list[tuple[ColumnProfile, ColumnProfile]]


def _test_windows(
    windows: Sequence[Window], reference: Profile, level: float, beyond: float = _BEYOND, *, with_missing: bool = True
) -> list[Test]:
    """Return the tests of all windows, which are computed at once: most of the time is that of a call of NumPy."""
    compared = [each for number, window in enumerate(windows) for each in _list_columns(number, window, reference)]
    tests: list[Test] = []
    for columns, found in zip(compared, _compare(compared, level, beyond, with_missing=with_missing), strict=True):
        if columns.comparison == "level":
            found += _test_values(columns, with_range=with_missing)
        tests += [{**test, "rows": columns.window.now.rows, "window": columns.number} for test in found]
    return tests


def _test_relations(windows: Sequence[Window], reference: Profile, level: float) -> list[Test]:
    """Return the tests of how rows fit the relations between columns; of several that moved, only the largest."""
    tests = [
        {**test, "kind": "relation"}
        for test in _test_windows(windows, reference, level, _BEYOND_OF_RELATIONS, with_missing=False)
        if test["kind"] == "distribution"
    ]
    largest = max((test for test in tests if test["moved"]), key=weigh, default=None)
    return [largest] if largest is not None else []


def _list_columns(number: int, window: Window, shared_reference: Profile) -> Iterator[_Columns]:
    reference = window.reference or shared_reference
    references = {column.name: column for column in reference.columns}
    columns = [column for column in window.now.columns if column.name in references]
    seconds = window.seconds if window.seconds is not None else _estimate_seconds(window.now, reference)
    pairs = [(column, references[column.name]) for column in columns]
    yield _Columns(number, window, "level", reference, seconds, pairs)
    if window.before is not None and reference.history is not None:
        befores = {column.name: column for column in window.before.columns}
        pairs = [(column, befores[column.name]) for column in columns if column.name in befores]
        yield _Columns(number, window, "step", reference, seconds, pairs)


def _estimate_seconds(now: Profile, reference: Profile) -> float:
    return reference.history.seconds * now.rows / max(reference.rows, 1) if reference.history else 0.0


def _compare(compared: Sequence[_Columns], level: float, beyond: float, *, with_missing: bool) -> list[list[Test]]:
    """Return the tests of the columns of each window, adjusted by Holm's procedure."""
    pairs = [pair for columns in compared for pair in columns.pairs]
    tested = iter(run_column_tests(pairs, with_missing=with_missing))
    found = [[test for _ in columns.pairs for test in next(tested)] for columns in compared]
    varied: list[tuple[Test, Compared]] = []
    for columns, tests in zip(compared, found, strict=True):
        for test in tests:
            test["comparison"] = columns.comparison
        large = [test for test in tests if test["effect"] > test["least"] and test["p_value"] < level]
        varied += _find_variations(columns, large, lasting=beyond < _BEYOND_OF_RELATIONS) if large else []
    p_values = compare_with_variation([each for _, each in varied], beyond=beyond)
    for (test, _), p_value in zip(varied, p_values, strict=True):
        test["p_value"] = max(test["p_value"], p_value)
    for tests in found:
        for test, adjusted in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
            test["moved"] = bool(adjusted < level and test["effect"] > test["least"])
    return found


def _find_variations(columns: _Columns, tests: Sequence[Test], *, lasting: bool) -> Iterator[tuple[Test, Compared]]:
    """Iterate over the tests whose column has a variation in the history of the reference."""
    history, seconds = columns.reference.history, columns.seconds
    scale = choose_scale(history, seconds) if history else None
    if history is None or scale is None:
        return
    factor = compute_factor(history, scale, seconds)
    references = {column.name: column for column in columns.reference.columns}
    paired = {now.name: (now, before) for now, before in columns.pairs}
    for test in tests:
        name, missing = test["column"], test["kind"] == "missing"
        variation = measure_variation(history, name, scale, columns.comparison, missing=missing, lasting=lasting)
        if variation is not None:
            now, before = paired[name]
            yield (
                test,
                Compared(
                    now=now,
                    before=before,
                    reference=references[name],
                    variation=variation,
                    factor=factor,
                    missing=missing,
                    is_step=columns.comparison == "step",
                ),
            )


def _test_values(columns: _Columns, *, with_range: bool) -> list[Test]:
    """Return the tests of columns whose values are all the same now, or in another unit."""
    history = columns.reference.history
    tests = [_test_constant(now, reference, history, columns.seconds) for now, reference in columns.pairs]
    if history is not None and with_range:
        tests += [_test_range(now, reference) for now, reference in columns.pairs]
    return [test for test in tests if test is not None]


def _test_constant(
    now: ColumnProfile, reference: ColumnProfile, history: History | None, seconds: float
) -> Test | None:
    """Return the test of a column with one value now, if the reference never had one value for a quarter as long."""
    is_constant = now.low is not None and now.low == now.high and now.present >= _LEAST_CONSTANT
    if not is_constant or history is None or reference.low == reference.high:
        return None
    if was_ever_constant(history, now.name, seconds) is not False:
        return None
    bounds = {"effect": 1.0, "least": 0.5, "p_value": 0.0, "comparison": "level", "moved": True}
    return {"column": now.name, "kind": "constant", **bounds}


def _test_range(now: ColumnProfile, reference: ColumnProfile) -> Test | None:
    """Return the test of a column whose mean is far outside of all values of the reference, as in another unit."""
    if now.mean is None or reference.low is None or reference.high is None or now.present < _LEAST_CONSTANT:
        return None
    farthest = _OUTSIDE * (reference.high - reference.low)
    if farthest <= 0 or reference.type in ("time", "date"):
        return None
    if reference.low - farthest <= now.mean <= reference.high + farthest:
        return None
    bounds = {"effect": 1.0, "least": 0.5, "p_value": 0.0, "comparison": "level", "moved": True}
    return {"column": now.name, "kind": "range", **bounds}


def _group(tests: Sequence[Test]) -> dict[str, list[Test]]:
    groups: dict[str, list[Test]] = {}
    for test in tests:
        groups.setdefault(test["column"], []).append(test)
    return groups


def _combine(tests: Sequence[Test]) -> Test:
    """Return the test of a column that counts, with all `kinds` of its tests that moved."""
    kinds = sorted({test["kind"] for test in tests if test["moved"]})
    largest: Test = max(tests, key=weigh)
    return largest | ({"kinds": kinds} if kinds else {})


def _describe(moved: Sequence[Test], columns: int, power: Mapping[str, float]) -> str:
    names = ", ".join(describe_test(test) for test in moved[:_NAMED]) or "none"
    more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
    notices = f"; it would notice a shift of {power['shift']:.2f} sd" if "shift" in power and not moved else ""
    return f"{len(moved)} of {columns} columns moved: {names}{more}{notices}"


def describe_test(test: Mapping[str, Any]) -> str:
    """Return the column of a test that moved and by how much, for the reason of a verdict."""
    if test["kind"] == "relation":
        return f"{test['column']} ({test['effect']:.2f})"
    if test["kind"] == "range":
        return f"{test['column']} (outside of all values of the reference in {test['rows']} rows)"
    if test["kind"] == "constant":
        return f"{test['column']} (one value in {test['rows']} rows)"
    about = " missing" if test["kind"] == "missing" else ""
    since = f" than in the {test['rows']} rows before" if test["comparison"] == "step" else ""
    return f"{test['column']} ({test['effect']:.2f}{about}{since})"
