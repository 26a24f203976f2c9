"""Drift: silence where nothing changed, at the rate that is stated, and an alarm where something did."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert, json
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp
from scipy.stats.contingency import expected_freq

from tidemill.checks.column_tests import compare_shares, run_column_tests
from tidemill.checks.drift import column_tests, compare, drift, holm
from tidemill.core.check import Verdict
from tidemill.data.statistics import Profile, profile

LEVEL = 0.01


def rows(seed: int, number: int, *, shift: float = 0.0, share: float = 0.2, missing: float = 0.05) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    gaps = random.random(number) < missing
    frame = pl.DataFrame(
        {
            "wind": random.normal(shift, 1, number),
            "delay": random.exponential(1 + shift, number),
            "seats": random.integers(50, 55, number),
            "carrier": random.choice(["AA", "UA", "DL"], number, p=[share, 0.5, 0.5 - share]),
            "night": random.random(number) < 0.5,
        }
    )
    return frame.with_columns(wind=pl.when(pl.Series(gaps)).then(None).otherwise("wind"))


REFERENCE = profile(rows(10_000, 20_000))


def judge(frame: pl.DataFrame, limit: float = 0.0) -> Verdict:
    now = profile(frame, REFERENCE)
    return drift(now, REFERENCE, subject="late", limit=limit, action="retrain", minimum=200, level=LEVEL)


def moved(verdict: Verdict) -> set[str]:
    return {one["column"] for one in verdict.evidence["columns"] if one["moved"]}


@pytest.mark.parametrize("number", [500, 5_000])
def test_where_nothing_changed_alarms_are_as_rare_as_stated(number: int) -> None:
    """Over 200 windows at a family-wise level of 1 %: more than 8 alarms come once in 10,000 runs."""
    alarms = sum(judge(rows(seed, number)).action == "retrain" for seed in range(200))
    assert alarms <= 8


def weeks(seed: int, number: int, weekdays: range = range(7)) -> pl.DataFrame:
    """Rows of whole weeks: at weekends there are fewer, later ones, and of another kind."""
    random = np.random.default_rng(seed)
    shares = np.array([1.2 if day < 5 else 0.5 for day in weekdays])
    day = random.choice(list(weekdays), number, p=shares / shares.sum())
    weekend = day >= 5
    return pl.DataFrame(
        {
            "wind": random.normal(0, 1, number) + 0.8 * weekend,
            "delay": random.exponential(1 + 0.5 * weekend),
            "carrier": np.where(random.random(number) < 0.2 + 0.4 * weekend, "AA", "UA"),
            "day": day,
        }
    )


WEEKS = profile(weeks(10_000, 30_000))


def test_a_weekly_rhythm_is_no_alarm_over_whole_weeks_and_a_part_of_one_is() -> None:
    def alarm(frame: pl.DataFrame) -> bool:
        now = profile(frame, WEEKS)
        return drift(now, WEEKS, subject="late", limit=0.0, action="retrain", minimum=200).action == "retrain"

    assert sum(alarm(weeks(seed, 3_000)) for seed in range(200)) <= 8
    assert all(alarm(weeks(seed, 3_000, range(5, 7))) for seed in range(5))


def test_many_columns_do_not_make_more_alarms() -> None:
    def many(seed: int, number: int) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        return pl.DataFrame({f"x{place}": random.normal(0, 1, number) for place in range(40)})

    reference = profile(many(10_000, 5_000))
    windows = (profile(many(seed, 300), reference) for seed in range(100))
    alarms = [drift(now, reference, subject="late", limit=0.0, action="retrain", minimum=1) for now in windows]
    assert sum(verdict.action == "retrain" for verdict in alarms) <= 5


POWER = {(0.1, 10_000): (0.0, 0.3), (0.25, 2_000): (0.95, 1.0), (0.5, 500): (0.95, 1.0), (0.5, 2_000): (1.0, 1.0)}


@pytest.mark.parametrize(("shift", "number"), POWER)
def test_shifts_are_seen_as_often_as_stated(shift: float, number: int) -> None:
    least, most = POWER[shift, number]
    seen = np.mean(["wind" in moved(judge(rows(seed, number, shift=shift))) for seed in range(60)])
    assert least - 0.05 <= seen <= most


def test_time_passes_and_only_what_is_missing_of_it_counts() -> None:
    def days(first: int, missing: int) -> Profile:
        known = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=first * 24 + hour) for hour in range(2000)]
        return profile(pl.DataFrame({"seen": [None if place < missing else one for place, one in enumerate(known)]}))

    bounds: dict[str, Any] = {"subject": "late", "limit": 0.0, "action": "retrain", "minimum": 500}
    assert moved(drift(days(90, 0), days(0, 0), **bounds)) == set()
    assert moved(drift(days(90, 400), days(0, 0), **bounds)) == {"seen"}


def test_holm_rejects_what_bonferroni_does_and_more() -> None:
    found = np.random.default_rng(1).random(50) ** 4
    adjusted = np.array(holm(found.tolist()))
    assert (adjusted <= np.minimum(1, found * 50)).all()
    assert (np.argsort(adjusted, kind="stable") == np.argsort(found, kind="stable")).all() or adjusted.max() == 1
    assert holm([]) == []


def test_a_quarter_of_a_deviation_is_caught_on_ten_thousand_rows() -> None:
    for seed in range(20):
        verdict = judge(rows(seed, 10_000, shift=0.25))
        assert (verdict.outcome, verdict.action) == ("fail", "retrain")
        assert moved(verdict) == {"wind", "delay"}
        assert "wind" in verdict.reason


def test_a_share_of_a_category_that_changed_is_caught() -> None:
    assert moved(judge(rows(1, 10_000, share=0.3))) == {"carrier"}


def test_a_word_that_was_never_seen_is_caught() -> None:
    verdict = judge(
        rows(1, 5_000).with_columns(carrier=pl.when(pl.col("night")).then(pl.lit("ZZ")).otherwise("carrier"))
    )
    assert moved(verdict) == {"carrier"}


def words(seed: int, number: int) -> pl.DataFrame:
    """Tail numbers, of which all are as frequent; names, of which few are frequent; and texts that never come again."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "tail": [f"N{place}ü" for place in random.integers(0, 800, number)],
            "name": [f"n{place}" for place in random.zipf(1.5, number)],
            "note": [f"{seed} {place}" if place % 2 else None for place in range(number)],
        }
    )


