"""The rows of a training in a new regime: all rows, or only those since the regime began."""

from datetime import datetime

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.regime import prefers_regime
from tidemill.core.columns import TIME
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import BooksReader, Sources, TableReader
from tidemill.data.arrays import Floats
from tidemill.data.metrics import losses
from tidemill.errors import DataError
from tidemill.models.transforming import transform
from tidemill.recipes.fitting import fit, learn_vocabularies
from tidemill.recipes.folds import hold_out_validation
from tidemill.recipes.inputs import choose_inputs
from tidemill.recipes.rows import Snapshot
from tidemill.recipes.scoring import score_rows, select_learned
from tidemill.registry.regimes import find_regime_start

_TEST_SHARE = 1 / 3
_LEAST_TEST_ROWS = 20


class RowChoice(Struct, frozen=True, kw_only=True):
    """The rows of a training: those since the time `since`, or all; with the reason, and both losses if compared."""

    since: datetime | None = None
    reason: str = "there is no new regime"
    loss_of_all: float | None = None
    loss_of_regime: float | None = None
    tested: int = 0


@step
def find_regime(policy: ModelPolicy, books: BooksReader, context: Context) -> RowChoice:
    """Return the rows of the current regime, as the newest verdict on the champion names it."""
    return RowChoice(since=find_regime_start(books, context.environment, policy.name))


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
    """
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
    first = test[TIME][0]
    inputs = choose_inputs.function(frame, policy, features, sources, tables, snapshot=snapshot)
    source = sources.definition(policy.problem.source)

    def measure(rows: pl.DataFrame) -> Floats:
        train, validation = hold_out_validation(rows, policy, source)
        encoding = learn_vocabularies(transform(train, inputs), inputs)
        model: Model = fit(train, validation, encoding, None, policy, inputs, snapshot, sources)
        known = select_learned(model, test, policy.problem)
        return losses(*score_rows(model, known, policy.problem, source))

    try:
        of_all, of_regime = (
            measure(rows.filter(pl.col(TIME) < first).sort(TIME, maintain_order=True)) for rows in (frame, newest)
        )
    except DataError as problem:
        return RowChoice(reason=f"the two cannot be compared: {problem.problem}")
    choice = RowChoice(
        loss_of_all=float(of_all.mean()),
        loss_of_regime=float(of_regime.mean()),
        tested=min(len(of_all), len(of_regime)),
    )
    if len(of_all) != len(of_regime):
        return replace(choice, reason="all rows: those of the regime lack classes of its newest rows")
    if prefers_regime(of_all, of_regime):
        return replace(choice, since=since, reason="the rows of the regime: the loss on its newest rows is lower")
    return replace(choice, reason="all rows: the loss on the newest rows of the regime is not higher")


@step(transient=True)
def keep_rows(frame: pl.DataFrame, choice: RowChoice) -> pl.DataFrame:
    """Return the rows of a choice."""
    return frame if choice.since is None else frame.filter(pl.col(TIME) >= choice.since)
