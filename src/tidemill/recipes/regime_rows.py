"""The rows of a training in a new regime: all rows, those since the regime began, or those of a value of the key."""

from collections.abc import Callable
from datetime import datetime

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.regime import prefers_regime
from tidemill.core.check import Verdict
from tidemill.core.columns import TIME, is_internal
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import BooksReader, Packages, Sources, TableReader
from tidemill.data.arrays import Floats
from tidemill.data.keys import to_key_text
from tidemill.data.metrics import losses
from tidemill.errors import DataError
from tidemill.models.transforming import transform
from tidemill.monitoring.stored_releases import load_release
from tidemill.recipes.fitting import fit, learn_vocabularies
from tidemill.recipes.folds import hold_out_validation
from tidemill.recipes.inputs import choose_inputs
from tidemill.recipes.rows import Snapshot
from tidemill.recipes.scoring import score_rows, select_learned
from tidemill.registry.bindings import BINDING, ReleaseRegime, find_requested_value
from tidemill.registry.regimes import find_regime_start
from tidemill.registry.routing import find_current_route
from tidemill.training.evaluate import predict_baseline, to_truth

_TEST_SHARE = 1 / 3
_LEAST_TEST_ROWS = 20
# Each value of the key is a chance of a wrong choice, so it must be clearer than for one new regime.
_KEY_DEVIATIONS = 2.33

RowLosses = tuple[Floats, Floats, Floats]
"""The losses of a model of all rows, of one of the regime's rows, and of the trivial baseline, on the same rows."""


class RowChoice(Struct, frozen=True, kw_only=True):
    """The rows of a training: those since the time `since`, or all; with the reason, and both losses if compared.

    If a `key` names the regimes, they are those of its `value`; without a value, those of no value in `bound`, to which
    releases are bound. `requested` is the value for which the training was requested. `learned` are the times of the
    champion's oldest and newest training rows.
    """

    since: datetime | None = None
    reason: str = "there is no new regime"
    loss_of_all: float | None = None
    loss_of_regime: float | None = None
    tested: int = 0
    key: str = ""
    value: str = ""
    requested: str = ""
    bound: tuple[str, ...] = ()
    learned: tuple[datetime, datetime] | None = None
    is_known: bool = False

    @property
    def regime(self) -> ReleaseRegime | None:
        """Return the value to which the release will be bound; None if it is a candidate for the champion."""
        return ReleaseRegime(key=self.key, value=self.value) if self.value else None


@step
def find_regime(policy: ModelPolicy, books: BooksReader, packages: Packages, context: Context) -> RowChoice:
    """Return the rows of the current regime, as the newest verdict on the champion names it.

    If a key names the regimes, the verdict that requested this training names its value.
    """
    key = policy.regimes.key
    if not key:
        return RowChoice(since=find_regime_start(books, context.environment, policy.name))
    value = find_requested_value(books, str(context.cause.get("event", "")), key)
    route = find_current_route(books, context.environment, policy.name)
    champion = route.arm("champion") if route else None
    bound = tuple(sorted(arm.value for arm in route.bound)) if route is not None and route.key == key else ()
    learned = None
    if value and champion is not None:
        trained_on = load_release(packages, champion.package).manifest.trained_on
        if trained_on.trained_from is not None and trained_on.trained_until is not None:
            learned = trained_on.trained_from, trained_on.trained_until
    return RowChoice(key=key, requested=value, bound=bound, learned=learned)


@step
def choose_rows(
    frame: pl.DataFrame,
    regime: RowChoice,
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    sources: Sources,
    tables: TableReader,
) -> RowChoice:
    """Return whether to train on all rows or on those of the regime: on all, unless the others are clearly better.

    Both are fitted without the newest third of the regime's rows, and compared on them: a model of all rows also knows
    the earlier regimes, but where concepts contradict each other it is worse.

    Raises
    ------
    DataError
        if the rows lack the column that names the regimes, or those of the requested value are too few.
    """

    def compare(rows: tuple[pl.DataFrame, pl.DataFrame], test: pl.DataFrame) -> RowLosses:
        inputs = choose_inputs.function(frame, policy, features, sources, tables, snapshot=snapshot)
        return _compare(rows, test, inputs, policy, snapshot, sources)

    if regime.key:
        return _choose_by_key(frame, regime, policy, compare)
    if regime.since is None:
        return RowChoice()
    since = regime.since
    newest = frame.filter(pl.col(TIME) >= since).sort(TIME, maintain_order=True)
    if newest.height < policy.training.minimum_rows:
        reason = f"the regime has only {newest.height} rows (at least {policy.training.minimum_rows})"
        return RowChoice(reason=reason)
    if newest.height == frame.height or policy.training.rows == "regime":
        return RowChoice(since=since, reason='[training] rows is "regime"')
    test = newest.tail(int(newest.height * _TEST_SHARE))
    if test.height < _LEAST_TEST_ROWS:
        return RowChoice(reason=f"only {test.height} rows of the regime can test a choice")
    try:
        of_all, of_regime, baseline = compare((frame, newest), test)
    except DataError as problem:
        return RowChoice(reason=f"the two cannot be compared: {problem.problem}")
    choice = _describe(RowChoice(), of_all, of_regime)
    if len(of_all) != len(of_regime):
        return replace(choice, reason="all rows: those of the regime lack classes of its newest rows")
    if prefers_regime(of_all, of_regime, baseline=baseline):
        return replace(choice, since=since, reason="the rows of the regime: the loss on its newest rows is lower")
    return replace(choice, reason="all rows: the loss on the newest rows of the regime is not higher")


