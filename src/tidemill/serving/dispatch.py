"""Dispatch: scores each row by the arms of its route, and converts the predictions to rows of the journal."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.errors import TidemillError
from tidemill.models.predictions import Predictions
from tidemill.serving.loading import LoadedArm, LoadedRoute, Scores, score
from tidemill.serving.metrics import ServiceMetrics
from tidemill.serving.router import assign_arms, assign_bound
from tidemill.telemetry import get_logger

log = get_logger("serving")
_PROBABILITY = pl.List(pl.Float64)
INVALID = "not finite"


class ArmScores(Struct, frozen=True):
    """The scores of one arm for the rows at `indices`; `indices` is None if the arm scored all rows.

    `milliseconds` is the time of the model's call, divided by its rows.
    """

    arm: LoadedArm
    indices: npt.NDArray[np.intp] | None
    scores: Scores
    milliseconds: float | None = None


class ArmFailure(Struct, frozen=True):
    """The rows at `indices` that an arm could not predict, and the kind of the problem."""

    arm: LoadedArm
    indices: npt.NDArray[np.intp]
    problem: str


class ShadowTask(Struct, frozen=True):
    """A shadow, and the indices of the rows that it predicts after the reply."""

    arm: LoadedArm
    indices: npt.NDArray[np.intp]


class Dispatch(Struct, frozen=True):
    """The scores for the reply of a request, which contain each row once, and what its shadows have to predict."""

    replied: list[ArmScores]
    shadows: list[ShadowTask]


class RowIdentities(Struct, frozen=True):
    """The request times, prediction ids, keys and event times of n rows; their regimes, if a key names them."""

    known_at: pl.Series
    ids: Sequence[str]
    keys: Sequence[str]
    times: pl.Series
    regimes: pl.Series | None = None


def predict_rows(
    route: LoadedRoute,
    rows: pl.DataFrame,
    identities: RowIdentities,
    metrics: ServiceMetrics,
    failures: list[ArmFailure],
) -> Dispatch:
    """Predict rows by the arms of a route.

    A row whose regime has a bound release is predicted by it, and takes no part in a canary. If a challenger or a bound
    release fails or predicts NaN for some rows, the champion predicts these rows. Failures of arms are added to
    `failures`, also if this function raises.

    Raises
    ------
    DataError
        if the rows do not fit the champion's signature. Rows of a challenger are checked too, so that the error does
        not depend on the arm to which a row is assigned.
    TidemillError
        if the champion fails, or predicts NaN or no probabilities.
    """
    if rows.is_empty():
        return Dispatch([_create_empty_scores(route, rows)], [])
    if len(route.arms) > 1:
        route.reader.read_frame(rows)  # raises DataError if the rows do not fit the champion
    keys = [key or identifier for key, identifier in zip(identities.keys, identities.ids, strict=True)]
    assigned = assign_arms(keys, route.route)
    unbound = np.ones(rows.height, dtype=bool)
    if route.bound and identities.regimes is not None:
        bound = assign_bound(identities.regimes.to_list(), route.bound)
        unbound = bound < 0
        assigned = np.where(unbound, assigned, bound)
    replied: list[ArmScores] = []
    for index in np.unique(assigned):
        if index == route.champion:
            continue
        scored = _try_arm(route.arms[index], rows, np.flatnonzero(assigned == index), metrics, failures)
        if scored:
            replied.append(scored)
            assigned[scored.indices] = -1
    remaining = np.flatnonzero(assigned >= 0)
    if len(remaining):
        replied.append(_score_champion(route.arms[route.champion], rows, remaining, metrics, failures))
    shadows = [
        ShadowTask(arm, _find_shadow_rows(arm, replied, failures, unbound))
        for arm in route.arms
        if arm.role == "shadow"
    ]
    return Dispatch(replied, [task for task in shadows if len(task.indices)])


def predict_shadow(
    task: ShadowTask, rows: pl.DataFrame, metrics: ServiceMetrics, failures: list[ArmFailure]
) -> ArmScores | None:
    """Return the valid scores of a shadow; add its failure to `failures`."""
    return _try_arm(task.arm, rows, task.indices, metrics, failures)


def _find_shadow_rows(
    arm: LoadedArm, replied: list[ArmScores], failures: list[ArmFailure], unbound: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """Return the indices of the unbound rows that the release was not asked for: it has one prediction for each id."""
    remaining = unbound.copy()
    for scored in replied:
        if scored.arm.label == arm.label:
            remaining[scored.indices if scored.indices is not None else slice(None)] = False
    for failure in failures:
        if failure.arm.label == arm.label:
            remaining[failure.indices] = False
    return np.flatnonzero(remaining)


def to_journal_rows(scored: ArmScores, identities: RowIdentities, *, with_times: bool = True) -> pl.DataFrame:
    """Return the scores of an arm as rows of the journal `predictions/<model>`, with the time that a row took."""
    milliseconds = scored.milliseconds if with_times else None
    predictions, indices = scored.scores.predictions, scored.indices
    count = len(predictions.values)
    regression = scored.arm.loaded.signature.task == "regression"
    probabilities = predictions.probabilities
    columns = [
        identities.known_at.alias("known_at"),
        pl.Series("id", identities.ids, dtype=pl.String),
        pl.Series("key", identities.keys, dtype=pl.String),
        identities.times.alias("time"),
    ]
    if identities.regimes is not None:
        columns.append(identities.regimes.alias("regime"))
    known_at, ids, keys, times, *regimes = columns if indices is None else [column[indices] for column in columns]
    return pl.DataFrame(
        [
            known_at,
            ids,
            pl.Series("release", [scored.arm.label] * count, dtype=pl.String),
            pl.Series("version", [scored.arm.arm.version] * count, dtype=pl.Int64),
            pl.Series("role", [scored.arm.role] * count, dtype=pl.String),
            keys,
            times,
            pl.Series("value", predictions.values, dtype=pl.Float64 if regression else pl.String),
            pl.Series("probability", [None] * count, dtype=_PROBABILITY)
            if probabilities is None
            else pl.Series("probability", np.ascontiguousarray(probabilities, dtype=np.float64)).cast(_PROBABILITY),
            pl.Series("milliseconds", [milliseconds] * count, dtype=pl.Float64),
            scored.scores.inputs.to_struct("features"),
            *regimes,
        ]
    )


def to_failure_rows(failure: ArmFailure, identities: RowIdentities) -> pl.DataFrame:
    """Return the rows that an arm could not predict as rows of the journal `failures/<model>`."""
    indices = failure.indices
    count = len(indices)
    return pl.DataFrame(
        [
            identities.known_at.alias("known_at")[indices],
            pl.Series("id", identities.ids, dtype=pl.String)[indices],
            pl.Series("release", [failure.arm.label] * count, dtype=pl.String),
            pl.Series("version", [failure.arm.arm.version] * count, dtype=pl.Int64),
            pl.Series("role", [failure.arm.role] * count, dtype=pl.String),
            pl.Series("key", identities.keys, dtype=pl.String)[indices],
            identities.times.alias("time")[indices],
            pl.Series("problem", [failure.problem] * count, dtype=pl.String),
        ]
    )


def _create_empty_scores(route: LoadedRoute, rows: pl.DataFrame) -> ArmScores:
    champion = route.arms[route.champion]
    inputs = champion.loaded.reader.read_frame(rows)
    return ArmScores(champion, None, Scores(Predictions([], None), inputs, np.ones(0, dtype=np.bool_)))


def _score_champion(
    arm: LoadedArm,
    rows: pl.DataFrame,
    remaining: npt.NDArray[np.intp],
    metrics: ServiceMetrics,
    failures: list[ArmFailure],
) -> ArmScores:
    indices = None if len(remaining) == rows.height else remaining
    try:
        scores, milliseconds = _score_and_count(arm, rows, indices, metrics)
    except TidemillError as error:
        arm.loaded.reader.read_frame(rows)  # rows that do not fit its signature are an error of the caller
        failures.append(ArmFailure(arm, remaining, type(error).__name__))
        raise
    if not scores.valid.all():
        failures.append(ArmFailure(arm, remaining[~scores.valid], INVALID))
        raise _create_invalid_error(arm, scores, metrics)
    return ArmScores(arm, indices, scores, milliseconds)


def _try_arm(
    arm: LoadedArm,
    rows: pl.DataFrame,
    indices: npt.NDArray[np.intp],
    metrics: ServiceMetrics,
    failures: list[ArmFailure],
) -> ArmScores | None:
    """Return the valid scores of an arm; log and add a failure, and return None if no score is valid."""
    if not len(indices):
        return None
    try:
        scores, milliseconds = _score_and_count(arm, rows, indices, metrics)
    except TidemillError as error:
        log.warning("%s %s could not predict %d rows: %s", arm.role, arm.label, len(indices), error)
        failures.append(ArmFailure(arm, indices, type(error).__name__))
        return None
    if scores.valid.all():
        return ArmScores(arm, indices, scores, milliseconds)
    log.warning("%s", _create_invalid_error(arm, scores, metrics))
    failures.append(ArmFailure(arm, indices[~scores.valid], INVALID))
    valid = np.flatnonzero(scores.valid)
    return ArmScores(arm, indices[valid], _select_scores(scores, valid), milliseconds) if len(valid) else None


def _select_scores(scores: Scores, indices: npt.NDArray[np.intp]) -> Scores:
    values, probabilities = scores.predictions.values, scores.predictions.probabilities
    predictions = Predictions(
        [values[index] for index in indices], None if probabilities is None else probabilities[indices]
    )
    return Scores(predictions, scores.inputs[indices], scores.valid[indices])


def _score_and_count(
    arm: LoadedArm, rows: pl.DataFrame, indices: npt.NDArray[np.intp] | None, metrics: ServiceMetrics
) -> tuple[Scores, float]:
    """Return the scores of an arm, and the milliseconds that one row took."""
    count = rows.height if indices is None else len(indices)
    began = time.perf_counter()
    try:
        scores = score(arm, rows, indices)
    except TidemillError:
        metrics.count("tidemill_failures_total", count, release=arm.label, role=arm.role)
        raise
    metrics.count("tidemill_predictions_total", count, release=arm.label, role=arm.role)
    return scores, (time.perf_counter() - began) * 1000 / count


def _create_invalid_error(arm: LoadedArm, scores: Scores, metrics: ServiceMetrics) -> TidemillError:
    """Count the invalid rows as failures, and return the error about them."""
    count = int((~scores.valid).sum())
    metrics.count("tidemill_failures_total", count, release=arm.label, role=arm.role)
    return TidemillError(
        f"release {arm.label}: the model predicted {scores.problem} for {count} of {len(scores.valid)} rows",
        "check the values of these rows, or roll back to another release",
    )