@pytest.mark.parametrize(("known", "number"), [(1_000, 500), (5_000, 500), (5_000, 2_000), (20_000, 5_000)])
def test_words_that_were_frequent_by_luck_are_no_alarm(known: int, number: int) -> None:
    """Before, all of these were: the hundred most frequent of the reference are so in no other rows."""
    reference = profile(words(10_000, known))
    alarms = 0
    for seed in range(50):
        now = profile(words(seed, number), reference)
        alarms += drift(now, reference, subject="x", limit=0, action="retrain", minimum=1).action == "retrain"
    assert alarms <= 3


@pytest.mark.parametrize("column", ["tail", "name"])
def test_other_words_of_a_large_vocabulary_are_caught(column: str) -> None:
    reference = profile(words(10_000, 5_000))
    other = words(1, 1_000).with_columns((pl.lit("new ") + pl.col(column)).alias(column))
    verdict = drift(profile(other, reference), reference, subject="x", limit=0, action="retrain", minimum=200)
    assert moved(verdict) == {column}


def test_values_that_went_missing_are_caught() -> None:
    verdict = judge(rows(1, 5_000, missing=0.15))
    assert moved(verdict) == {"wind"}
    wind = next(one for one in verdict.evidence["columns"] if one["column"] == "wind")
    assert wind["kind"] == "missing"
    assert wind["effect"] == pytest.approx(0.1, abs=0.02)


def test_a_column_that_is_empty_now_is_caught() -> None:
    assert moved(judge(rows(1, 1_000).with_columns(delay=pl.lit(None, pl.Float64)))) == {"delay"}
    assert moved(judge(rows(1, 1_000).with_columns(carrier=pl.lit(None, pl.String)))) == {"carrier"}


def test_a_proven_change_that_is_small_is_none() -> None:
    verdict = judge(rows(1, 200_000, shift=0.03))
    assert moved(verdict) == set()
    assert (verdict.outcome, verdict.action) == ("pass", "proceed")


