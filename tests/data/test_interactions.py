"""Interactions: a change of columns that only together depend on each other is reported, and nothing else."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from tests.data.test_relations import clock, judge
from tidemill.data.interactions import choose_products
from tidemill.data.relations import profile_reference

Build = Callable[[np.random.Generator, int], pl.DataFrame]


def build_parity(random: np.random.Generator, rows: int, columns: int = 2, errors: float = 0.05) -> pl.DataFrame:
    bits = random.random((columns, rows)) < 0.5
    parity = np.logical_xor.reduce(bits) ^ (random.random(rows) < errors)
    others = {f"x{index}": bits[index].astype(float) for index in range(columns)}
    return pl.DataFrame(others | {"y": parity.astype(float), "w": random.normal(size=rows)})


def build_parity_of_three(random: np.random.Generator, rows: int) -> pl.DataFrame:
    return build_parity(random, rows, 3)


def build_noisy_parity(random: np.random.Generator, rows: int) -> pl.DataFrame:
    return build_parity(random, rows, 2, 0.25)


def build_sign_of_product(random: np.random.Generator, rows: int) -> pl.DataFrame:
    first, second, third = random.normal(size=(3, rows))
    return pl.DataFrame({"x": first, "v": second, "y": np.sign(first * second) * np.abs(third)})


def build_sum_of_categories(random: np.random.Generator, rows: int) -> pl.DataFrame:
    first, second = random.integers(0, 4, (2, rows))
    words = {"x": np.array(list("abcd"))[first], "v": np.array(list("efgh"))[second]}
    return pl.DataFrame(words | {"y": np.array(list("rstu"))[(first + second) % 4]})


def build_circle(random: np.random.Generator, rows: int) -> pl.DataFrame:
    angle, noise = random.uniform(0, 2 * np.pi, rows), random.normal(size=(2, rows))
    return pl.DataFrame({"x": np.cos(angle) + 0.1 * noise[0], "y": np.sin(angle) + 0.1 * noise[1]})


def build_pair_of_flags(random: np.random.Generator, rows: int) -> pl.DataFrame:
    first = random.random(rows) < 0.3
    second = np.where(random.random(rows) < 0.7, first, random.random(rows) < 0.2)
    noise = random.normal(size=(2, rows))
    return pl.DataFrame({"x": first.astype(float), "y": second.astype(float), "v": noise[0], "w": noise[1]})


@pytest.mark.parametrize(
    "build",
    [
        build_parity,
        build_parity_of_three,
        build_noisy_parity,
        build_sign_of_product,
        build_sum_of_categories,
        build_circle,
        build_pair_of_flags,
    ],
)
def test_a_permuted_column_is_reported_though_no_other_alone_predicts_it(build: Build) -> None:
    """In each of 5 windows of 2,000 rows, and in none of 10 without a change (`benchmarks.joint` has 50)."""
    reference = profile_reference(build(np.random.default_rng(0), 15_000), clock(15_000))
    for seed in range(1, 11):
        rows = build(np.random.default_rng(seed), 2_000)
        assert judge(rows, reference).outcome == "pass"
        if seed <= 5:
            assert judge(rows.with_columns(pl.col("y").shuffle(seed=seed)), reference).outcome == "warn"


def test_independent_columns_have_no_products() -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        frame = pl.DataFrame({f"x{index}": random.normal(size=5_000) for index in range(12)})
        assert profile_reference(frame, clock(5_000)).relations is None


def test_products_are_few_and_never_predict_their_own_factors() -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(80, 2_000))
    columns = [f"x{index}" for index in range(80)]
    residuals = {
        f"x{index}": matrix[index] + 0.8 * matrix[(index + 1) % 40] * matrix[(index + 2) % 40] for index in range(40)
    }
    chosen = choose_products(matrix, columns, range(80), residuals)
    assert len(chosen) == 24
    assert all(factors[1] - factors[0] in (1, 39, 38) for factors in chosen)
    own = {"x0": matrix[0] * matrix[1]}
    assert choose_products(matrix[:2], columns[:2], range(2), own) == []
