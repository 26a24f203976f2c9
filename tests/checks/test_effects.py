"""Effect sizes against SciPy on the rows themselves."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from tidemill.checks.column_tests import column_tests
from tidemill.checks.effects import compute_jensen_shannon, compute_psi, compute_wasserstein, describe_effects
from tidemill.data.statistics import profile

ROWS = st.lists(st.sampled_from([0.0, 1.0, 2.0, -99.0]) | st.floats(-50, 50), min_size=1, max_size=200)


@given(then=ROWS, since=ROWS)
@settings(max_examples=200, deadline=None)
def test_the_wasserstein_distance_is_within_its_bound(then: list[float], since: list[float]) -> None:
    reference = profile(pl.DataFrame({"x": then}))
    now = profile(pl.DataFrame({"x": since}), reference)
    distance, bound = compute_wasserstein(now.columns[0], reference.columns[0])
    assert abs(distance - wasserstein_distance(then, since)) <= bound + 1e-9


@given(then=ROWS, since=ROWS)
@settings(max_examples=200, deadline=None)
def test_the_distance_is_below_that_of_scipy_by_at_most_the_largest_bin(then: list[float], since: list[float]) -> None:
    reference = profile(pl.DataFrame({"x": then}))
    (column,) = reference.columns
    (now,) = profile(pl.DataFrame({"x": since}), reference).columns
    found = next(test for test in column_tests(now, column) if test["kind"] == "distribution")
    inside = [count - tie for count, tie in zip(column.counts, (*column.ties, 0), strict=True)]
    exact = ks_2samp(then, since, method="asymp").statistic
    assert exact - max(inside) / len(then) - 1e-9 <= found["effect"] <= exact + 1e-9


def test_the_bound_is_small_for_many_rows() -> None:
    random = np.random.default_rng(0)
    then, since = random.normal(size=20_000), random.normal(0.3, 1, 5_000)
    reference = profile(pl.DataFrame({"x": then}))
    effects = describe_effects(profile(pl.DataFrame({"x": since}), reference), reference.columns[0])
    assert effects["wasserstein"] == pytest.approx(0.3, abs=0.15)
    assert effects["wasserstein_bound"] < 0.2
    assert sum(effects["shares"]) == pytest.approx(1.0)
    assert len(effects["cells"]) == len(effects["shares"]) == len(effects["reference_shares"]) == 10


def test_categories_are_exact() -> None:
    then, since = ["a"] * 50 + ["b"] * 30 + ["c"] * 20, ["a"] * 20 + ["b"] * 30 + ["new"] * 50
    reference = profile(pl.DataFrame({"x": then}))
    effects = describe_effects(profile(pl.DataFrame({"x": since}), reference), reference.columns[0])
    assert effects["unseen"] == 0.5
    assert effects["largest_change"] == pytest.approx(0.5)
    assert effects["cells"] == ["a", "b", "c", "other"]
    assert effects["shares"] == [0.2, 0.3, 0.0, 0.5]


def test_divergences_agree_with_scipy() -> None:
    then, since = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.2, 0.2, 0.5, 0.1])
    assert compute_jensen_shannon(since, then) == pytest.approx(jensenshannon(then, since, base=2))
    floored = np.maximum(then, 1e-4)
    assert compute_psi(since, then) == pytest.approx(((since - floored) * np.log(since / floored)).sum())
    assert compute_jensen_shannon(then, then) == compute_psi(then, then) == 0.0


@pytest.mark.parametrize("values", [[None] * 5, [3.0] * 5, [float("nan"), float("inf"), 1.0], [1.0]])
def test_columns_with_nothing_to_compare_have_defined_effects(values: list[float | None]) -> None:
    reference = profile(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}))
    for later in ([None] * 3, [1.0, 2.0], [float("-inf"), 5.0]):
        now = profile(pl.DataFrame({"x": pl.Series(later, dtype=pl.Float64)}), reference)
        effects = describe_effects(now, reference.columns[0])
        assert all(np.isfinite(value) for value in effects.values() if isinstance(value, float))