def test_the_limit_is_a_share_of_the_columns() -> None:
    frame = rows(1, 10_000, shift=0.5)
    assert judge(frame, limit=0.3).evidence["share"] == pytest.approx(0.4)
    assert judge(frame, limit=0.3).action == "retrain"
    assert (judge(frame, limit=0.4).outcome, judge(frame, limit=0.4).action) == ("warn", "experiment")


def test_too_few_rows_are_undecided() -> None:
    verdict = judge(rows(1, 199, shift=5))
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
    assert "199 rows" in verdict.reason


def test_columns_that_are_new_or_gone_are_no_drift() -> None:
    verdict = judge(rows(1, 1_000).drop("delay").with_columns(new=pl.lit(1)))
    assert {one["column"] for one in verdict.evidence["columns"]} == {"wind", "seats", "carrier", "night"}
    assert verdict.action == "proceed"


def test_no_columns_at_all_are_no_drift() -> None:
    nothing = profile(pl.DataFrame({"other": [1] * 300}))
    assert drift(nothing, REFERENCE, subject="late", limit=0.0, action="retrain", minimum=1).action == "proceed"


VALUES = st.sampled_from([0.0, 1.0, 2.0, -999.0, 1e300, float("inf"), float("-inf")]) | st.floats(-50, 50)
COLUMNS = st.lists(VALUES, min_size=1, max_size=150)


@given(then=COLUMNS, since=COLUMNS)
@settings(max_examples=200, deadline=None)
def test_the_effect_is_the_distance_of_scipy_or_a_little_less(then: list[float], since: list[float]) -> None:
    reference = profile(pl.DataFrame({"x": then}))
    (column,) = profile(pl.DataFrame({"x": since}), reference).columns
    found = next((one for one in column_tests(column, reference.columns[0]) if one["kind"] == "distribution"), None)
    assert found is not None
    # SciPy has no order for infinite numbers: beyond all others they mean the same.
    raw, other = (np.clip(values, -1e307, 1e307) for values in (then, since))
    distance = ks_2samp(raw, other, method="asymp").statistic
    assert distance - 1 / 40 - 1e-9 <= found["effect"] <= distance + 1e-9


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]) | st.none(), max_size=200)


@given(then=TEXTS, since=TEXTS)
@settings(max_examples=200, deadline=None)
def test_categories_and_what_is_missing_agree_with_scipy(then: list[str | None], since: list[str | None]) -> None:
    frames = [pl.DataFrame({"x": pl.Series(words, dtype=pl.String)}) for words in (then, since)]
    reference = profile(frames[0])
    missing, categories = column_tests(profile(frames[1], reference).columns[0], reference.columns[0])
    names = sorted({word for word in (*then, *since) if word is not None})
    before, now = (np.array([words.count(name) for name in names]) for words in (then, since))
    if before.sum() and now.sum():
        assert categories["effect"] == pytest.approx(_furthest(before, now))
        table = np.array([[words.count(name) for name in names] for words in (since, then)])
        if set(since) <= set(then) and expected_freq(table).min() >= 5 and len(names) > 1:
            assert categories["p_value"] == pytest.approx(chi2_contingency(table)[1])
    else:
        assert (categories["effect"], categories["p_value"]) == (0.0, 1.0)
    gone = [words.count(None) / max(len(words), 1) for words in (then, since)]
    assert missing["effect"] == pytest.approx(abs(gone[0] - gone[1]))
    if missing["effect"] > 0.03:
        table = np.array([[words.count(None), len(words) - words.count(None)] for words in (since, then)])
        assert missing["p_value"] == pytest.approx(fisher_exact(table)[1])


NUMBERS = st.lists(st.sampled_from([0.0, 1.0, 1.5, 7.0, float("inf"), float("-inf"), None]), max_size=60)