def _choose_by_key(
    frame: pl.DataFrame,
    regime: RowChoice,
    policy: ModelPolicy,
    compare: Callable[[tuple[pl.DataFrame, pl.DataFrame], pl.DataFrame], RowLosses],
) -> RowChoice:
    """Return the rows of the requested value if a model of them is clearly better on it, else those of the champion."""
    key, value, minimum = regime.key, regime.requested, policy.training.minimum_rows
    if key not in frame.columns:
        names = ", ".join(name for name in frame.columns if not is_internal(name))
        raise DataError(
            f"source {policy.problem.source!r} has no column {key!r}, which names the regimes",
            f"set another key under [regimes]; its columns: {names}",
        )
    if not value:
        others = frame.filter(_find_unbound(frame, regime))
        if others.height < minimum:
            reason = f"all rows: only {others.height} rows have no bound release (at least {minimum})"
            return replace(regime, bound=(), reason=reason)
        return replace(regime, reason="the rows without a bound release, which the champion serves")
    values = to_key_text(frame[key])
    own = frame.filter(values == value).sort(TIME, maintain_order=True)
    if own.height < minimum:
        raise DataError(
            f"only {own.height} labelled rows with {key} = {value!r} are in {policy.problem.source!r} yet (at least "
            f"{minimum})",
            "wait for more rows, or lower minimum_rows under [training]",
        )
    if value in regime.bound:
        return replace(regime, value=value, reason=f"the rows with {key} = {value!r}, to which a release is bound")
    rest = frame.filter(_find_unbound(frame, regime))
    known = 0 if regime.learned is None else own.filter(pl.col(TIME).is_between(*regime.learned)).height
    regime = replace(regime, is_known=known >= own.height / 2)
    test = own.tail(int(own.height * _TEST_SHARE))
    if rest.height == own.height or test.height < _LEAST_TEST_ROWS:
        reason = "no other row is there" if rest.height == own.height else f"only {test.height} rows can test a choice"
        return replace(regime, reason=reason)
    of_all, of_regime, _ = compare((rest, own), test)
    regime = _describe(regime, of_all, of_regime)
    if len(of_all) == len(of_regime) and prefers_regime(of_all, of_regime, _KEY_DEVIATIONS):
        return replace(regime, value=value, reason=f"a model of the rows with {key} = {value!r} is better on them")
    return replace(regime, reason=f"a model of all rows is as good on the rows with {key} = {value!r}")


def _find_unbound(frame: pl.DataFrame, regime: RowChoice) -> pl.Series:
    return ~to_key_text(frame[regime.key]).is_in(list(regime.bound)).fill_null(value=False)


def _compare(
    rows: tuple[pl.DataFrame, pl.DataFrame],
    test: pl.DataFrame,
    inputs: FeatureSet,
    policy: ModelPolicy,
    snapshot: Snapshot,
    sources: Sources,
) -> RowLosses:
    """Return the losses on test rows of two models, each fitted on its rows before the test, and of the baseline."""
    first, source = test[TIME][0], sources.definition(policy.problem.source)

    def measure(part: pl.DataFrame) -> tuple[Floats, Floats]:
        older = part.filter(pl.col(TIME) < first).sort(TIME, maintain_order=True)
        train, validation = hold_out_validation(older, policy, source)
        encoding = learn_vocabularies(transform(train, inputs), inputs)
        model: Model = fit(train, validation, encoding, None, policy, inputs, snapshot, sources)
        known = select_learned(model, test, policy.problem)
        problem, classes = policy.problem, model.manifest.signature.classes
        truth, scores = score_rows(model, known, problem, source)
        shares = to_truth(select_learned(model, older, problem)[problem.label], problem.task, classes)
        return losses(truth, scores), losses(truth, predict_baseline(shares, known.height))

    of_all, baseline = measure(rows[0])
    return of_all, measure(rows[1])[0], baseline


def _describe(choice: RowChoice, of_all: Floats, of_regime: Floats) -> RowChoice:
    return replace(
        choice,
        loss_of_all=float(of_all.mean()),
        loss_of_regime=float(of_regime.mean()),
        tested=min(len(of_all), len(of_regime)),
    )


@step
def judge_need(choice: RowChoice, policy: ModelPolicy) -> list[Verdict]:
    """Return the verdict on whether the requested value needs a release of its own; none if no value was requested.

    It stops the training if a model of all rows is as good, and the champion has learned most rows of the value: then
    nothing can be gained. If it has not, the training continues on all rows.
    """
    if not choice.requested or choice.requested in choice.bound:
        return []
    stops = not choice.value and choice.is_known
    reason = choice.reason
    if choice.loss_of_all is not None and choice.loss_of_regime is not None:
        reason += f": loss {choice.loss_of_regime:.4f} against {choice.loss_of_all:.4f} of one of all rows"
    if not choice.value:
        known = "the champion has learned most of them" if choice.is_known else "the training is one of all rows"
        reason += f"; no release is bound, and {known}"
    return [
        Verdict(
            check=BINDING,
            subject=policy.name,
            outcome="pass" if choice.value else "warn",
            action="stop" if stops else "proceed",
            reason=reason,
            evidence={
                "key": choice.key,
                "value": choice.requested,
                "tested": choice.tested,
                "loss_of_all": choice.loss_of_all,
                "loss_of_regime": choice.loss_of_regime,
            },
        )
    ]


@step(transient=True)
def keep_rows(
    frame: pl.DataFrame,
    choice: RowChoice,
    needed: list[Verdict] | None = None,  # noqa: ARG001 - orders this step after the verdict, which may stop the run
) -> pl.DataFrame:
    """Return the rows of a choice."""
    if choice.value:
        return frame.filter(to_key_text(frame[choice.key]) == choice.value)
    if choice.key and choice.bound:
        return frame.filter(_find_unbound(frame, choice))
    return frame if choice.since is None else frame.filter(pl.col(TIME) >= choice.since)
