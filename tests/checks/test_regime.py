"""Regimes: the decision on the newest rows, by labels and by features."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tidemill.checks.regime import (
    ErrorProfile,
    InputFit,
    RegimeDecision,
    RegimeWindow,
    Settings,
    decide,
    prefers_regime,
    profile_errors,
    reject,
)
from tidemill.checks.regime_inputs import compare_inputs, may_have_changed, read_inputs
from tidemill.data.arrays import Floats
from tidemill.data.statistics import profile

SETTINGS = Settings()


def draw_losses(seed: int, rows: int, errors: float) -> Floats:
    """Return log losses of which a share `errors` is that of confident errors."""
    random = np.random.default_rng(seed)
    right, wrong = random.exponential(0.1, rows), random.exponential(1.0, rows) + 2
    return np.where(random.random(rows) < errors, wrong, right)


def decide_on(
    losses: dict[str, Floats], profiles: dict[str, ErrorProfile], labelled: int | None = None, **inputs: InputFit
) -> RegimeDecision:
    """Return the decision for the champion `a`; the first rows have labels, `inputs` are the fits of the others."""
    rows = len(losses["a"])
    known = rows if labelled is None else labelled
    window = RegimeWindow(
        labelled=np.arange(rows) < known,
        losses=lambda name: losses[name][:known],
        inputs=lambda names: [inputs[name] for name in names],
        inputs_changed=lambda: bool(inputs),
    )
    return decide("a", [name for name in losses if name != "a"], profiles.get, window, SETTINGS)


PROFILES = {name: profile_errors(draw_losses(seed, 300, 0.05)) for seed, name in enumerate("abc")}


def test_a_champion_that_fits_is_left_alone_for_long() -> None:
    losses = draw_losses(9, 60_000, 0.05)
    for end in range(200, len(losses), 100):
        window = losses[end - 200 : end]
        assert decide_on({"a": window, "b": window}, PROFILES).outcome == "fits"


def test_the_release_that_fits_is_recalled_after_few_rows() -> None:
    changed = {
        "a": np.concatenate([draw_losses(1, 180, 0.05), draw_losses(2, 20, 0.6)]),
        "b": np.concatenate([draw_losses(3, 180, 0.6), draw_losses(4, 20, 0.05)]),
        "c": np.concatenate([draw_losses(5, 180, 0.5), draw_losses(6, 20, 0.4)]),
    }
    decision = decide_on(changed, PROFILES)
    assert (decision.outcome, decision.by, decision.release) == ("recall", "labels", "b")
    assert 175 <= decision.start <= 190


def test_a_regime_that_no_release_fits_is_novel() -> None:
    losses = {name: draw_losses(seed, 60, 0.6) for seed, name in enumerate("abc")}
    decision = decide_on(losses, PROFILES)
    assert (decision.outcome, decision.release) == ("novel", "")
    assert {tried.release: tried.fits for tried in decision.tried} == {"b": False, "c": False}


def test_a_release_that_is_hardly_better_is_not_recalled() -> None:
    """Where concepts are nearly equal, doing nothing is best."""
    losses = {"a": draw_losses(1, 200, 0.12), "b": draw_losses(2, 200, 0.08)}
    assert decide_on(losses, PROFILES).outcome == "fits"


def test_without_labels_the_inputs_decide() -> None:
    losses = {name: np.empty(40) for name in "abc"}
    far, near = InputFit(40.0, 25, fits=True), InputFit(20.0, 25, fits=True)
    decision = decide_on(losses, PROFILES, 0, b=near, c=far)
    assert (decision.outcome, decision.by, decision.release) == ("recall", "features", "c")
    assert decide_on(losses, PROFILES, 0, b=InputFit(40.0, 25, fits=False), c=InputFit(5.0, 25, fits=True)) == (
        RegimeDecision("fits")
    )


def test_labels_overrule_inputs() -> None:
    """A look-alike: the inputs are those of `b`, but the champion is right on the labelled rows among them."""
    losses = {"a": draw_losses(1, 100, 0.05), "b": draw_losses(2, 100, 0.6)}
    assert decide_on(losses, PROFILES, 100, b=InputFit(200.0, 0, fits=True)).outcome == "fits"
    wrong = {"a": draw_losses(3, 100, 0.6), "b": draw_losses(4, 100, 0.05)}
    decision = decide_on(wrong, PROFILES, 30, b=InputFit(0.0, 100, fits=False))
    assert (decision.outcome, decision.by, decision.release) == ("recall", "labels", "b")


def test_a_release_without_an_error_profile_is_not_judged_by_labels() -> None:
    losses = {"a": draw_losses(1, 100, 0.6), "b": draw_losses(2, 100, 0.05)}
    assert decide_on(losses, {"b": PROFILES["b"]}).outcome == "fits"
    assert decide_on(losses, {"a": PROFILES["a"]}).outcome == "novel"


@given(st.lists(st.floats(0, 100), max_size=60), st.lists(st.floats(0, 100) | st.just(np.nan), max_size=60))
@settings(max_examples=60, deadline=None)
def test_evidence_is_finite_for_any_losses(held_out: list[float], newest: list[float]) -> None:
    rejection = reject(np.array(newest, float), profile_errors(np.array(held_out, float)))
    assert 0 <= rejection.evidence < np.inf
    assert 0 <= rejection.start <= len(newest)


def test_losses_that_are_not_finite_count_as_bad() -> None:
    assert reject(np.full(30, np.nan), PROFILES["a"]).evidence > 20
    assert profile_errors(np.array([np.nan, np.inf])).rows == 0


def draw_inputs(seed: int, rows: int, centre: float, word: str = "x") -> pl.DataFrame:
    """Return rows with two correlated numbers, a text, missing values, and a constant."""
    random = np.random.default_rng(seed)
    first = random.normal(centre, 1, rows)
    return pl.DataFrame(
        {
            "first": first,
            "second": first * 2 + random.normal(0, 0.1, rows),
            "word": np.where(random.random(rows) < 0.7, word, "z"),
            "gaps": [None if value < 0.3 else value for value in random.random(rows)],
            "constant": 1,
        }
    )


def test_rows_are_recognized_by_their_inputs() -> None:
    a, b = (profile(draw_inputs(seed, 1_000, centre, word)) for seed, centre, word in ((1, 0, "x"), (2, 2, "y")))
    rows = read_inputs(pl.concat([draw_inputs(3, 150, 0, "x"), draw_inputs(4, 16, 2, "y")]), a)
    assert may_have_changed(rows, a)
    fit = compare_inputs(rows, a, [b])[0]
    assert fit.fits
    assert fit.evidence > SETTINGS.evidence
    assert 145 <= fit.start <= 155


def test_rows_of_the_champion_are_no_evidence_for_another() -> None:
    a, b = (profile(draw_inputs(seed, 1_000, centre)) for seed, centre in ((1, 0), (2, 1)))
    for seed in range(200):
        fit = compare_inputs(read_inputs(draw_inputs(seed, 150, 0), a), a, [b])[0]
        assert fit.evidence < SETTINGS.evidence or not fit.fits


def test_rows_of_a_third_kind_fit_neither() -> None:
    a, b = (profile(draw_inputs(seed, 1_000, centre)) for seed, centre in ((1, 0), (2, 2)))
    assert not compare_inputs(read_inputs(draw_inputs(3, 60, 6), a), a, [b])[0].fits


def test_rows_that_hang_together_are_little_evidence() -> None:
    """A warm spell of one region is not the summer of all."""
    random = np.random.default_rng(5)
    winter, summer = random.normal(0, 5, 2_000), random.normal(8, 5, 2_000)
    a, b = (profile(pl.DataFrame({"temperature": values})) for values in (winter, summer))
    spell = [0.0]
    for _ in range(199):
        spell.append(0.97 * spell[-1] + random.normal(0, 1.2))
    warm = pl.DataFrame({"temperature": np.array(spell) + 4})
    assert compare_inputs(read_inputs(warm, a), a, [b])[0].evidence < SETTINGS.evidence


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_rows_decide_nothing(rows: int) -> None:
    a, b = (profile(draw_inputs(seed, 100, centre)) for seed, centre in ((1, 0), (2, 2)))
    inputs = read_inputs(draw_inputs(3, rows, 2), a)
    assert not may_have_changed(inputs, a)
    assert not compare_inputs(inputs, a, [b])[0].fits


def test_rows_of_the_regime_are_chosen_only_if_they_are_clearly_better() -> None:
    assert prefers_regime(draw_losses(1, 100, 0.4), draw_losses(2, 100, 0.05))
    assert not prefers_regime(draw_losses(1, 100, 0.06), draw_losses(2, 100, 0.05))
    assert not prefers_regime(np.empty(0), np.empty(0))


SEQUENCE = "abacbaca"
SEGMENT = 400


@pytest.mark.parametrize("delay", [0, 30])
@pytest.mark.parametrize("seed", range(3))
def test_three_regimes_that_return_are_recalled_in_turn(seed: int, delay: int) -> None:
    """A release has few errors in its own regime, and errors in half of the rows of the others."""
    regimes = np.repeat(list(SEQUENCE), SEGMENT)
    losses = {
        name: np.where(
            regimes == name,
            draw_losses(seed * 9 + at, len(regimes), 0.05),
            draw_losses(seed * 9 + at + 3, len(regimes), 0.5),
        )
        for at, name in enumerate("abc")
    }
    champion, start, late, wrong = "a", 0, [], 0
    for end in range(100, len(regimes), 5):
        known = max(start, end - delay)
        begin = max(start, known - 200)

        def read(name: str, begin: int = begin, known: int = known) -> Floats:
            return losses[name][begin:known]

        window = RegimeWindow(
            labelled=np.arange(begin, end) < known,
            losses=read,
            inputs=lambda names: [InputFit(0.0, 0, fits=False)] * len(names),
            inputs_changed=lambda: False,
        )
        decision = decide(champion, [name for name in "abc" if name != champion], PROFILES.get, window, SETTINGS)
        if decision.outcome == "recall":
            champion, start = decision.release, begin + decision.start
            wrong += champion != regimes[end - 1 - delay]
            late.append(end - delay - (end - delay) // SEGMENT * SEGMENT)
    assert wrong == 0
    assert len(late) == len(SEQUENCE) - 1
    assert max(late) <= 40


def test_a_regression_is_judged_by_the_share_of_its_squared_error() -> None:
    random = np.random.default_rng(3)
    own = profile_errors(random.normal(size=300) ** 2)
    settings_of_regression = SETTINGS._replace(task="regression")

    def judge(scale: float) -> str:
        losses = {"a": (scale * random.normal(size=100)) ** 2, "b": random.normal(size=100) ** 2}
        window = RegimeWindow(
            labelled=np.ones(100, dtype=bool),
            losses=lambda name: losses[name],
            inputs=lambda _: [],
            inputs_changed=lambda: False,
        )
        return decide("a", ["b"], lambda _: own, window, settings_of_regression).outcome

    assert [judge(scale) for scale in (1.0, 1.1, 4.0)] == ["fits", "fits", "recall"]


def give_baseline(profile_of: ErrorProfile, baseline: float) -> ErrorProfile:
    return replace(profile_of, baseline=baseline)


def test_a_release_that_is_not_better_than_the_baseline_is_never_recalled() -> None:
    losses = {"a": draw_losses(1, 200, 0.9), "b": draw_losses(2, 200, 0.05)}
    known = {name: give_baseline(PROFILES[name], 0.69) for name in "ab"}
    assert decide_on(losses, known).release == "b"
    ignorant = {"a": known["a"], "b": give_baseline(PROFILES["b"], 0.01)}
    assert decide_on(losses, ignorant).outcome == "novel"
    by_inputs = decide_on({"a": losses["a"], "b": losses["b"]}, ignorant, 0, b=InputFit(50.0, 0, fits=True))
    assert by_inputs.outcome == "fits"


def test_a_champion_that_is_not_better_than_the_baseline_fits_no_rows() -> None:
    at_chance = draw_losses(3, 300, 0.3)
    profiles = {"a": profile_errors(at_chance, 0.69), "b": give_baseline(PROFILES["b"], 0.69)}
    assert not profiles["a"].knows
    newest = draw_losses(4, 200, 0.3)
    assert decide_on({"a": newest}, profiles).outcome == "novel"
    recalled = decide_on({"a": newest, "b": draw_losses(5, 200, 0.05)}, profiles)
    assert (recalled.outcome, recalled.release) == ("recall", "b")
    assert decide_on({"a": newest}, {"a": profile_errors(at_chance)}).outcome == "fits", "its baseline is unknown"


def test_where_a_model_of_all_rows_knows_nothing_the_lower_mean_decides() -> None:
    of_regime, of_all = np.full(60, 0.6), np.linspace(0.0, 1.6, 60)
    assert not prefers_regime(of_all, of_regime, deviations=4)
    assert prefers_regime(of_all, of_regime, deviations=4, baseline=np.full(60, 0.69))
    assert not prefers_regime(of_all, of_regime, deviations=4, baseline=np.full(60, 0.9))
    assert not prefers_regime(of_all, np.full(60, 2.3), baseline=np.full(60, 0.69))


@pytest.mark.parametrize(("errors", "outcome"), [(0.4, "recall"), (0.88, "novel")])
def test_a_wrong_recall_is_undone_by_the_first_labels_that_prove_it(errors: float, outcome: str) -> None:
    """The champion `a` was recalled in place of `b`: neither fits, and `b` is better, or is not."""
    rows = 40
    losses = {"a": draw_losses(1, rows, 0.9), "b": draw_losses(2, rows, errors)}
    window = RegimeWindow(
        labelled=np.ones(rows, dtype=bool),
        losses=losses.get,
        inputs=lambda names: [InputFit(0.0, 0, fits=False) for _ in names],
        inputs_changed=lambda: False,
        replaced="b",
    )
    decision = decide("a", ["b"], PROFILES.get, window, SETTINGS)
    assert decision.outcome == outcome
    assert (decision.release == "b") == (outcome == "recall")
    alone = decide("a", ["b"], PROFILES.get, window._replace(replaced=""), SETTINGS)
    assert alone.outcome != "recall"