@given(tables=st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, TEXTS), max_size=4))
@settings(max_examples=60, deadline=None)
def test_columns_that_are_tested_at_once_have_the_tests_of_each_alone(tables: list[tuple[list[Any], ...]]) -> None:
    pairs = []
    for then, since, words, later in tables:
        for before, after, dtype in ((then, since, pl.Float64), (words, later, pl.String)):
            reference = profile(pl.DataFrame({"x": pl.Series(before, dtype=dtype)}))
            now = profile(pl.DataFrame({"x": pl.Series(after, dtype=dtype)}), reference)
            pairs.append((now.columns[0], reference.columns[0]))
    alone = [column_tests(now, reference) for now, reference in pairs]
    assert run_column_tests(pairs) == alone


@given(st.integers(0, 30), st.integers(1, 300), st.integers(0, 30), st.integers(1, 50_000))
@settings(max_examples=200, deadline=None)
def test_few_missing_values_have_the_exact_p_value(count: int, rows: int, other_count: int, other_rows: int) -> None:
    count, other_count = min(count, rows), min(other_count, other_rows)
    table = [[count, rows - count], [other_count, other_rows - other_count]]
    found = compare_shares(count, rows, other_count, other_rows)
    share = (count + other_count) / (rows + other_rows)
    if min(share, 1 - share) * min(rows, other_rows) < 25:
        assert found == pytest.approx(fisher_exact(table)[1], rel=1e-6)


def _furthest(before: Any, now: Any) -> float:
    """The largest change of a share; the words that the reference does not have count together."""
    new = [place for place, count in enumerate(before) if not count]
    shares, later = before / before.sum(), now / now.sum()
    apart = [abs(shares[place] - later[place]) for place in range(len(before)) if place not in new]
    return float(max([*apart, later[new].sum()]))


def test_mass_that_moves_below_the_least_value_is_caught() -> None:
    random = np.random.default_rng(0)
    zeros = np.where(random.random(3000) < 0.6, 0.0, random.exponential(10, 3000))
    grades = random.integers(1, 4, 3000)
    cases: dict[str, tuple[Any, Any]] = {
        "zeros become -999": (zeros, np.where(zeros == 0, -999.0, zeros)),
        "zeros within become -0.5": (zeros - (zeros > 9) * 20, np.where(zeros == 0, -0.5, zeros - (zeros > 9) * 20)),
        "true becomes false": ([True] * 300, [False] * 300),
        "false becomes true": ([False] * 300, [True] * 300),
        "5 becomes 3": ([5.0] * 300, [3.0] * 300),
        "5 becomes 7": ([5.0] * 300, [7.0] * 300),
        "the lowest grade falls": (grades, np.where(grades == 1, 0, grades)),
        "never becomes at once": ([1.0, 2.0, float("inf")] * 200, [1.0, 2.0, float("-inf")] * 200),
        "nothing but infinity turns": ([float("inf")] * 300, [float("-inf")] * 300),
        "infinite becomes unknown": ([1.0, 2.0, float("inf")] * 200, [1.0, 2.0, None] * 200),
    }
    for about, (then, since) in cases.items():
        reference = profile(pl.DataFrame({"x": then}))
        now = profile(pl.DataFrame({"x": since}), reference)
        verdict = drift(now, reference, subject="late", limit=0.3, action="retrain", minimum=100)
        assert verdict.outcome == "fail", (about, verdict.reason)


def test_the_profile_of_an_earlier_version_is_still_compared() -> None:
    stored = json.decode(json.encode(profile(pl.DataFrame({"x": [*range(1, 301)]}))))
    for column in stored["columns"]:
        del column["ties"], column["infinite"]
    reference = convert(stored, Profile)
    (same,) = profile(pl.DataFrame({"x": [*range(1, 301)]}), reference).columns
    (shifted,) = profile(pl.DataFrame({"x": [*range(151, 451)]}), reference).columns
    assert compare(same, reference.columns[0])["effect"] == 0
    assert compare(shifted, reference.columns[0])["effect"] == pytest.approx(0.5, abs=0.03)


def test_a_constant_column_that_stays_is_still() -> None:
    constant = profile(pl.DataFrame({"x": [3.0] * 500}))
    (column,) = constant.columns
    assert compare(column, column)["effect"] == 0
    (shifted,) = profile(pl.DataFrame({"x": [4.0] * 500}), constant).columns
    assert compare(shifted, column)["effect"] == 1.0
